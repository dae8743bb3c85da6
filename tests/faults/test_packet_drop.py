"""packet_loss by the packet filter, for real, each test in a network namespace of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from chaoslab.faults import Injection, Mechanism, Surroundings
from chaoslab.faults.doses import loss_dose
from chaoslab.faults.packet_drop import IptablesDrop, NftDrop
from chaoslab.faults.shares import Share, chance
from chaoslab.hosts import LocalHost
from tests import servers
from tests.faults import kit
from tests.faults.kit import HOST, deliver, read, rules, scenario, surroundings
from tests.faults.pingpong import traffic

BY_CHANCE = 1 - 1e-6
"""Of the intervals that tests assert: the 99 % ones of a dose fail once in a hundred runs."""

MECHANISMS = pytest.mark.parametrize("mechanism", [NftDrop(), IptablesDrop()], ids=lambda mechanism: mechanism.name)


def to(port: int, host: str = "127.0.0.1") -> Surroundings:
    return replace(surroundings(), url=f"http://{host}:{port}")


def prepare(mechanism: Mechanism, port: int, percent: float = 50.0) -> Injection:
    asked = scenario("packet_loss", loss_percent=percent)
    return mechanism.inject(asked, to(port), seconds=1.0, token=f"test-{os.urandom(4).hex()}")


def undo(injection: Injection) -> None:
    for command in dict.fromkeys(step.undo for step in reversed(injection.steps)):
        result = HOST.run(command, timeout=injection.steps[0].undo_limit)
        assert result.ok, result.problem


@pytest.mark.parametrize(("mechanism", "percent"), [(NftDrop(), 5.0), (NftDrop(), 30.0), (IptablesDrop(), 15.0)])
def test_the_loss_that_the_kernel_counts_is_the_one_that_was_asked(
    namespace: None, mechanism: Mechanism, percent: float
) -> None:
    with traffic() as port:
        (dose,) = deliver(mechanism, scenario("packet_loss", loss_percent=percent), to(port), seconds=1.0)
    seen = int(dose.how.split(" of ")[1].split()[0])
    low, high = chance(percent / 100, seen, BY_CHANCE)
    assert seen > 500
    assert dose.delivered is not None
    assert 100 * low <= dose.delivered <= 100 * high
    assert mechanism.name in dose.mechanism
    assert "seed" in dose.how


@MECHANISMS
def test_only_packets_to_the_targets_address_and_port_are_lost(namespace: None, mechanism: Mechanism) -> None:
    with servers.running() as target, servers.running() as other:
        injection = prepare(mechanism, target.port, 100.0)
        try:
            for step in injection.steps:
                kit.do(step)
            with pytest.raises(TimeoutError):
                socket.create_connection(("127.0.0.1", target.port), timeout=0.3)
            socket.create_connection(("127.0.0.1", other.port), timeout=0.3).close()
            assert read(injection.steps[-1]).data["dropped"] == read(injection.steps[-1]).data["seen"] > 0
        finally:
            undo(injection)
        socket.create_connection(("127.0.0.1", target.port), timeout=0.3).close()


@MECHANISMS
def test_a_target_at_an_ipv6_address_is_hit_too(namespace: None, mechanism: Mechanism) -> None:
    untouched = rules()
    with traffic("::1", connections=30) as port:
        (dose,) = deliver(mechanism, scenario("packet_loss", loss_percent=50), to(port, "[::1]"), seconds=0.5)
    assert dose.delivered == pytest.approx(50, abs=25)
    assert rules() == untouched


@MECHANISMS
def test_an_undo_leaves_the_users_own_rules_exactly_as_they_were(namespace: None, mechanism: Mechanism) -> None:
    own = "table inet mine { chain out { type filter hook output priority 0; policy accept; tcp dport 9 drop; }; }"
    subprocess.run(["nft", own], check=True)
    for rule in (["-d", "10.9.8.7", "-j", "DROP"], ["-m", "comment", "--comment", "it's mine", "-j", "ACCEPT"]):
        subprocess.run(["iptables", "-t", "mangle", "-A", "OUTPUT", *rule], check=True)
    before = rules()
    with traffic(connections=5) as port:
        injection = prepare(mechanism, port)
        for step in injection.steps:
            kit.do(step)
        assert rules() != before
        undo(injection)
        assert rules() == before
        undo(injection)
        assert rules() == before


@MECHANISMS
def test_a_fault_that_was_cut_off_between_any_two_steps_can_be_undone(namespace: None, mechanism: Mechanism) -> None:
    untouched = rules()
    injection = prepare(mechanism, 9)
    for done in range(len(injection.steps)):
        for step in injection.steps[:done]:
            kit.do(step)
        undo(injection)
        assert rules() == untouched


@MECHANISMS
def test_the_fault_takes_effect_with_the_first_packet_that_meets_it(namespace: None, mechanism: Mechanism) -> None:
    injection = prepare(mechanism, 9)
    readings = [read(injection.steps[-1])]
    assert not injection.took_effect(readings)
    for step in injection.steps:
        kit.do(step)
    assert not injection.took_effect([*readings, read(injection.steps[-1])])
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection(("127.0.0.1", 9), timeout=0.1)
    assert injection.took_effect([*readings, read(injection.steps[-1])])
    undo(injection)


@MECHANISMS
def test_an_interface_limits_the_loss_to_what_leaves_by_it(namespace: None, mechanism: Mechanism) -> None:
    subprocess.run(["ip", "link", "add", "other0", "type", "veth", "peer", "name", "other1"], check=True)
    asked = scenario("packet_loss", loss_percent=100, interface="other0")
    with servers.running() as target:
        assert mechanism.obstacle(asked, to(target.port)) is None
        injection = mechanism.inject(asked, to(target.port), seconds=1.0, token="test-interface")
        for step in injection.steps:
            kit.do(step)
        socket.create_connection(("127.0.0.1", target.port), timeout=0.3).close()
        assert read(injection.steps[-1]).data["seen"] == 0
        undo(injection)


@MECHANISMS
def test_bad_input_is_refused_before_anything_is_done(namespace: None, mechanism: Mechanism) -> None:
    untouched = rules()
    asked = scenario("packet_loss", loss_percent=5, interface="nope0")
    assert "'nope0'" in str(mechanism.obstacle(asked, to(9)))
    plain = scenario("packet_loss", loss_percent=5)
    unresolved = replace(surroundings(), url="http://no-such-host.invalid")
    assert "does not resolve" in str(mechanism.obstacle(plain, unresolved))
    assert mechanism.obstacle(None, surroundings()) is None
    assert rules() == untouched


@MECHANISMS
def test_who_may_not_change_the_network_is_told_so(namespace: None, mechanism: Mechanism) -> None:
    code = (
        f"from chaoslab.faults.packet_drop import {type(mechanism).__name__} as M\n"
        "from tests.faults.kit import surroundings; print(M().obstacle(None, surroundings()))"
    )
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    result = subprocess.run([*without, sys.executable, "-c", code], capture_output=True, text=True)
    assert "CAP_NET_ADMIN" in result.stdout


def test_remove_touches_no_name_that_is_not_ours(namespace: None) -> None:
    subprocess.run(["nft", "add table inet mine"], check=True)
    command = [sys.executable, "-m", "chaoslab.agent.packet_filter", "remove", "--table", "mine"]
    assert subprocess.run(command, capture_output=True).returncode == 2
    assert "table inet mine {" in rules()


def test_a_remove_that_cannot_tell_is_no_success(namespace: None) -> None:
    command = [sys.executable, "-m", "chaoslab.agent.packet_filter", "remove", "--table", "chaoslab_x"]
    result = subprocess.run(command, capture_output=True, env={**os.environ, "PATH": "/nonexistent"})
    assert result.returncode == 1


@MECHANISMS
def test_what_comes_from_the_target_is_lost_on_its_way_back(namespace: None, mechanism: Mechanism) -> None:
    with servers.running() as target:
        asked = scenario("packet_loss", loss_percent=100, direction="ingress", interface="lo")
        injection = mechanism.inject(asked, to(target.port), seconds=1.0, token="test-ingress")
        for step in injection.steps:
            kit.do(step)
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", target.port), timeout=0.3)
        assert read(injection.steps[-1]).data["dropped"] > 0
        undo(injection)
        socket.create_connection(("127.0.0.1", target.port), timeout=0.3).close()


@MECHANISMS
def test_filters_name_other_packets_than_the_targets(namespace: None, mechanism: Mechanism) -> None:
    with servers.running() as target, servers.running() as other:
        for filters, lost in (({"port": other.port}, other.port), ({"address": "127.0.0.0/8"}, target.port)):
            asked = scenario("packet_loss", loss_percent=100, **filters)
            assert mechanism.obstacle(asked, to(target.port)) is None
            injection = mechanism.inject(asked, to(target.port), seconds=1.0, token="test-filters")
            for step in injection.steps:
                kit.do(step)
            with pytest.raises(TimeoutError):
                socket.create_connection(("127.0.0.1", lost), timeout=0.2)
            undo(injection)


@MECHANISMS
def test_beside_the_service_it_is_the_near_port_that_counts(namespace: None, mechanism: Mechanism) -> None:
    class Beside(LocalHost):
        name = "docker:somewhere"

    with servers.running() as target:
        where = replace(to(target.port, "192.0.2.7"), host=Beside())
        asked = scenario("packet_loss", loss_percent=100, direction="egress")
        assert mechanism.obstacle(asked, where) is None
        injection = mechanism.inject(asked, where, seconds=1.0, token="test-beside")
        for step in injection.steps:
            kit.do(step)
        with pytest.raises(TimeoutError):  # its answers are lost
            socket.create_connection(("127.0.0.1", target.port), timeout=0.2)
        undo(injection)


@MECHANISMS
def test_what_a_packet_filter_cannot_do_is_named(mechanism: Mechanism) -> None:
    asked = scenario("packet_loss", loss_percent=5, loss_correlation_percent=25, corrupt_percent=1)
    obstacle = str(mechanism.obstacle(asked, to(9)))
    assert obstacle == f"{mechanism.name} cannot do loss_correlation_percent, corrupt_percent"
    bursts = scenario("packet_loss", loss_gemodel={"p_percent": 1, "r_percent": 10})
    assert "cannot do loss_gemodel" in str(mechanism.obstacle(bursts, to(9)))


def test_a_dose_of_few_packets_says_so() -> None:
    few = loss_dose(Share(0.5), 50.0, 20, 13, "a test", "M")
    assert few.ok
    assert "only 20 packets" in few.how
    assert "only" not in loss_dose(Share(0.5), 50.0, 200, 100, "a test", "M").how


def test_no_packets_are_no_dose() -> None:
    assert not loss_dose(Share(0.05), 5.0, 0, 0, "a test", "M").ok

"""Latency and loss by netem, for real: in User Mode Linux, for not every kernel has netem, and none is ours to change.

One boot answers all the questions of `tests/faults/uml/inside.py`; each test here reads one of the answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from chaoslab.faults import Surroundings, shares
from chaoslab.faults.impairment import FourStates, GilbertElliott, Impairment
from chaoslab.faults.netem import Netem
from chaoslab.faults.shares import Share, chance
from chaoslab.hosts import Completed, LocalHost
from tests.conftest import missing
from tests.faults.kit import scenario, surroundings
from tests.faults.uml import boot

BY_CHANCE = 1 - 1e-6


@pytest.fixture(scope="session")
def answers(boot_under_way: boot.BootUnderWay | None) -> dict[str, Any]:
    """What was found inside."""
    if boot_under_way is None:
        missing(boot.lacking())
    assert boot_under_way is not None
    return boot_under_way.answers()


def by_chance(dose: dict[str, Any], share: Share) -> bool:
    """Whether a share that was counted is one that chance allows."""
    count = int(dose["how"].split(" of ")[1].split()[0])
    low, high = chance(share.value, share.trials(count), BY_CHANCE)
    assert count >= 200
    return 100 * low <= dose["delivered"] <= 100 * high


LOSS = "packets dropped on the way to the target"
FRAMES = "packets that "


def test_the_delay_that_requests_meet_is_the_one_that_was_asked(answers: dict[str, Any]) -> None:
    dose = answers["delay_by_the_kit"]["delay added"]
    assert dose["ok"]
    assert 50 * 0.95 - 2 <= dose["delivered"] <= 50 * 1.1 + 5


@pytest.mark.parametrize(
    ("question", "asked"), [("delay_both_ways", 60), ("coming_in_beside_a_foreign_filter", 60)], ids=["lo", "veth"]
)
def test_a_delay_both_ways_is_met_twice_by_each_request(answers: dict[str, Any], question: str, asked: float) -> None:
    dose = answers[question]["delay added"]
    assert dose["ok"]
    assert dose["asked"] == asked


def test_the_loss_that_the_kernel_counts_is_the_one_that_was_asked(answers: dict[str, Any]) -> None:
    dose = answers["loss"][LOSS]
    assert int(dose["how"].split(" of ")[1].split()[0]) >= 2000
    assert by_chance(dose, Share(0.15))
    assert "seed" in dose["how"]


def test_the_model_of_four_states_loses_what_its_chain_says(answers: dict[str, Any]) -> None:
    states = FourStates(p13_percent=4, p31_percent=30, p32_percent=20, p23_percent=60, p14_percent=3)
    assert by_chance(answers["loss_by_states"][LOSS], shares.four_states(states))


def test_all_effects_at_once_are_each_delivered_and_measured(answers: dict[str, Any]) -> None:
    found = answers["everything"]
    asked = Impairment(
        loss_gemodel=GilbertElliott(p_percent=2, r_percent=20, bad_loss_percent=80, good_loss_percent=1),
        duplicate_percent=10,
        corrupt_percent=40,
        corrupt_correlation_percent=25,
        delay_ms=40,
        reorder_percent=20,
    )
    assert by_chance(found[LOSS], shares.dropped(asked))
    assert by_chance(found[f"{FRAMES}arrive twice"], shares.doubled(asked))
    assert by_chance(found[f"{FRAMES}arrive changed"], shares.corrupted(asked))
    assert by_chance(found[f"{FRAMES}skip the delay"], shares.reordered(asked))
    assert found["delay of each packet"]["ok"]
    assert found["standard deviation of the delay"]["delivered"] == pytest.approx(5, rel=0.25)


def test_a_limited_rate_is_measured_by_a_burst(answers: dict[str, Any]) -> None:
    assert answers["rate"]["rate"]["delivered"] == pytest.approx(1000, rel=0.15)
    assert answers["rate"]["delay of each packet"]["ok"]


def test_what_comes_in_goes_through_a_device_of_ours(answers: dict[str, Any]) -> None:
    found = answers["coming_in"]
    assert found["obstacle"] == "None"
    assert found["delay added"]["ok"]
    assert found["standard deviation of the delay"]["ok"]


def test_a_partition_keeps_connections_from_coming_about(answers: dict[str, Any]) -> None:
    assert answers["partition"][LOSS]["delivered"] == 100
    assert answers["partition"]["connections that do not come about"]["ok"]


def test_a_target_at_an_ipv6_address_is_hit_too(answers: dict[str, Any]) -> None:
    assert answers["loss_over_ipv6"] == {"seen": 1, "dropped": 1, "problems": []}


def test_only_packets_to_the_targets_port_are_delayed_and_only_until_the_undo(answers: dict[str, Any]) -> None:
    found = answers["others"]
    assert found["target"] > 95
    assert found["other"] < 50
    assert found["after"] < 50
    assert found["problems"] == []


@pytest.mark.parametrize(
    "question",
    ["delay_by_the_kit", "everything", "coming_in", "coming_in_beside_a_foreign_filter", "partition"],
)
def test_an_undo_leaves_queues_filters_and_devices_exactly_as_they_were(answers: dict[str, Any], question: str) -> None:
    assert answers[question]["restored"]
    assert answers[question].get("problems", []) == []


def test_a_queue_that_somebody_configured_is_refused_and_survives_even_our_undo(answers: dict[str, Any]) -> None:
    found = answers["foreign"]
    assert "pfifo 1:" in found["refusal"]
    assert not found["began"]
    assert found["problems"] == []
    assert found["kept"]


def test_a_fault_that_was_cut_off_between_any_two_steps_can_be_undone(answers: dict[str, Any]) -> None:
    assert [(at["done"], at["problems"], at["restored"]) for at in answers["coming_in_cut"]] == [
        (done, [], True) for done in range(9)
    ]


def test_a_loss_takes_effect_with_the_first_packet_that_meets_it(answers: dict[str, Any]) -> None:
    assert answers["unseen"] == {"without": False, "with": True, "problems": []}


def test_a_machine_that_has_netem_is_told_of_no_obstacle(answers: dict[str, Any]) -> None:
    assert answers["doctor"] == "None"


# What follows needs no kernel: a host that answers as `ip` and `tc` would.


class Answering(LocalHost):
    """Says what each program answers, and runs nothing."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers = {
            "ip": [{"dev": "lo", "ifname": "lo"}],
            "tc": [{"kind": "noqueue", "handle": "0:"}],
            "unshare": "",
        } | answers

    def run(self, argv: Sequence[str], **_: Any) -> Completed:
        answer = self.answers[argv[0]]
        if isinstance(answer, str) and answer:
            return Completed(tuple(argv), 2, "", answer)
        return Completed(tuple(argv), 0, json.dumps(answer), "")


def on(host: LocalHost, url: str = "http://127.0.0.1:8080") -> Surroundings:
    return replace(surroundings(), host=host, url=url)


@pytest.fixture
def privileged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaoslab.faults.traffic.no_privilege", lambda _: None)
    monkeypatch.setattr("chaoslab.faults.traffic.no_program", lambda *_: None)


DELAY = scenario("network_latency", delay_ms=50)


def test_the_steps_are_the_plain_commands_of_tc() -> None:
    injection = Netem().inject(scenario("packet_loss", loss_percent=2.5), on(Answering()), seconds=30, token="t")
    commands = [" ".join(step.do) for step in injection.steps]
    handle = commands[0].split()[7]
    assert commands[0].startswith(f"tc qdisc add dev lo root handle {handle} prio bands 2 priomap 0")
    assert f"parent {handle}2" in commands[1]
    assert commands[1].endswith("netem limit 100000 loss random 2.5%")
    assert commands[2].endswith(
        "u32 match ip dst 127.0.0.1/32 match ip protocol 6 0xff match ip dport 8080 0xffff flowid " + f"{handle}2"
    )
    assert all(step.undo[-4:] == ("--dev", "lo", "--handle", handle) for step in injection.steps)


@pytest.mark.parametrize(
    ("parameters", "answers", "words"),
    [
        ({"interface": "nope0"}, {}, "no network interface 'nope0'"),
        ({}, {"ip": []}, "no route"),
        ({}, {"tc": [{"kind": "htb", "handle": "1:", "root": True}]}, "htb 1:"),
        ({}, {"tc": [{"kind": "mq", "handle": "0:"}, {"kind": "fq", "handle": "8001:"}]}, "fq 8001:"),
        ({}, {"tc": "RTNETLINK says no"}, "does not say"),
        ({}, {"unshare": "Error: Specified qdisc kind is unknown."}, "kind is unknown"),
    ],
)
@pytest.mark.usefixtures("privileged")
def test_what_cannot_be_done_is_refused_with_the_reason(
    parameters: dict[str, Any], answers: dict[str, Any], words: str
) -> None:
    asked = scenario("network_latency", delay_ms=50, **parameters)
    assert words in str(Netem().obstacle(asked, on(Answering(**answers))))


@pytest.mark.usefixtures("privileged")
def test_what_stands_beside_the_root_is_no_obstacle() -> None:
    beside = [{"kind": "clsact", "handle": "ffff:"}, {"kind": "noqueue", "handle": "0:", "root": True}]
    assert Netem().obstacle(DELAY, on(Answering(tc=beside))) is None


@pytest.mark.usefixtures("privileged")
def test_where_no_namespace_can_be_made_the_injection_itself_will_tell() -> None:
    refused = Answering(unshare="unshare: unshare failed: Operation not permitted")
    assert Netem().obstacle(DELAY, on(refused)) is None


@pytest.mark.usefixtures("privileged")
def test_a_host_that_does_not_resolve_is_refused() -> None:
    refusal = Netem().obstacle(DELAY, on(Answering(), "http://no-such-host.invalid"))
    assert "does not resolve" in str(refusal)


def test_remove_touches_no_handle_that_is_not_ours() -> None:
    command = [sys.executable, "-m", "chaoslab.agent.netem", "remove", "--dev", "nope0", "--handle", "1:"]
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_an_interface_that_is_gone_has_taken_our_queues_with_it() -> None:
    command = [sys.executable, "-m", "chaoslab.agent.netem", "remove", "--dev", "nope0", "--handle", "7c00:"]
    assert subprocess.run(command, capture_output=True).returncode == 0

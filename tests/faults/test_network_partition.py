"""network_partition, for real, in a network namespace of the test's own: nothing gets through, and then everything."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from chaoslab.faults import Mechanism, Surroundings, failure_types
from chaoslab.faults.network_partition import IptablesPartition, NftPartition
from tests import servers
from tests.faults.kit import deliver, rules, scenario, surroundings


def to(port: int, host: str = "127.0.0.1") -> Surroundings:
    return replace(surroundings(), url=f"http://{host}:{port}")


@pytest.mark.parametrize(
    ("mechanism", "direction"),
    [(NftPartition(), "egress"), (NftPartition(), "ingress"), (IptablesPartition(), "both")],
)
def test_no_connection_comes_about_whichever_way_is_cut(namespace: None, mechanism: Mechanism, direction: str) -> None:
    untouched = rules()
    with servers.running() as target:
        asked = scenario("network_partition", direction=direction)
        packets, connections = deliver(mechanism, asked, to(target.port), seconds=0.1)
        socket.create_connection(("127.0.0.1", target.port), timeout=0.3).close()
    assert packets.delivered == connections.delivered == 100
    assert packets.ok
    assert connections.ok
    assert rules() == untouched


def test_a_target_that_nobody_reached_before_proves_nothing(namespace: None) -> None:
    _, connections = deliver(NftPartition(), scenario("network_partition"), to(9), seconds=0.0)
    assert connections.delivered is None
    assert "before" in connections.how


def test_another_address_may_be_cut_off(namespace: None) -> None:
    with servers.running() as target, servers.running() as database:
        asked = scenario("network_partition", address="127.0.0.1", port=database.port)
        assert all(dose.ok for dose in deliver(NftPartition(), asked, to(target.port), seconds=0.0))


def test_a_network_without_a_port_is_judged_by_its_packets_alone() -> None:
    asked = scenario("network_partition", address="10.0.0.0/8")
    (step,) = NftPartition().inject(asked, to(9), seconds=1, token="t").steps
    assert "connection" not in " ".join(step.evidence)
    assert "ip daddr { 10.0.0.0/8 } counter" in step.do[-1]
    assert "ip saddr { 10.0.0.0/8 } counter" in step.do[-1]


def test_the_packet_filters_come_before_netem_and_the_proxy_last() -> None:
    assert [each.name for each in failure_types()["network_partition"].mechanisms] == [
        "nftables",
        "iptables",
        "tc netem",
        "tcp proxy, black hole",
    ]

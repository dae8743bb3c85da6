"""What may be asked of a network, what it becomes in tc's words, and which packets are hit."""

from __future__ import annotations

from typing import Any

import pytest

from chaoslab.errors import ScenarioFileError
from chaoslab.faults import emulator, failure_types
from chaoslab.faults.doses import crossed, framed
from chaoslab.faults.emulator import Place, commands
from chaoslab.faults.impairment import Impairment, LatencyParameters, cannot
from chaoslab.faults.netem import Netem, _too_long
from chaoslab.faults.timing import burst, spread_ms
from chaoslab.faults.traffic import hit_by, towards
from tests.faults.kit import scenario, surroundings


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"delay_ms": 50}, "delay 50ms"),
        ({"delay_ms": 50, "jitter_ms": 5, "delay_correlation_percent": 25}, "delay 50ms 5ms 25%"),
        (
            {"delay_ms": 50, "jitter_ms": 5, "delay_distribution": "paretonormal"},
            "delay 50ms 5ms distribution paretonormal",
        ),
        ({"delay_ms": 50, "jitter_ms": 5, "delay_distribution": "uniform"}, "delay 50ms 5ms"),
        ({"loss_percent": 5, "loss_correlation_percent": 25}, "loss random 5% 25%"),
        ({"loss_gemodel": {"p_percent": 1, "r_percent": 10}}, "loss gemodel 1% 10% 100% 0%"),
        ({"loss_state": {"p13_percent": 1, "p31_percent": 10}}, "loss state 1% 10% 0% 100% 0%"),
        ({"duplicate_percent": 1, "corrupt_percent": 2}, "duplicate 1% corrupt 2%"),
        ({"delay_ms": 9, "reorder_percent": 25, "reorder_gap": 5}, "delay 9ms reorder 25% gap 5"),
        ({"rate_kbit": 1000, "rate_packet_overhead_bytes": -14}, "rate 1000kbit -14"),
        ({"rate_kbit": 1000, "rate_cell_bytes": 48, "rate_cell_overhead_bytes": 5}, "rate 1000kbit 0 48 5"),
    ],
)
def test_what_is_asked_becomes_tcs_own_words(asked: dict[str, Any], words: str) -> None:
    found = scenario("network_impairment", **asked).parameters
    assert isinstance(found, Impairment)
    assert " ".join(emulator.emulation(found)) == words


@pytest.mark.parametrize(
    ("kind", "asked", "words"),
    [
        ("network_latency", {"jitter_ms": 5}, "lacks the key 'delay_ms'"),
        ("network_impairment", {}, "at least one of delay_ms, loss_percent"),
        ("network_impairment", {"jitter_ms": 5}, "jitter_ms means something only with delay_ms"),
        ("network_impairment", {"reorder_percent": 5}, "only with delay_ms"),
        ("network_latency", {"delay_ms": 5, "jitter_ms": 6}, "more than delay_ms"),
        ("network_latency", {"delay_ms": 5, "delay_distribution": "pareto"}, "only with jitter_ms"),
        ("network_latency", {"delay_ms": 8, "jitter_ms": 2, "reorder_percent": 5}, "an eighth of delay_ms"),
        ("network_latency", {"delay_ms": 5, "direction": "up"}, "accepted: egress, ingress, both"),
        ("network_latency", {"delay_ms": 5, "address": "10.0.0.1/8"}, "has host bits set"),
        ("network_latency", {"delay_ms": 5, "port": 0}, "greater than or equal to 1"),
        ("packet_loss", {"delay_ms": 5}, "accepted: one of loss_percent, loss_gemodel, loss_state"),
        ("packet_loss", {"loss_percent": 130}, "less than or equal to 100"),
        ("packet_loss", {"loss_percent": 5, "loss_state": {"p13_percent": 1, "p31_percent": 1}}, "exclude each other"),
        ("packet_loss", {"loss_percent": 5, "loss_correlation_percent": 100}, "less than 100"),
        ("packet_loss", {"loss_gemodel": {"p": 1}}, "unknown key 'p'"),
        ("packet_loss", {"loss_state": {"p13_percent": 60, "p31_percent": 1, "p14_percent": 60}}, "at most 100"),
        ("dns_failure", {"resolver": "ns.example"}, "accepted: 192.0.2.1, 192.0.2.1:5353"),
        ("dns_failure", {"resolver": "127.0.0.1:dns"}, "'dns' is no port"),
    ],
)
def test_what_means_nothing_is_refused_with_what_is_accepted(kind: str, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioFileError, match=words):
        scenario(kind, **asked)


def test_a_mechanism_names_what_it_cannot_do() -> None:
    asked = LatencyParameters(delay_ms=5, jitter_ms=1, corrupt_percent=1, direction="egress", expected_impact="some")
    assert str(cannot("a proxy", asked, ["delay_ms"])) == "a proxy cannot do jitter_ms, corrupt_percent"
    assert cannot("a proxy", LatencyParameters(delay_ms=5), ["delay_ms"]) is None


def test_requests_show_a_delay_only_where_they_meet_it_undisturbed() -> None:
    assert crossed(Impairment(delay_ms=5))
    assert not framed(Impairment(delay_ms=5))
    for disturbed in (Impairment(delay_ms=5, loss_percent=1), Impairment(delay_ms=5, port=5432)):
        assert framed(disturbed)
        assert not crossed(disturbed)


def test_correlated_draws_of_a_uniform_jitter_vary_less() -> None:
    alone = spread_ms(Impairment(delay_ms=50, jitter_ms=10))
    assert alone == pytest.approx(5.77, abs=0.01)
    assert spread_ms(Impairment(delay_ms=50, jitter_ms=10, delay_correlation_percent=60)) == pytest.approx(alone / 2)


@pytest.mark.parametrize("kbit", [32, 200, 1000, 100_000])
def test_a_burst_is_over_in_a_second_whatever_the_rate(kbit: float) -> None:
    size, count = burst(Impairment(rate_kbit=kbit))
    assert size * count * 8 / kbit < 1000
    assert count >= 4


def test_an_address_alone_means_all_its_packets_and_a_port_alone_is_the_targets() -> None:
    where = surroundings()
    assert str(hit_by(Impairment(loss_percent=1, address="10.0.0.0/8"), where)) == "10.0.0.0/8"
    assert str(hit_by(Impairment(loss_percent=1, port=5432), where)) == "127.0.0.1 port 5432"
    assert str(hit_by(Impairment(loss_percent=1, address="10.0.0.7", port=53), where)) == "10.0.0.7 port 53"


def test_what_comes_in_is_led_aside_only_where_loopback_does_not_see_it() -> None:
    hit = towards("http://127.0.0.1:8080")
    asked = Impairment(loss_percent=1, direction="both")
    on = {name: list(commands(hit, Place(name, "7c00:", asked.directions), asked)) for name in ("lo", "eth0")}
    assert not any("ifb" in argv for _, argv in on["lo"])
    assert [name for name, argv in on["eth0"] if "ifb" in argv] == ["device chaos7c00"]
    assert " ".join(on["lo"][-1][1]).endswith(
        "match ip src 127.0.0.1/32 match ip protocol 6 0xff match ip sport 8080 0xffff flowid 7c00:2"
    )
    assert len({name for name, _ in on["eth0"]}) == len(on["eth0"])


@pytest.mark.parametrize(
    "asked",
    [{"delay_ms": 4000, "duplicate_percent": 1}, {"rate_kbit": 32, "delay_ms": 900, "direction": "both"}],
)
def test_what_takes_longer_to_measure_than_evidence_is_waited_for_is_refused(asked: dict[str, Any]) -> None:
    obstacle = Netem().obstacle(scenario("network_impairment", **asked), surroundings())
    assert "more than evidence is waited for" in str(obstacle)


def test_the_slowest_rate_can_be_measured_both_ways() -> None:
    slowest = Impairment(rate_kbit=32, delay_ms=50, jitter_ms=10, direction="both")
    assert _too_long(slowest) is None


def test_the_general_type_takes_any_effects() -> None:
    assert [each.name for each in failure_types()["network_impairment"].mechanisms] == ["tc netem"]

"""Verdicts: pass, fail or inconclusive, each with its reason."""

from __future__ import annotations

import json

import pytest

from chaoslab.intervals import Estimate, mean_difference, not_measured, proportion, restricted_mean
from chaoslab.scenario import Slo
from chaoslab.verdict import Verdict, judge, overall

MTTR = Slo(metric="mttr_seconds", threshold=30.0, comparison="<=", unit="s")
AVAILABILITY = Slo(metric="availability_percent", threshold=95.0, comparison=">=", unit="%")


def between(low: float, high: float, unit: str = "s") -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high, method="t", n=3, unit=unit)


@pytest.mark.parametrize(
    ("slo", "low", "high", "outcome"),
    [
        (MTTR, 20, 29, "pass"),
        (MTTR, 20, 30, "pass"),
        (MTTR, 20, 31, "inconclusive"),
        (MTTR, 30, 40, "inconclusive"),
        (MTTR, 31, 40, "fail"),
        (AVAILABILITY, 96, 99, "pass"),
        (AVAILABILITY, 95, 99, "pass"),
        (AVAILABILITY, 94, 99, "inconclusive"),
        (AVAILABILITY, 90, 95, "inconclusive"),
        (AVAILABILITY, 90, 94, "fail"),
    ],
)
def test_the_whole_interval_decides_and_the_threshold_itself_is_still_right(
    slo: Slo, low: float, high: float, outcome: str
) -> None:
    assert judge("Light CPU Stress", slo, between(low, high, slo.unit)).outcome == outcome


def test_the_reason_names_interval_and_threshold() -> None:
    assert judge("A", MTTR, between(20, 29)).reason == "the whole interval [20.0, 29.0] s is at most 30.0 s"
    assert judge("A", MTTR, between(31, 40)).reason == "the whole interval [31.0, 40.0] s is above 30.0 s"
    assert judge("A", AVAILABILITY, between(90, 94, "%")).reason == (
        "the whole interval [90.00, 94.00] % is below 95.00 %"
    )


def test_between_the_number_of_runs_that_would_settle_it_is_given() -> None:
    degradation = Slo(metric="latency_degradation_ms", threshold=10.0, comparison="<=", unit="ms")

    verdict = judge("A", degradation, mean_difference([5.0, 7.0, 9.0], unit="ms"))

    assert verdict.outcome == "inconclusive"
    assert verdict.repeats_needed == 5
    assert verdict.reason == (
        "the interval [2.03, 12.0] ms holds the threshold 10.0 ms; "
        "5 runs would settle it if centre and spread stay as they are"
    )


def test_what_was_not_measured_is_inconclusive_with_its_reason() -> None:
    verdict = judge("A", MTTR, not_measured("none of 3 runs can be used: aborted", unit="s"))

    assert (verdict.outcome, verdict.reason) == ("inconclusive", "none of 3 runs can be used: aborted")
    assert verdict.repeats_needed is None


def test_two_runs_are_inconclusive_however_good_they_look() -> None:
    verdict = judge("A", AVAILABILITY, proportion([30, 30], [30, 30], trials=100_000))

    assert verdict.outcome == "inconclusive"
    assert verdict.reason == "2 runs: an interval over runs needs at least 3"


def test_zero_failures_in_too_few_probes_do_not_pass() -> None:
    assert judge("A", AVAILABILITY, proportion([30] * 3, [30] * 3, trials=180)).outcome == "inconclusive"
    assert judge("A", AVAILABILITY, proportion([30] * 3, [30] * 3, trials=1800)).outcome == "pass"


def test_with_nothing_to_repair_in_three_runs_an_mttr_passes_and_in_two_it_does_not() -> None:
    three = not_measured("no outage in 3 runs", unit="s", n=3)
    two = not_measured("no outage in 2 runs", unit="s", n=2)

    assert judge("A", MTTR, three, nothing_to_see="no outage in 3 runs").outcome == "pass"
    assert judge("A", MTTR, three, nothing_to_see="no outage in 3 runs").reason == "no outage in 3 runs"
    assert judge("A", MTTR, three).outcome == "inconclusive"
    assert judge("A", MTTR, two, nothing_to_see="no outage in 2 runs").outcome == "inconclusive"


def test_a_recovery_that_never_came_fails_only_what_was_watched_for_longer_than_the_threshold() -> None:
    long = restricted_mean([31.0, 32.0, 33.0], [True] * 3)
    short = restricted_mean([29.0, 32.0, 33.0], [True] * 3)
    two = restricted_mean([31.0, 32.0], [True] * 2)

    assert judge("A", MTTR, long).outcome == "fail"
    assert judge("A", MTTR, long).reason == "no recovery within 31 s in any run; the threshold is 30.0 s"
    assert judge("A", MTTR, short).outcome == "inconclusive"
    assert judge("A", MTTR, two).outcome == "inconclusive"


def test_a_lower_bound_can_fail_but_never_pass() -> None:
    good = restricted_mean([3.0, 3.1, 3.2, 3.3], [False, False, False, True])
    bad = restricted_mean([80.0, 81.0, 82.0, 83.0], [False, False, False, True])

    assert judge("A", MTTR, good).outcome == "inconclusive"
    assert judge("A", MTTR, good).reason.startswith("1 of 4 runs saw no recovery before the probes ended")
    assert judge("A", MTTR, good).repeats_needed is None
    assert judge("A", MTTR, bad).outcome == "fail"


def verdict(outcome: str, severity: str = "blocking") -> Verdict:
    slo = Slo(metric="mttr_seconds", threshold=1.0, comparison="<=", unit="s", severity=severity)  # type: ignore[arg-type]
    return Verdict(scenario="A", slo=slo, estimate=between(0, 1), outcome=outcome, reason="")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ([], "inconclusive"),
        ([verdict("pass")], "pass"),
        ([verdict("pass"), verdict("inconclusive")], "inconclusive"),
        ([verdict("pass"), verdict("inconclusive"), verdict("fail")], "fail"),
        ([verdict("pass"), verdict("fail", "warning")], "pass"),
        ([verdict("pass", "warning")], "inconclusive"),
    ],
)
def test_the_worst_blocking_verdict_decides_and_none_at_all_is_not_a_pass(
    verdicts: list[Verdict], outcome: str
) -> None:
    assert overall(verdicts) == outcome


def test_a_verdict_is_a_json_object() -> None:
    fields = judge("A", MTTR, between(20, 29)).as_dict()

    assert json.loads(json.dumps(fields)) == fields
    assert {name: fields[name] for name in ("scenario", "metric", "threshold", "comparison", "severity")} == {
        "scenario": "A",
        "metric": "mttr_seconds",
        "threshold": 30.0,
        "comparison": "<=",
        "severity": "blocking",
    }
    assert fields["estimate"]["low"] == 20

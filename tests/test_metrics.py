"""Metrics of one run, from hand-made tables with numbers that can be checked by eye."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from chaoslab.errors import CampaignFolderError
from chaoslab.metrics import RunMetrics, down_seconds, envelope_ms, find_outages, measure, unusable
from chaoslab.records import ErrorKind, RunState
from chaoslab.store import Campaign, Run
from tests.campaigns import RunRows, make_campaign, make_dose, make_run

MS = 1000


def series(picture: str, *, latency: int = 10, every: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scheduled and completed µs, and success, of probes every 100 ms: + is good, − failed."""
    scheduled = np.arange(len(picture), dtype=np.int64) * every * MS
    return scheduled, scheduled + latency * MS, np.array([mark == "+" for mark in picture], dtype=bool)


def outages_of(picture: str, required: int = 3) -> list[tuple[int, int | None]]:
    """Begin and end, in ms, of the outages of a picture."""
    scheduled, completed, good = series(picture)
    found = find_outages(scheduled, completed, good, required=required, until_us=len(picture) * 100 * MS)
    return [(out.began_us // MS, out.ended_us // MS if out.ended_us is not None else None) for out in found]


def measured(folder: Path, rows: RunRows, *, required: int = 3) -> RunMetrics:
    campaign = make_campaign(folder / "campaign", [rows])
    return measure_of(campaign, campaign.runs[0], required=required)


def measure_of(campaign: Campaign, run: Run, *, required: int = 3) -> RunMetrics:
    return measure(run, campaign.probes_of(run), campaign.resources_of(run), required=required)


# Outages


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("++++++++", []),
        ("", []),
        ("++--++++", [(200, 410)]),
        ("++-+++-+++", [(200, 310), (600, 710)]),
        ("--++++", [(0, 210)]),
        ("+-+++", [(100, 210)]),
        ("------", [(0, None)]),
    ],
)
def test_an_outage_runs_from_the_schedule_of_the_first_failure_to_the_completion_of_the_first_confirmed_success(
    picture: str, expected: list[tuple[int, int | None]]
) -> None:
    assert outages_of(picture) == expected


def test_a_blip_of_fewer_good_probes_than_required_does_not_end_an_outage() -> None:
    assert outages_of("++--++--+++") == [(200, 810)]
    assert outages_of("++--++--+++", required=2) == [(200, 410), (600, 810)]


def test_an_outage_whose_recovery_is_not_confirmed_by_the_end_is_open() -> None:
    assert outages_of("++--++") == [(200, None)]
    assert outages_of("++--++", required=2) == [(200, 410)]


def test_an_open_outage_counts_to_the_end_of_the_run_and_is_censored() -> None:
    scheduled, completed, good = series("++--")

    [outage] = find_outages(scheduled, completed, good, required=3, until_us=1_000_000)

    assert outage.censored
    assert outage.seconds == pytest.approx(0.845)  # from the middle of 110 and 200 ms


def test_both_edges_of_an_outage_carry_what_was_seen_before_and_after() -> None:
    scheduled, completed, good = series("++--+++")

    [outage] = find_outages(scheduled, completed, good, required=3, until_us=700_000)

    assert (outage.seen_up_us, outage.began_us) == (110_000, 200_000)
    assert (outage.seen_down_us, outage.ended_us) == (300_000, 410_000)
    assert outage.seconds == pytest.approx(0.2)


def test_an_outage_at_the_first_probe_was_never_seen_to_begin() -> None:
    scheduled, completed, good = series("-+++")

    [outage] = find_outages(scheduled, completed, good, required=3, until_us=400_000)

    assert outage.seen_up_us is None


def test_a_time_out_that_ends_after_the_recovery_does_not_tell_when_the_service_was_last_down() -> None:
    """One packet was lost: its probe timed out when the service had long been back."""
    scheduled, completed, good = series("+--+++")
    completed[2] = 900_000

    [outage] = find_outages(scheduled, completed, good, required=3, until_us=1_000_000)

    assert (outage.seen_down_us, outage.ended_us) == (200_000, 310_000)


def test_a_frozen_service_is_back_when_it_answers_what_it_owes(tmp_path: Path) -> None:
    """Stopped from 6 to 8 s; with a time-out of 0.5 s the probes after 7.52 s succeed late, at 8.02 s."""
    found = measured(tmp_path, make_run(frozen=[(6.0, 8.0)], timeout=0.5, jitter_ms=0))

    [outage] = found.outages
    assert (outage.began_us, outage.ended_us) == (6_000_000, 8_020_000)
    assert found.failed == 16  # × 0.1 s would be 1.6 s of downtime
    assert found.down_seconds == pytest.approx(2.06)  # from the middle of 5.92 and 6 s
    assert found.mttr is not None
    assert found.mttr.seconds == pytest.approx(2.06)
    assert found.mttr.at_least == pytest.approx(2.02)


@pytest.mark.parametrize("rate_hz", [5, 10, 100, 1000])
@pytest.mark.parametrize("how", ["freeze", "kill", "lost packets"])
def test_an_outage_is_estimated_without_bias_whatever_ends_it(how: str, rate_hz: int) -> None:
    """Outages of 2 to 4 s that begin at no probe's instant; a frozen service answers what it owes."""
    draw = np.random.default_rng(rate_hz)
    errors = []
    for _ in range(400):
        begins = 5.0 + draw.random()
        ends = begins + draw.uniform(2.0, 4.0)
        scheduled = np.arange(0, 15, 1 / rate_hz)
        latency = draw.uniform(0.0001, 0.0002, len(scheduled))
        within = (scheduled > begins) & (scheduled < ends)
        held = ends - scheduled if how == "freeze" else np.full(len(scheduled), np.inf)
        good = ~within | (held <= 0.5)
        latency = np.where(within, np.minimum(held, 0.5) if how != "kill" else 0.0001, 0) + latency
        at, completed = (np.round(column * 1e6).astype(np.int64) for column in (scheduled, scheduled + latency))

        [outage] = find_outages(at, completed, good, required=3, until_us=20_000_000)

        errors.append((outage.seconds - (ends - begins)) * rate_hz)
        assert down_seconds(at, completed, good, window_us=(0, 20_000_000)) == pytest.approx(outage.seconds, abs=2e-6)
    assert abs(np.mean(errors)) < 0.1
    assert np.max(np.abs(errors)) <= (1.01 if rate_hz < 1000 else 1.3)  # at 1000/s latency is a tenth of an interval


def test_a_downtime_counts_once_where_a_late_answer_lies_between_two_failures() -> None:
    scheduled, completed, good = series("+-+-+")
    completed[2] = 450_000

    assert down_seconds(scheduled, completed, good, window_us=(0, 500_000)) == pytest.approx(0.3)


def test_one_good_probe_ends_a_downtime_though_not_an_outage(tmp_path: Path) -> None:
    rows = make_run(down=[(6.0, 7.0), (7.2, 8.0)], jitter_ms=0)

    found = measured(tmp_path, rows)

    assert [outage.seconds for outage in found.outages] == pytest.approx([2.0])
    assert found.down_seconds == pytest.approx(1.0 + 0.8)


def test_downtime_is_clipped_to_the_injection(tmp_path: Path) -> None:
    found = measured(tmp_path, make_run(down=[(14.0, 16.0)], jitter_ms=0))  # the injection ends at 15 s

    assert found.down_seconds == pytest.approx(1.04)
    assert found.availability_percent == pytest.approx(89.6)
    assert found.longest_outage.seconds == pytest.approx(2.0)
    assert (found.failed, found.health_check_failures) == (10, 20)


def test_an_outage_that_was_over_before_the_injection_is_not_the_faults(tmp_path: Path) -> None:
    found = measured(tmp_path, make_run(down=[(1.0, 2.0)]))

    assert found.outages == ()
    assert found.mttr is None
    assert found.longest_outage.seconds == 0


def test_a_probe_under_way_when_the_fault_struck_does_not_move_the_outage_before_it(tmp_path: Path) -> None:
    """Scheduled at 4.9 s, the injection is at 5 s, the connection is cut at 5.05 s."""
    rows = make_run(down=[(4.9, 7.0)], jitter_ms=0, error_latency_ms=150)

    [outage] = measured(tmp_path, rows).outages

    assert outage.began_us == 5_000_000
    assert outage.seen_up_us == 5_000_000
    assert outage.seconds == pytest.approx(1.96)


def test_a_probe_lost_before_the_injection_that_times_out_during_it_is_no_outage_of_the_fault(tmp_path: Path) -> None:
    """Scheduled at 4.5 s, it times out at 6.5 s; its neighbours were answered at once."""
    found = measured(tmp_path, make_run(down=[(4.5, 4.6)], error=ErrorKind.TIMEOUT, error_latency_ms=2000))

    assert found.outages == ()
    assert found.failed == 0


def test_mttr_is_the_mean_over_the_outages_of_the_run(tmp_path: Path) -> None:
    found = measured(tmp_path, make_run(down=[(6.0, 7.0), (9.0, 12.0)], jitter_ms=0))

    assert found.mttr is not None
    assert found.mttr.seconds == pytest.approx((1.0 + 3.0) / 2)
    assert found.mttr.at_least == pytest.approx((0.9 + 2.9) / 2)
    assert not found.mttr.censored
    assert found.longest_outage.seconds == pytest.approx(3.0)


def test_a_run_that_ends_in_an_outage_has_a_censored_mttr(tmp_path: Path) -> None:
    found = measured(tmp_path, make_run(down=[(6.0, 20.0)]))

    assert found.mttr is not None
    assert found.mttr.censored
    assert found.mttr.seconds == pytest.approx(14.04, abs=0.001)


# Requests


def test_requests_are_counted_by_the_phase_they_were_scheduled_in(tmp_path: Path) -> None:
    found = measured(tmp_path, make_run(down=[(4.0, 4.5), (6.0, 7.0)]))

    assert (found.requests, found.failed) == (100, 10)
    assert found.error_rate_percent == pytest.approx(10.0)
    assert found.failures_by_kind == {"refused": 10}
    assert found.longest_good_streak == 80


def test_probes_that_never_left_are_the_probers_fault_and_count_apart(tmp_path: Path) -> None:
    found = measured(tmp_path, make_run(down=[(6.0, 7.0)], error=ErrorKind.UNSENT))

    assert (found.requests, found.failed, found.unsent) == (90, 0, 10)
    assert found.outages == ()
    assert found.availability_percent == 100


def test_latencies_of_probes_that_the_prober_sent_late_count_from_when_they_left(tmp_path: Path) -> None:
    rows = make_run()
    sick = [6_000_000 < at < 8_000_000 for at in rows.probes["scheduled_us"]]
    held_up = dict(rows.probes)
    for name in ("sent_us", "latency_us"):
        held_up[name] = [value + 300_000 * late for value, late in zip(rows.probes[name], sick, strict=True)]

    well, found = measured(tmp_path / "well", rows), measured(tmp_path / "late", replace(rows, probes=held_up))

    assert (well.late, well.late_share) == (0, 0.0)
    assert found.late == sum(sick)
    assert found.late_share == pytest.approx(0.2, abs=0.02)
    assert found.lag_max_ms == pytest.approx(300.05)
    assert found.latency["latency_injection_p95_ms"] == pytest.approx(well.latency["latency_injection_p95_ms"], abs=0.1)


def test_a_gap_in_the_probes_is_a_time_that_nobody_watched(tmp_path: Path) -> None:
    rows = make_run()
    kept = [index for index, at in enumerate(rows.probes["scheduled_us"]) if not 7_000_000 < at < 10_000_000]
    cut = replace(rows, probes={name: [column[index] for index in kept] for name, column in rows.probes.items()})

    assert measured(tmp_path / "whole", rows).watched == 1.0
    assert measured(tmp_path / "cut", cut).watched == pytest.approx(0.7)


# Recovery


def test_recovery_counts_from_the_end_of_the_fault_to_the_first_of_three_good_and_fast_probes(tmp_path: Path) -> None:
    rows = make_run(down=[(14.0, 16.0)], jitter_ms=0)

    found = measured(tmp_path, rows)

    assert found.recovery is not None
    assert found.recovery.seconds == pytest.approx(1.02)  # the fault is over at 15 s
    assert found.recovery.at_least == pytest.approx(0.905)  # the last failure was seen at 15.905 s
    assert found.first_success.seconds == pytest.approx(1.02)
    assert found.first_success.at_least == pytest.approx(0.905)


def test_slow_successes_are_no_recovery(tmp_path: Path) -> None:
    """From 15 to 17 s the probes succeed in 80 ms, the baseline's envelope is 25 ms."""
    rows = make_run(jitter_ms=0)
    latency = [80 * MS if 150 <= seq < 170 else value for seq, value in enumerate(rows.probes["latency_us"])]

    found = measured(tmp_path, replace(rows, probes={**rows.probes, "latency_us": latency}))

    assert found.envelope_ms == pytest.approx(25.0)
    assert found.recovery is not None
    assert found.recovery.seconds == pytest.approx(2.02)
    assert found.first_success.seconds == pytest.approx(0.08)


def test_an_answer_that_was_under_way_when_the_service_was_killed_is_no_first_success(tmp_path: Path) -> None:
    """The kill at 8.005 s catches the probe of 8.0 s, whose answer of 20 ms is read all the same."""
    rows = make_run(down=[(8.01, 10.0)], fault_over=8.005, jitter_ms=0)

    found = measured(tmp_path, rows)

    assert found.first_success.seconds == pytest.approx(10.02 - 8.005)


def test_an_answer_that_a_frozen_service_owed_is_its_first_success(tmp_path: Path) -> None:
    rows = make_run(frozen=[(13.0, 15.0)], fault_over=15.0, jitter_ms=0)

    found = measured(tmp_path, rows)

    assert found.first_success.seconds == pytest.approx(0.02)


def test_a_recovery_that_never_came_is_censored_at_the_end_of_the_run(tmp_path: Path) -> None:
    found = measured(tmp_path, make_run(latency_ms=(20.0, 20.0, 300.0)))

    assert found.recovery is not None
    assert found.recovery.censored
    assert found.recovery.seconds == pytest.approx(5.0)
    assert not found.first_success.censored


def test_the_recovery_of_a_kill_counts_from_the_kill(tmp_path: Path) -> None:
    found = measured(tmp_path, make_run(down=[(5.1, 8.0)], fault_over=5.05, jitter_ms=0))

    assert found.recovery is not None
    assert found.recovery.seconds == pytest.approx(2.97)


def test_two_good_probes_at_the_end_are_not_three(tmp_path: Path) -> None:
    found = measured(tmp_path, make_run(down=[(14.0, 19.8)], jitter_ms=0))

    assert found.recovery is not None
    assert found.recovery.censored
    assert found.first_success.seconds == pytest.approx(4.82)


def test_the_envelope_leaves_room_for_noise() -> None:
    assert envelope_ms(np.full(500, 20.0)) == 25.0
    assert envelope_ms(np.full(500, 200.0)) == pytest.approx(220.0)
    assert envelope_ms(np.concatenate((np.full(990, 20.0), np.full(10, 900.0)))) == 25.0


# Latency


def test_latency_quantiles_are_taken_by_phase_and_successes_apart_from_failures(tmp_path: Path) -> None:
    rows = make_run(latency_ms=(20.0, 120.0, 30.0), jitter_ms=0, down=[(6.0, 7.0)], error_latency_ms=2.0, rate_hz=20)

    found = measured(tmp_path, rows)

    assert found.latency["latency_baseline_p50_ms"] == pytest.approx(20.0)
    assert found.latency["latency_injection_p99_ms"] == pytest.approx(120.0)
    assert found.latency["latency_recovery_p95_ms"] == pytest.approx(30.0)
    assert found.latency["failure_latency_injection_p50_ms"] == pytest.approx(2.0)
    assert found.latency["failure_latency_baseline_p50_ms"] is None
    assert found.latency_degradation_ms == pytest.approx(100.0)


def test_a_quantile_of_too_few_probes_is_not_measured_because_it_would_be_the_slowest_one(tmp_path: Path) -> None:
    nineteen = measured(tmp_path / "a", make_run(injection=1.9, rate_hz=10)).latency
    twenty = measured(tmp_path / "b", make_run(injection=2.0, rate_hz=10)).latency
    assert nineteen["latency_injection_p95_ms"] is None
    assert nineteen["latency_injection_p50_ms"] is not None
    assert twenty["latency_injection_p95_ms"] is not None
    assert twenty["latency_injection_p99_ms"] is None


def test_quantiles_are_numpys_median_unbiased_ones(tmp_path: Path) -> None:
    rows = make_run(jitter_ms=40.0)
    injection = np.array(rows.probes["latency_us"][50:150]) / 1e3

    found = measured(tmp_path, rows)

    assert found.latency["latency_injection_p95_ms"] == pytest.approx(
        float(np.quantile(injection, 0.95, method="median_unbiased"))
    )


def test_without_a_success_in_the_injection_there_is_no_degradation(tmp_path: Path) -> None:
    assert measured(tmp_path, make_run(down=[(5.0, 15.0)])).latency_degradation_ms is None


# Host


def test_the_hosts_series_are_summed_up_by_phase(tmp_path: Path) -> None:
    host = measured(tmp_path, make_run()).host

    assert list(host) == ["baseline", "injection", "recovery"]
    assert host["injection"]["disk_read_bytes_per_second"] == pytest.approx(8192.0)
    assert host["injection"]["memory_available_bytes_min"] == 6 * 1024**3
    assert 0.5 <= host["injection"]["cpu_cores_mean"] <= host["injection"]["cpu_cores_max"] <= 1.0


def test_a_run_without_samples_of_the_host_has_none(tmp_path: Path) -> None:
    assert measured(tmp_path, make_run(resources=False)).host == {}


# Which runs count


def run_of(folder: Path, rows: RunRows) -> Run:
    return make_campaign(folder / "campaign", [rows]).runs[0]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (make_run(), ""),
        (
            make_run(state=RunState.ABORTED, reason="abort condition: 60 % failed"),
            "aborted: abort condition: 60 % failed",
        ),
        (make_run(state=RunState.NOT_STEADY, steady=False, reason="half failed"), "not steady: half failed"),
        (make_run(steady=False), "no steady state before the injection"),
        (make_run(doses=()), "no dose was measured: nothing shows that the fault was delivered"),
        (make_run(doses=[make_dose(), make_dose(delivered=1.0)]), "the dose was not delivered: CPU kept busy"),
        (make_run(doses=[make_dose(delivered=None)]), "the dose was not delivered: CPU kept busy"),
    ],
)
def test_a_run_counts_only_if_it_completed_from_a_steady_state_with_every_dose_delivered(
    tmp_path: Path, rows: RunRows, reason: str
) -> None:
    assert unusable(run_of(tmp_path, rows), control=False) == reason


def test_a_broken_run_does_not_count(tmp_path: Path) -> None:
    assert unusable(run_of(tmp_path, make_run(state=RunState.BROKEN)), control=False).startswith("broken: ")


def test_a_control_needs_no_dose(tmp_path: Path) -> None:
    run = run_of(tmp_path, make_run(type="control"))

    assert unusable(run, control=True) == ""
    assert unusable(run, control=False) != ""


# Rows that cannot be


def spoiled(name: str, at: int, value: object) -> RunRows:
    rows = make_run()
    column = list(rows.probes[name])
    column[at] = value
    return replace(rows, probes={**rows.probes, name: column})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (spoiled("seq", 7, 6), "the same probe twice"),
        (spoiled("seq", 7, 1000), "a schedule that goes backwards"),
        (spoiled("scheduled_us", 7, 300_001), "a schedule that goes backwards"),
        (spoiled("latency_us", 7, -1), "a latency below zero"),
        (spoiled("outcome", 7, "maybe"), "neither success nor failure"),
        (spoiled("error", 7, "timeout"), "a success with an error"),
        (spoiled("outcome", 7, "failure"), "a failure without one"),
    ],
)
def test_rows_that_cannot_be_are_refused_by_name(tmp_path: Path, rows: RunRows, message: str) -> None:
    with pytest.raises(CampaignFolderError, match=f"Light CPU Stress, repeat 1: probes hold .*{message}"):
        measured(tmp_path, rows)


def test_a_missing_column_and_a_wrong_type_are_refused_by_name(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "campaign", [make_run()])
    run = campaign.runs[0]
    probes, resources = campaign.probes_of(run), campaign.resources_of(run)

    with pytest.raises(CampaignFolderError, match="lack the column 'latency_us'"):
        measure(run, probes.drop(columns="latency_us"), resources)
    with pytest.raises(CampaignFolderError, match="'latency_us' of probes is float64"):
        measure(run, probes.astype({"latency_us": "float64"}), resources)


@pytest.mark.parametrize(
    "changes",
    [{"injection_us": 16_000_000}, {"finished_us": 1}, {"recovery_us": 5_000_000}, {"fault_over_us": 99_000_000}],
)
def test_phases_out_of_order_mean_a_clock_that_went_backwards(tmp_path: Path, changes: dict[str, int]) -> None:
    campaign = make_campaign(tmp_path / "campaign", [make_run()])

    with pytest.raises(CampaignFolderError, match="a clock went backwards"):
        measure_of(campaign, replace(campaign.runs[0], **changes))


def test_a_run_without_an_injection_cannot_be_measured(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "campaign", [make_run()])

    with pytest.raises(CampaignFolderError, match="lack the start or the end"):
        measure_of(campaign, replace(campaign.runs[0], injection_us=None))


def test_only_the_probe_that_is_asked_for_counts(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "campaign", [make_run()])
    run = campaign.runs[0]
    health = campaign.probes_of(run)
    orders = health.assign(probe="orders", outcome="failure", error="status")
    both = pd.concat([health.astype({"probe": str}), orders], ignore_index=True)

    assert measure(run, both, campaign.resources_of(run)).failed == 0
    assert measure(run, both, campaign.resources_of(run), probe="orders").failed == 100


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "campaign", [make_run(down=[(6.0, 7.0)])])
    run = campaign.runs[0]
    shuffled = campaign.probes_of(run).sample(frac=1.0, random_state=1)

    assert measure(run, shuffled, campaign.resources_of(run)) == measure_of(campaign, run)

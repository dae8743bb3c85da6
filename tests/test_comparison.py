"""Baseline against candidate: better, same, worse or inconclusive, and never a guess."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chaoslab.comparison import Cell, Comparison, changes, compare, effects
from chaoslab.errors import UsageError
from chaoslab.records import RunState
from chaoslab.store import Campaign
from tests import false_alarms
from tests.campaigns import RunRows, make_campaign, make_run

OUTAGE = "Database Brief Outage"


def runs(
    count: int, *, seed: int, scenario: str = OUTAGE, type: str = "database_outage", **options: Any
) -> list[RunRows]:
    """Runs that differ a little: `down` may be a function of the run's number."""
    down = options.pop("down", ())
    return [
        make_run(
            scenario,
            number,
            type=type,
            seed=seed + number,
            resources=False,
            down=down(number) if callable(down) else down,
            **options,
        )
        for number in range(1, count + 1)
    ]


def longer(number: int) -> list[tuple[float, float]]:
    return [(6.0, 9.0 + number / 10)]


def shorter(number: int) -> list[tuple[float, float]]:
    return [(6.0, 7.0 + number / 10)]


def folder(path: Path, rows: Sequence[RunRows], **meta: Any) -> Campaign:
    return make_campaign(path, rows, campaign=path.name, **meta)


def compared(path: Path, before: Sequence[RunRows], after: Sequence[RunRows], **options: Any) -> Comparison:
    return compare(folder(path / "before", before), folder(path / "after", after), **options)


def cell(found: Comparison, metric: str, scenario: str = OUTAGE) -> Cell:
    [one] = [one for one in found.cells if (one.scenario, one.metric) == (scenario, metric)]
    return one


def answers(found: Comparison) -> dict[str, str]:
    return {one.metric: one.answer for one in found.gate}


# Answers


def test_longer_outages_are_worse_and_shorter_ones_better(tmp_path: Path) -> None:
    short, long = runs(5, seed=0, down=shorter), runs(5, seed=50, down=longer)
    worse, better = compared(tmp_path / "1", short, long), compared(tmp_path / "2", long, short)
    for metric in ("mttr_seconds", "error_rate_percent", "availability_percent"):
        assert (cell(worse, metric).answer, cell(better, metric).answer) == ("worse", "better")
    assert (worse.answer, worse.exit_code(), worse.exit_code(fail_on_regression=True)) == ("worse", 0, 1)
    assert (better.answer, better.exit_code(fail_on_regression=True)) == ("better", 0)


def test_the_effect_is_a_ratio_of_times_and_a_difference_of_shares(tmp_path: Path) -> None:
    found = compared(tmp_path, runs(5, seed=0, down=shorter), runs(5, seed=50, down=longer))
    mttr, errors = cell(found, "mttr_seconds").change.effect, cell(found, "error_rate_percent").change.effect
    assert (mttr.unit, errors.unit) == ("×", "points")
    assert mttr.value == pytest.approx(3.32 / 1.32, rel=0.02)
    assert errors.value == pytest.approx(20.0)
    assert mttr.low is not None
    assert errors.low is not None
    assert mttr.low > 1
    assert errors.low > 0


def test_the_same_build_twice_is_the_same_when_there_were_enough_runs(tmp_path: Path) -> None:
    found = compared(tmp_path, runs(8, seed=0), runs(8, seed=50))
    assert set(answers(found).values()) == {"same"}
    assert (found.answer, found.exit_code(fail_on_regression=True)) == ("same", 0)
    assert cell(found, "mttr_seconds").judgement.reason.startswith("no outage on either side")


def test_too_few_probes_without_a_failure_do_not_show_that_nothing_changed(tmp_path: Path) -> None:
    found = compared(tmp_path, runs(3, seed=0), runs(3, seed=50))
    errors = cell(found, "error_rate_percent")
    assert errors.answer == "inconclusive"
    assert errors.judgement.repeats_needed is not None
    assert 3 < errors.judgement.repeats_needed < 12
    assert found.exit_code(fail_on_regression=True) == 3


def test_a_change_that_is_certain_but_within_the_margin_is_the_same(tmp_path: Path) -> None:
    before, after = runs(5, seed=0, latency_ms=20.0), runs(5, seed=50, latency_ms=21.5)
    wide = cell(compared(tmp_path / "1", before, after), "latency_injection_p95_ms")
    narrow = compared(tmp_path / "2", before, after, margins={"latency_injection_p95_ms": "1%"})
    assert wide.answer == "same"
    assert wide.judgement.reason.startswith("changed (p = ")
    assert cell(narrow, "latency_injection_p95_ms").answer == "worse"


def test_three_against_three_runs_never_tell_a_change_from_chance_and_say_how_many_would(tmp_path: Path) -> None:
    found = compared(tmp_path, runs(3, seed=0, down=shorter), runs(3, seed=50, down=longer))
    errors = cell(found, "error_rate_percent")
    assert (errors.answer, errors.p) == ("inconclusive", pytest.approx(0.1))
    assert "3 against 3 runs cannot tell a change from chance (smallest p 0.1)" in errors.judgement.reason
    assert errors.judgement.repeats_needed == 4
    assert errors.change.robust is not None
    assert (errors.change.robust.p, errors.change.robust.least_p) == pytest.approx((0.1, 0.1))


def test_three_runs_are_enough_against_a_baseline_of_ten(tmp_path: Path) -> None:
    found = compared(tmp_path, runs(10, seed=0, down=shorter), runs(3, seed=50, down=longer))
    assert cell(found, "error_rate_percent").answer == "worse"


def test_below_three_runs_there_is_an_effect_and_no_answer(tmp_path: Path) -> None:
    found = compared(tmp_path, runs(2, seed=0, down=shorter), runs(10, seed=50, down=longer))
    errors = cell(found, "error_rate_percent")
    assert errors.change.effect.value is not None
    assert (errors.change.effect.low, errors.answer) == (None, "inconclusive")
    assert errors.judgement.reason == "2 against 10 runs: an interval needs at least 3 on each side"


def test_outages_where_there_were_none_are_worse_though_there_is_no_ratio(tmp_path: Path) -> None:
    found = compared(tmp_path, runs(5, seed=0), runs(5, seed=50, down=longer))
    mttr = cell(found, "mttr_seconds")
    assert (mttr.change.baseline, mttr.change.effect.value) == (None, None)
    assert mttr.answer == "worse"
    assert mttr.judgement.reason.startswith("an outage in 5 of 5 runs of the candidate, none on the other side")


def test_fewer_but_longer_outages_are_no_answer(tmp_path: Path) -> None:
    often = runs(6, seed=0, down=lambda number: [(6.0, 6.6 + number / 50)])
    seldom = runs(6, seed=50, down=lambda number: [(6.0, 9.0 + number / 50)] if number <= 3 else [])
    assert cell(compared(tmp_path, often, seldom), "mttr_seconds").answer == "inconclusive"


def test_a_recovery_that_never_came_can_be_worse_but_never_the_same(tmp_path: Path) -> None:
    back = runs(5, seed=0, down=lambda number: [(6.0, 15.2 + number / 20)])
    never = runs(5, seed=50, down=[(6.0, 20.0)])
    worse = cell(compared(tmp_path / "1", back, never), "recovery_time_seconds")
    both = cell(compared(tmp_path / "2", never, runs(5, seed=90, down=[(6.0, 20.0)])), "recovery_time_seconds")
    assert worse.answer == "worse"
    assert "not seen to end in 5 runs of the candidate" in worse.judgement.reason
    assert both.answer == "inconclusive"
    assert "5 runs of the baseline and 5 runs of the candidate" in both.judgement.reason


def test_where_no_success_is_left_degradation_has_a_reason_instead_of_a_number(tmp_path: Path) -> None:
    found = compared(tmp_path, runs(5, seed=0), runs(5, seed=50, down=[(5.0, 15.0)]))
    one = cell(found, "latency_degradation_ms")
    assert (one.answer, one.judgement.reason) == ("inconclusive", "no run of the candidate has a value")


def test_a_change_lies_within_its_own_interval_however_large_it_is(tmp_path: Path) -> None:
    slow = {"latency_ms": (20.0, 900.0, 20.0), "jitter_ms": 9.0}
    found = compared(tmp_path, runs(5, seed=0), runs(5, seed=50, **slow))
    known = [one.change.effect for one in found.cells if one.change.effect.low is not None]
    assert cell(found, "latency_degradation_ms").change.effect.value == pytest.approx(880.0, abs=20.0)
    for effect in known:
        assert effect.value is not None
        assert effect.low is not None
        assert effect.high is not None
        assert effect.low <= effect.value <= effect.high


# Family


def test_a_control_and_other_metrics_are_explored_and_do_not_decide(tmp_path: Path) -> None:
    def with_control(seed: int, latency_ms: float) -> list[RunRows]:
        control = runs(8, seed=seed, scenario="Control (no fault)", type="control", latency_ms=latency_ms)
        return [*control, *runs(8, seed=seed + 20)]

    found = compared(tmp_path, with_control(0, 20.0), with_control(50, 60.0))
    assert {one.scenario for one in found.gate} == {OUTAGE}
    assert cell(found, "latency_injection_p95_ms", "Control (no fault)").answer == "worse"
    assert found.answer == "same"
    assert any("Without any fault" in mark for mark in found.marks)


def test_a_scenario_that_the_candidate_did_not_run_leaves_the_answer_open(tmp_path: Path) -> None:
    more = [*runs(8, seed=0), *runs(8, seed=20, scenario="Other", type="packet_loss")]
    found = compared(tmp_path / "1", more, runs(8, seed=50))
    assert (found.missing, found.answer) == (("Other",), "inconclusive")
    assert "did not run Other" in found.headline()
    assert compared(tmp_path / "2", more, runs(8, seed=50), scenarios=[OUTAGE]).answer == "same"
    assert compared(tmp_path / "3", runs(8, seed=50), more).added == ("Other",)


def test_broken_runs_do_not_count_and_a_side_without_any_is_inconclusive(tmp_path: Path) -> None:
    broken = runs(5, seed=50, state=RunState.BROKEN)
    found = compared(tmp_path, runs(5, seed=0), broken)
    assert set(answers(found).values()) == {"inconclusive"}
    assert {one.judgement.reason for one in found.gate} == {"the candidate has no usable run"}
    assert f"{OUTAGE}: 5 runs of the candidate cannot be used (broken)." in found.marks


def test_a_host_that_was_busy_before_any_fault_is_marked(tmp_path: Path) -> None:
    def loaded(seed: int, load: float) -> list[RunRows]:
        plain = [make_run(OUTAGE, n, type="database_outage", seed=seed + n) for n in (1, 2, 3)]
        return [
            replace(run, resources={**run.resources, "load_1m": [load] * len(run.resources["at_us"])}) for run in plain
        ]

    idle = compared(tmp_path / "1", loaded(0, 1.0), loaded(50, 2.0))
    busy = compared(tmp_path / "2", loaded(0, 1.0), loaded(50, 10.0))
    assert not any("busy" in mark for mark in idle.marks)
    assert [
        mark for mark in busy.marks if "(load for each CPU: 0.2 for the baseline and 2.5 for the candidate)" in mark
    ]


def test_a_warning_alone_is_not_part_of_the_gate(tmp_path: Path) -> None:
    campaign = folder(tmp_path / "after", runs(5, seed=50))
    slos = [slo for slo in campaign.meta["slos"] if slo["metric"] == "error_rate_percent"]
    after = folder(tmp_path / "narrow", runs(5, seed=50), slos=slos)
    found = compare(folder(tmp_path / "before", runs(5, seed=0)), after)
    assert [one.metric for one in found.gate] == ["error_rate_percent"]
    assert "The objectives differ; those of the candidate say which metrics the gate looks at." in found.marks


# Margins


@pytest.mark.parametrize(
    ("margins", "said"),
    [
        ({"error_rate": "1"}, "did you mean 'error_rate_percent'?"),
        ({"error_rate_percent": "1%"}, "accepted: a number above zero in points"),
        ({"mttr_seconds": "-1"}, "accepted: a number above zero in s, or with % of the baseline"),
        ({"mttr_seconds": "much"}, "the margin 'much' for mttr_seconds cannot be used"),
    ],
)
def test_a_margin_that_cannot_be_used_is_refused(margins: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        changes.margins(margins)


def test_a_level_or_a_scenario_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    before, after = folder(tmp_path / "before", runs(3, seed=0)), folder(tmp_path / "after", runs(3, seed=50))
    with pytest.raises(UsageError, match="the level 95 cannot be used"):
        compare(before, after, level=95)
    with pytest.raises(UsageError, match="did you mean 'Database Brief Outage'"):
        compare(before, after, scenarios=["Database Brief Outge"])


# Tables and files


def test_the_table_has_a_row_a_cell_and_the_document_no_nan(tmp_path: Path) -> None:
    found = compared(tmp_path, runs(5, seed=0), runs(5, seed=50, down=longer))
    assert len(found.table()) == len(found.cells) == len(changes.COMPARED)
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert json.loads(text)["answer"] == "worse"


def test_worse_is_to_the_right_whatever_the_metric(tmp_path: Path) -> None:
    table = compared(tmp_path, runs(5, seed=0), runs(5, seed=50, down=longer)).table().set_index("metric")
    for metric in ("error_rate_percent", "availability_percent", "longest_outage_seconds"):
        row = table.loc[metric]
        assert 1 < row["harm_low"] <= row["harm"] <= row["harm_high"]


# False alarms and power, by simulation; `make alarms` is the large version


@pytest.mark.parametrize(
    ("world", "size"), [("bimodal", (3, 10)), ("lognormal, σ 1", (5, 5)), ("rare failures", (5, 10))]
)
def test_the_same_build_twice_raises_an_alarm_in_at_most_one_comparison_of_twenty(
    world: str, size: tuple[int, int]
) -> None:
    found = false_alarms.false_alarms(world, size, trials=100, seed=1)
    assert found.ours <= 11  # of 100 with a true rate of 5 %: more happens once in a hundred times


def test_where_welch_and_holm_cry_wolf_the_comparison_does_not() -> None:
    found = false_alarms.false_alarms("bimodal", (3, 3), trials=100, seed=2)
    assert found.ours == 0
    assert found.welch_holm > 5


def test_outages_three_times_as_long_are_found_with_five_repeats() -> None:
    assert false_alarms.found_worse("lognormal, σ 0.3", (5, 5), 40, 1, factor=3.0, where=1) > 0.9


def test_the_smallest_p_says_how_many_scenarios_a_size_can_judge() -> None:
    assert effects.least_adjusted_p([(5, 5)] * 6) <= 0.05 < effects.least_adjusted_p([(5, 5)] * 7)
    assert effects.least_adjusted_p([(10, 3)] * 7) <= 0.05 < effects.least_adjusted_p([(10, 3)] * 8)
    assert np.isclose(effects.least_adjusted_p([(3, 3)]), 0.1)

"""A machine that changes while a campaign runs is told of, and one that does not is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from chaoslab.analysis import Analysis, analyse
from chaoslab.drift import FEWEST_RUNS, LEAST_CHANGE_PERCENT, _drift
from chaoslab.export import narrative
from tests.campaigns import make_campaign, make_run


def analysed(folder: Path, latencies: list[float]) -> Analysis:
    """Two scenarios, one of them a control, in turn; each run with its own latency."""
    runs = [
        make_run(
            "Control (no fault)" if place % 2 else "Light CPU Stress",
            place // 2 + 1,
            type="control" if place % 2 else "cpu_stress",
            latency_ms=latency,
            seed=place,
        )
        for place, latency in enumerate(latencies)
    ]
    return analyse(make_campaign(folder, runs))


def test_a_machine_that_grows_slower_is_told_of_with_size_and_doubt(tmp_path: Path) -> None:
    analysis = analysed(tmp_path / "c", [20.0 * 1.05**place for place in range(12)])

    baseline, control = analysis.drift
    assert (baseline.n, control.n) == (12, 6)
    assert baseline.change_percent == pytest.approx(100 * (1.05**11 - 1), rel=0.05)
    assert baseline.low is not None
    assert baseline.high is not None
    assert baseline.low < baseline.change_percent < baseline.high
    assert baseline.warns
    assert control.warns
    (first, second) = [problem.text for problem in narrative.problems(analysis)]
    assert first.startswith("The machine or the target drifted: baseline latency, p50 rose by 69 % [")
    assert second.startswith("The machine or the target drifted: control latency, p50 rose by ")
    assert dict(narrative.provenance(analysis))["Drift"].startswith("baseline latency, p50 rose by 69 % [")
    assert analysis.as_results()["drift"][0]["warns"] is True


def test_a_steady_machine_is_not(tmp_path: Path) -> None:
    analysis = analysed(tmp_path / "c", [20.0] * 12)

    assert not any(drift.warns for drift in analysis.drift)
    assert not narrative.problems(analysis)


def test_a_certain_but_small_drift_is_on_record_and_no_warning() -> None:
    found = _drift("x", [20.0 + 0.1 * place for place in range(12)])

    assert found.p_value is not None
    assert found.p_value < 0.001
    assert found.change_percent is not None
    assert found.change_percent < LEAST_CHANGE_PERCENT
    assert not found.warns


def test_a_change_of_less_than_a_millisecond_is_no_warning() -> None:
    found = _drift("x", [0.5 * 1.06**place for place in range(12)])

    assert found.change_percent is not None
    assert found.change_percent > 80
    assert not found.warns


def test_with_few_runs_nothing_is_claimed() -> None:
    found = _drift("x", [20.0, 30.0, 40.0, 50.0, None])

    assert (found.n, found.change_percent, found.p_value, found.warns) == (4, None, None, False)
    assert str(found) == "x: 4 of the 5 runs that it takes to tell"
    assert stats.kendalltau(range(FEWEST_RUNS - 1), range(FEWEST_RUNS - 1)).pvalue > 0.05


def test_the_p_value_is_that_of_kendall_and_the_slope_that_of_sen() -> None:
    """Sen 1968 and Mann 1945, as scipy has them; checked here on log-linear data with one stray."""
    values = [10.0, 11.0, 12.1, 9.0, 14.641, 16.1051]

    found = _drift("x", values)

    assert found.p_value == pytest.approx(stats.kendalltau(range(6), values).pvalue)
    assert found.change_percent == pytest.approx(100 * (1.1**5 - 1))


def test_false_alarms_are_fewer_than_one_in_twenty() -> None:
    generator = np.random.default_rng(5)
    warned = [any(_drift("x", list(generator.lognormal(3.0, 0.2, n))).warns for n in (12, 6)) for _ in range(1000)]

    assert np.mean(warned) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)

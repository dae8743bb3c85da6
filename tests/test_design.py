"""Planned repeats do what was promised of them, and where nothing is known nothing is promised."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from scipy import stats

from chaoslab import charts, intervals, plots, share
from chaoslab import design as planning
from chaoslab.design import Amount, design
from chaoslab.errors import UsageError
from chaoslab.intervals import Estimate
from chaoslab.report import notebook as notebooks
from chaoslab.scenario import Slo
from chaoslab.store import Campaign
from tests.campaigns import make_campaign, make_run
from tests.test_cli import chaoslab as run_command

TRIALS = 4000


def estimate(value: float = 50.0, spread: float | None = 10.0, n: int = 5, unit: str = "ms") -> Estimate:
    return Estimate(value=value, method="t", n=n, unit=unit, spread=spread)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    runs = [
        run
        for n in range(1, 6)
        for run in (
            make_run("Control (no fault)", n, type="control", seed=n),
            make_run("Light CPU Stress", n, down=[(6.0, 7.0 + n / 5)], seed=10 + n, jitter_ms=30),
        )
    ]
    return make_campaign(tmp_path_factory.mktemp("design") / "campaign", runs)


# The promises


@pytest.mark.parametrize(("first", "second"), [(3, 3), (5, 5), (20, 20), (3, 8), (5, 40)])
def test_the_power_is_that_of_welchs_test(first: int, second: int) -> None:
    rng = np.random.default_rng(first * 100 + second)
    effect = 2.5 if first < 20 else 0.9
    here, there = rng.normal(size=(TRIALS, first)), rng.normal(effect, 1.0, size=(TRIALS, second))
    found = (stats.ttest_ind(here, there, axis=1, equal_var=False).pvalue <= 0.05).mean()
    assert found == pytest.approx(planning.detection_power(effect, first, second), abs=0.02)


@pytest.mark.parametrize("effect", [0.9, 1.5, 2.5])
def test_planned_repeats_find_the_change_as_often_as_asked(effect: float) -> None:
    repeats = planning.repeats_to_detect(effect, power=0.8)
    assert repeats is not None
    rng = np.random.default_rng(round(10 * effect))
    here, there = (rng.normal(mean, 1.0, size=(TRIALS, repeats)) for mean in (0.0, effect))
    found = (stats.ttest_ind(here, there, axis=1, equal_var=False).pvalue <= 0.05).mean()
    assert found >= 0.8 - 0.02
    assert planning.detection_power(effect, repeats - 1, repeats - 1) < 0.8


def test_repeats_agree_with_cohens_table() -> None:
    """Cohen 1988, table 2.4.1, two-sided 5 %, power 0.80: pooled and Welch's test agree to a run from d = 1.4 down."""
    table = {0.2: 393, 0.5: 64, 0.8: 26, 1.0: 17, 1.4: 9}
    assert all(planning.repeats_to_detect(d) in (n, n + 1) for d, n in table.items())


@pytest.mark.parametrize("scale", ["identity", "log"])
@pytest.mark.parametrize("power", [0.5, 0.8])
def test_planned_repeats_keep_the_width_as_often_as_asked(scale: intervals.Scale, power: float) -> None:
    known = replace(estimate(spread=10.0 if scale == "identity" else 0.2), scale=scale)
    repeats = planning.repeats_for_width(known, 6.0, power=power)
    assert repeats is not None
    rng = np.random.default_rng(round(10 * power))
    spread = known.spread or 0.0
    spreads = rng.normal(0.0, spread, size=(TRIALS, repeats)).std(axis=1, ddof=1)
    spans = [intervals.with_repeats(replace(known, spread=float(seen)), repeats) for seen in spreads]
    kept = np.mean([(one.high or 0.0) - (one.low or 0.0) <= 12.0 for one in spans])
    assert kept >= power - 0.02
    assert kept <= power + 0.15  # not by far too many repeats


def test_the_interval_of_the_spread_covers_it() -> None:
    rng = np.random.default_rng(1)
    seen = rng.normal(0.0, 10.0, size=(TRIALS, 5)).std(axis=1, ddof=1)
    bounds = [planning.spread_interval(estimate(spread=float(spread))) for spread in seen]
    assert np.mean([low <= 10.0 <= high for low, high in bounds if low and high]) == pytest.approx(0.95, abs=0.015)


def test_the_smallest_detectable_change_is_found_as_often_as_asked() -> None:
    for repeats in (3, 5, 10):
        effect = planning.smallest_effect(repeats)
        assert planning.detection_power(effect, repeats, repeats) == pytest.approx(0.8, abs=1e-6)


def test_a_baseline_of_three_runs_limits_what_any_campaign_can_find() -> None:
    assert planning.repeats_to_detect(2.0, against=3) is None
    assert planning.repeats_to_detect(2.0) == 6


# One metric


def test_an_optimistic_plan_needs_fewer_repeats_than_a_pessimistic_one() -> None:
    plan = planning.plan("a", "latency_degradation_ms", estimate(), width=Amount(5.0), change=Amount(20.0))
    for repeats in (plan.width, plan.detect):
        assert repeats is not None
        assert repeats.optimistic is not None
        assert repeats.expected is not None
        assert repeats.pessimistic is not None
        assert repeats.optimistic < repeats.expected < repeats.pessimistic


def test_a_change_for_the_worse_goes_down_only_for_availability() -> None:
    """97 % has more room below than above: a fall by 2 points is less on the logit scale than a rise would be."""
    share = Estimate(value=97.0, method="t", n=5, unit="%", spread=0.3, scale="logit")
    down, up = (
        planning.plan("a", metric, share, change=Amount(2.0)).detect
        for metric in ("availability_percent", "error_rate_percent")
    )
    assert down is not None
    assert up is not None
    assert (down.expected or 0) > (up.expected or 0)


def test_a_change_that_cannot_be_is_said() -> None:
    share = Estimate(value=91.5, method="t", n=5, unit="%", spread=0.3, scale="logit")
    plan = planning.plan("a", "error_rate_percent", share, change=Amount(20.0, relative=True))
    assert plan.detect is None
    assert "would leave what error rate during injection can be" in plan.reason
    assert plan.detectable[5] is not None


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (estimate(n=2, spread=None), "no spread"),
        (intervals.mean_difference([5.0, 5.0, 5.0], unit="ms"), "all 3 runs gave the same value"),
        (intervals.mean_difference([5.0, 6.0], unit="ms"), "at least 3"),
        (intervals.restricted_mean([6.0, 6.0, 6.0], [True] * 3), "no recovery within 6 s in any run"),
        (intervals.proportion([0, 0, 0], [100, 100, 100], trials=300), "0 % in every run"),
        (intervals.not_measured("no probe", unit="ms"), "no probe"),
    ],
)
def test_without_a_spread_nothing_is_planned_and_the_reason_is_given(known: Estimate, words: str) -> None:
    plan = planning.plan("a", "mttr_seconds", known, width=Amount(1.0), change=Amount(1.0))
    assert words in plan.reason
    assert (plan.width, plan.detect, set(plan.detectable.values())) == (None, None, {None})


def test_where_nothing_failed_the_objective_is_a_matter_of_the_number_of_probes() -> None:
    known = intervals.proportion([0, 0, 0], [100, 100, 100], trials=300)
    slo = Slo(metric="error_rate_percent", threshold=1.0, comparison="<=", unit="%")
    [objective] = planning.plan("a", "error_rate_percent", known, slos=[slo]).objectives
    assert objective.repeats.expected == intervals.repeats_to_clear(known, 1.0)
    assert (objective.repeats.expected or 0) > 3


# A campaign


def test_a_campaign_tells_how_long_a_repeat_takes(campaign: Campaign) -> None:
    """Runs of 5 + 10 + 5 seconds with a pause of one."""
    found = design(campaign)
    assert found.seconds == pytest.approx({"Control (no fault)": 21.0, "Light CPU Stress": 21.0})
    assert found.duration(5) == pytest.approx(210.0)


def test_a_design_has_a_row_for_each_scenario_and_metric(campaign: Campaign) -> None:
    table = design(campaign, width="20%", detect="20%").table()
    assert len(table) == 2 * 5
    row = table.set_index(["scenario", "metric"]).loc[("Light CPU Stress", "mttr_seconds")]
    assert row["detectable_at_3"] > row["detectable_at_5"] > row["detectable_at_20"] > 0
    assert row["width_optimistic_repeats"] <= row["width_expected_repeats"] <= row["width_pessimistic_repeats"]
    assert row["slo_expected_repeats"] == 3
    control = table.set_index(["scenario", "metric"]).loc[("Control (no fault)", "mttr_seconds")]
    assert "no outage in 5 runs" in control["reason"]


def test_scenarios_and_metrics_can_be_chosen(campaign: Campaign) -> None:
    found = design(campaign, scenarios=["light cpu stress"], metrics=["latency_injection_p95_ms"], detect="5")
    assert [(plan.scenario, plan.metric) for plan in found.plans] == [("Light CPU Stress", "latency_injection_p95_ms")]
    assert list(found.seconds) == ["Light CPU Stress"]


def test_other_thresholds_can_be_planned_for(campaign: Campaign) -> None:
    slo = Slo(metric="mttr_seconds", threshold=1.7, comparison="<=", unit="s")
    table = design(campaign, scenarios=["Light CPU Stress"], metrics=["mttr_seconds"], slos=[slo]).table()
    assert table["threshold"].tolist() == [1.7]
    assert table["slo_expected_repeats"].iloc[0] > 3


def test_the_curve_falls_and_lies_between_its_ends(campaign: Campaign) -> None:
    curve = design(campaign, scenarios=["Light CPU Stress"], metrics=["mttr_seconds"]).curve()
    assert curve["change"].is_monotonic_decreasing
    assert (curve["low"] < curve["change"]).all()
    assert (curve["change"] < curve["high"]).all()


def test_a_design_is_json(campaign: Campaign) -> None:
    document = json.loads(json.dumps(design(campaign, width="20%").as_dict(), allow_nan=False))
    assert document["width"] == "20 %"
    assert document["plans"][0]["detectable"].keys() == {"3", "5", "10", "20"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"power": 1.0}, r"power is 1; accepted: a probability above 0 and below 1"),
        ({"width": "wide"}, r"width is 'wide'; accepted: a number above zero"),
        ({"detect": "-3"}, r"detect is '-3'"),
        ({"detect": "0"}, r"detect is '0'"),
        ({"detect": "2"}, r"detect is 2, but the metrics are in %, ms, s; accepted: a percentage"),
        ({"metrics": ["mtr_seconds"]}, r"no metric is called 'mtr_seconds' \(did you mean 'mttr_seconds'\?\)"),
        (
            {"scenarios": ["Light CPU"]},
            r"no scenario of the campaign is called 'Light CPU' \(did you mean 'Light CPU S",
        ),
    ],
)
def test_a_mistake_is_named_with_what_is_accepted(campaign: Campaign, options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        design(campaign, **options)  # type: ignore[arg-type]


# Figure, notebook and command


def words(ax: Axes) -> str:
    return " | ".join(text.get_text() for text in ax.findobj(Text) if isinstance(text, Text))


def test_the_curve_is_drawn_with_its_scenario_named_and_its_band_explained(campaign: Campaign) -> None:
    curve = design(campaign, metrics=["mttr_seconds"]).curve()
    ax = charts.detectable(curve, wanted=0.5)
    assert "Light CPU Stress, now 1.6" in words(ax)
    assert "95 % interval of the spread" in words(ax)
    assert "wanted: 0.500 s" in words(ax)
    assert "smallest change found, s" in words(ax)
    line = max(ax.lines, key=lambda line: len(np.atleast_1d(line.get_xdata())))
    assert np.asarray(line.get_ydata()) == pytest.approx(curve["change"].to_numpy())


def test_several_scenarios_are_lines_of_one_figure_whose_names_do_not_touch(campaign: Campaign) -> None:
    curve = design(campaign, metrics=["recovery_time_seconds"]).curve()
    curve = pd.concat([curve, curve.assign(scenario=curve["scenario"] + " too", change=1.01 * curve["change"])])
    ax = charts.detectable(curve)
    names = [text for text in ax.texts if ", now" in text.get_text()]
    assert len(names) == curve["scenario"].nunique()
    heights = sorted(text.get_position()[1] for text in names)
    assert np.diff(heights).min() >= 0.069
    assert not ax.collections  # bands of several scenarios would lie over each other


def test_a_figure_without_any_spread_says_so(campaign: Campaign) -> None:
    curve = design(campaign, scenarios=["Control (no fault)"], metrics=["mttr_seconds"]).curve()
    assert "no spread between runs is known" in words(charts.detectable(curve))


def test_the_figure_is_drawn_where_it_is_told(campaign: Campaign) -> None:
    ax = plots.figure().subplots()
    assert charts.detectable(design(campaign, metrics=["mttr_seconds"]).curve(), ax=ax) is ax


def test_the_notebook_runs_on_a_campaign_and_shows_the_design(campaign: Campaign, tmp_path: Path) -> None:
    executed = notebooks.execute(
        share.notebook("01_design_experiment.ipynb"),
        tmp_path / "design.ipynb",
        {"baseline": str(campaign.path), "metric": "mttr_seconds", "detect": "50%"},
        cwd=tmp_path,
    )
    page = notebooks.as_page(executed, title="Design")
    expected = design(campaign, width="20%", detect="50%")
    assert expected.words()["to find 50 %"].iloc[5] in page
    assert expected.cost() in page
    assert "<figcaption>The smallest change" in page


def test_the_command_prints_what_the_design_says(campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", str(campaign.path), "--detect", "50%", "--metric", "mttr_seconds", "--environment", "staging"]
    assert run_command(*arguments) == 0
    printed = capsys.readouterr().out
    assert design(campaign).plans[5].scenario in printed
    assert "≤ 45 s: 3" in printed
    assert "Control (no fault), MTTR: no spread is known: no outage in 5 runs" in printed
    assert "5 repeats take 4 min" in printed
    assert run_command(*arguments, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["change"] == "50 %"
    assert document["plans"][1]["detect"]["expected"] >= 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/nonexistent"], "is not a campaign folder"),
        (["--power", "2"], "power is 2; accepted"),
        (["--detect", "2"], "accepted: a percentage of the value ('2%')"),
        (["--environment", "prod"], "did you mean 'production'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence_and_ends_with_2(
    campaign: Campaign, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = [] if arguments[0].startswith("/") else [str(campaign.path)]
    assert run_command("plan", *folder, *arguments) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1

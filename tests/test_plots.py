"""Figures say what the tables say, with shapes and words, and leave nothing behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.text import Text

from chaoslab import plots
from chaoslab.analysis import analyse
from chaoslab.intervals import Estimate
from chaoslab.report import sections
from chaoslab.store import Campaign
from tests.campaigns import make_campaign, make_dose, make_run
from tests.overlaps import overlaps


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    runs = [make_run(repeat=repeat, down=[(6.0, 8.0)], seed=repeat, jitter_ms=30) for repeat in (1, 2, 3)]
    return make_campaign(tmp_path_factory.mktemp("plots") / "campaign", runs)


@pytest.fixture
def probes(campaign: Campaign) -> list[plots.Series]:
    return [
        plots.Series(run=run, rows=campaign.probes_of(run), outages=((run.baseline_us + 6e6, run.baseline_us + 8e6),))
        for run in campaign.runs
    ]


@pytest.fixture
def samples(campaign: Campaign) -> list[plots.Series]:
    return [plots.Series(run=run, rows=campaign.resources_of(run)) for run in campaign.runs]


def estimate(value: float | None, low: float | None = None, high: float | None = None, unit: str = "s") -> Estimate:
    return Estimate(value=value, low=low, high=high, method="t", n=3, unit=unit)


def texts(ax: Axes) -> str:
    return " | ".join(text.get_text() for text in ax.findobj(Text) if isinstance(text, Text))


def strokes(ax: Axes) -> list[np.ndarray]:
    """Heights of the ends of each stroke, path by path."""
    return [np.asarray(patch.get_path().vertices)[:, 1] for patch in ax.patches if isinstance(patch, PathPatch)]


def test_a_timeline_counts_seconds_from_the_injection(probes: list[plots.Series]) -> None:
    ax = plots.timeline(probes)
    assert ax.get_xlim() == pytest.approx((-5.0, 15.0))
    assert "s since the injection started" in texts(ax)
    assert "latency, ms" in texts(ax)


def test_a_timeline_labels_the_injection(probes: list[plots.Series]) -> None:
    assert "cpu stress" in texts(plots.timeline(probes, fault="cpu stress"))


def test_no_extreme_is_lost_when_a_long_series_is_drawn_in_columns(probes: list[plots.Series]) -> None:
    rows = pd.concat([probes[0].rows] * 40, ignore_index=True)
    rows["scheduled_us"] = np.linspace(probes[0].run.baseline_us, probes[0].run.finished_us - 1, len(rows)).astype(int)
    rows.loc[4321, ["latency_us", "outcome"]] = [987_654, "success"]
    ax = plots.timeline([plots.Series(run=probes[0].run, rows=rows)])
    drawn = strokes(ax)[0]
    good = rows.loc[rows["outcome"] == "success", "latency_us"] / 1e3
    assert (drawn.min(), drawn.max()) == pytest.approx((good.min(), 987.654))
    assert len(drawn) <= 2 * 240


def test_the_median_breaks_where_nothing_succeeded(probes: list[plots.Series]) -> None:
    ax = plots.timeline(probes)
    x, y = max((line.get_data() for line in ax.lines), key=lambda data: len(data[0]))
    inside = (np.asarray(x, dtype=float) > 1.1) & (np.asarray(x, dtype=float) < 2.9)
    assert inside.any()
    assert np.isnan(np.asarray(y, dtype=float)[inside]).all()


def test_a_service_that_never_succeeds_is_said_in_words(probes: list[plots.Series]) -> None:
    rows = probes[0].rows.assign(outcome="failure")
    assert "no probe succeeded" in texts(plots.timeline([plots.Series(run=probes[0].run, rows=rows)]))


def test_an_open_outage_points_beyond_the_end(probes: list[plots.Series]) -> None:
    series = plots.Series(run=probes[0].run, rows=probes[0].rows, outages=((probes[0].run.baseline_us + 6e6, None),))
    assert ">" in [line.get_marker() for line in plots.timeline([series]).lines]


def test_nothing_recorded_is_an_empty_picture_not_an_error() -> None:
    assert "no probe succeeded" in texts(plots.timeline([]))


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_the_latency_axis_ends_at_its_limits_below_the_lines_of_failures(
    probes: list[plots.Series], scale: plots.Scale
) -> None:
    ticks = plots.timeline(probes, scale=scale, limits=(1, 1000)).get_yticks()
    assert max(ticks) == pytest.approx(1000)


def test_an_unknown_scale_is_refused(probes: list[plots.Series]) -> None:
    with pytest.raises(ValueError, match="accepted: log, linear"):
        plots.timeline(probes, scale="logarithmic")  # type: ignore[arg-type]


def test_limits_hold_every_success_and_are_round(campaign: Campaign) -> None:
    low, high = plots.latency_limits([campaign.probes])
    assert (low, high) == (20.0, 200.0)  # 20 to 50 ms, and at least a decade
    assert plots.latency_limits([]) == (1.0, 1000.0)


@pytest.mark.parametrize("resource", ["cpu", "memory", "disk", "network"])
def test_resources_are_drawn_a_line_for_each_repeat(samples: list[plots.Series], resource: plots.Resource) -> None:
    ax = plots.resources(samples, resource=resource)
    assert len([line for line in ax.lines if len(np.atleast_1d(line.get_xdata())) > 2]) == 3


def test_counters_are_drawn_as_rates(samples: list[plots.Series]) -> None:
    line = plots.resources(samples, resource="disk").lines[0]
    assert np.asarray(line.get_ydata()) == pytest.approx(8192 / 0.5 / 1e6)


def test_each_outcome_has_a_shape_and_a_word_of_its_own() -> None:
    rows = [
        plots.Row(label="a", estimate=estimate(1, 0.5, 2), outcome="pass"),
        plots.Row(label="b", estimate=estimate(9, 8, 10), outcome="fail"),
        plots.Row(label="c", estimate=estimate(4, 3, 6), outcome="inconclusive"),
    ]
    ax = plots.slo(rows, threshold=5, comparison="<=", unit="s")
    assert {"o", "X", "D"} <= {line.get_marker() for line in ax.lines}
    for words in ("1.00 s [0.500, 2.00] · pass", "· FAIL", "· inconclusive", "≤ 5 s"):
        assert words in texts(ax)


def test_objectives_of_several_metrics_have_an_axis_and_a_threshold_each() -> None:
    rows = [
        plots.Judged(label="MTTR", estimate=estimate(3, 2, 4), outcome="pass", threshold=30, comparison="<="),
        plots.Judged(
            label="availability", estimate=estimate(80, 70, 90, unit="%"), outcome="fail", threshold=95, comparison=">="
        ),
        plots.Judged(label="never", estimate=estimate(None), outcome="inconclusive", threshold=5, comparison="<="),
    ]
    ax = plots.slos(rows)
    for words in ("≤ 30 s", "≥ 95 %", "3.00 s [2.00, 4.00] · pass", "80.00 % [70.00, 90.00] · FAIL", "not measured"):
        assert words in texts(ax)
    marks = {
        line.get_marker(): float(np.asarray(line.get_xdata())[0]) for line in ax.lines if line.get_marker() in "oX"
    }
    assert 0.1 < marks["o"] < 0.2  # 3 of 0 to 30
    assert 0.4 < marks["X"] < 0.6  # 80 of 70 to 95
    assert [line.get_marker() for line in ax.lines].count("o") == 1


def test_what_was_not_measured_is_a_word_and_no_mark() -> None:
    ax = plots.slo([plots.Row(label="a", estimate=estimate(None))], threshold=5, comparison="<=", unit="s")
    assert "not measured" in texts(ax)
    assert len(ax.lines) == 1  # the threshold


def test_an_interval_that_leaves_the_axis_ends_in_an_arrow() -> None:
    row = plots.Row(label="a", estimate=estimate(4, 3, 4000), outcome="inconclusive")
    ax = plots.slo([row], threshold=5, comparison="<=", unit="s")
    assert ">" in [line.get_marker() for line in ax.lines]
    assert ax.get_xlim()[1] < 100


def test_a_recovery_curve_is_a_share_with_censored_ticks() -> None:
    curve = pd.DataFrame({"seconds": [1.0, 2.0], "recovered": [0.25, 0.5], "low": [0.0, 0.1], "high": [0.7, 0.9]})
    ax = plots.recovery_curve(curve, censored=[3.0], label="a", threshold=2.5)
    step, ticks = ax.lines[:2]
    assert np.asarray(step.get_ydata())[-1] == 0.5
    assert (list(np.atleast_1d(ticks.get_xdata())), list(np.atleast_1d(ticks.get_ydata()))) == ([3.0], [0.5])


def test_the_band_of_a_recovery_curve_ends_where_there_is_none() -> None:
    """Where all have recovered, Greenwood's formula has no value; the step before keeps its whole length."""
    sides = {"low": [0.1, np.nan], "high": [0.9, np.nan]}
    ax = plots.recovery_curve(pd.DataFrame({"seconds": [1.0, 3.0], "recovered": [0.5, 1.0], **sides}), until=5)
    corners = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    band = corners[corners[:, 1] > 0.5]
    assert (band[:, 0].min(), band[:, 0].max()) == (1.0, 3.0)


def test_a_dose_out_of_tolerance_has_another_shape_and_its_number() -> None:
    doses = [make_dose(), make_dose(delivered=1.0), make_dose(delivered=None)]
    ax = plots.dose([("CPU", doses)])
    assert {"o", "X"} <= {line.get_marker() for line in ax.lines}
    assert "asked 2 cores, measured 1 to 1.98, 1 run not measured" in texts(ax)


def test_every_function_draws_where_it_is_told_and_returns_it(
    probes: list[plots.Series], samples: list[plots.Series]
) -> None:
    axes = list(plots.figure().subplots(5))
    curve = pd.DataFrame({"seconds": [1.0], "recovered": [1.0]})
    assert plots.timeline(probes, ax=axes[0]) is axes[0]
    assert plots.resources(samples, ax=axes[1]) is axes[1]
    assert plots.slo([], ax=axes[2], threshold=1, comparison="<=", unit="s") is axes[2]
    assert plots.recovery_curve(curve, ax=axes[3]) is axes[3]
    assert plots.dose([], ax=axes[4]) is axes[4]


@pytest.mark.parametrize("repeats", [1, 2, 5])
def test_no_words_lie_over_each_other_in_a_report(
    repeats: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(repeat=n, type="memory_stress", down=[(6.0, 8.0)], seed=n) for n in range(1, repeats + 1)]
    assert drawn_overlaps(make_campaign(tmp_path / "campaign", runs), monkeypatch) == []


def test_no_words_lie_over_each_other_in_the_report_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        drawn_overlaps(Campaign.open(Path(__file__).parents[1] / "data" / "reference" / "fragile"), monkeypatch) == []
    )


def drawn_overlaps(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Draw all figures of a campaign's report; return the words in them that lie over each other."""
    found: list[tuple[str, str]] = []
    drawn = plots.picture

    def spied(figure: Figure, **options: Any) -> plots.Picture:
        made = drawn(figure, **options)
        found.extend(overlaps(figure))
        return made

    monkeypatch.setattr(plots, "picture", spied)
    analysis = analyse(campaign)
    for section in (sections.scenarios(analysis, campaign), sections.recovery(analysis), sections.doses(analysis)):
        assert "<img" in section.html
    return found


def test_words_over_each_other_are_found() -> None:
    figure = plots.figure()
    figure.text(0.5, 0.5, "failed")
    figure.text(0.5, 0.51, "outage")
    assert overlaps(figure) == [("failed", "outage")]


def test_drawing_leaves_the_global_settings_alone(probes: list[plots.Series]) -> None:
    before = dict(mpl.rcParams)
    plots.picture(plots.timeline(probes), alt="a")
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported() -> None:
    code = "import sys, chaoslab.plots; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_equal_figures_are_equal_bytes(probes: list[plots.Series]) -> None:
    first, second = (plots.picture(plots.timeline(probes), alt="a").svg for _ in range(2))
    assert first == second


HOSTILE = "</text><script>alert('$x$')</script> & \x00 \U0001f4a5 $\\frac{1}{0}$"


def test_a_hostile_name_stays_text(probes: list[plots.Series]) -> None:
    rows = [plots.Row(label=HOSTILE, estimate=estimate(1, 0.5, 2), outcome="pass")]
    figure = plots.figure()
    timeline, slo = figure.subplots(2)
    plots.timeline(probes, ax=timeline, fault=HOSTILE)
    plots.slo(rows, ax=slo, threshold=5, comparison="<=", unit="s")
    picture = plots.picture(figure, alt=HOSTILE, caption=HOSTILE)
    tree = ElementTree.fromstring(picture.svg)
    assert not [element for element in tree.iter() if element.tag.endswith("script")]
    assert "alert('$x$')" in "".join(tree.itertext())
    assert "<script" not in picture._repr_html_()


def test_a_picture_follows_the_readers_colours(probes: list[plots.Series]) -> None:
    svg = plots.picture(plots.timeline(probes), alt="a").svg
    assert "prefers-color-scheme:dark" in svg
    assert plots.INK not in svg.replace(f":{plots.INK};", "")
    assert not re.search(r'(href|src)="(?!#)', svg)


def test_a_picture_of_a_long_series_stays_small(probes: list[plots.Series]) -> None:
    rows = pd.concat([probes[0].rows] * 100, ignore_index=True)
    rows["scheduled_us"] = np.linspace(probes[0].run.baseline_us, probes[0].run.finished_us - 1, len(rows)).astype(int)
    series = plots.Series(run=probes[0].run, rows=rows)
    assert len(plots.picture(plots.timeline([series] * 5), alt="a").svg) < 100_000


def test_a_shown_picture_has_alternative_text_and_caption(tmp_path: Path) -> None:
    html = plots.picture(plots.figure(), alt='say "so"', caption="a < b")._repr_html_()
    assert 'alt="say &#34;so&#34;"' in html
    assert "<figcaption>a &lt; b</figcaption>" in html

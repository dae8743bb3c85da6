"""The report's figures: `plots` laid out and captioned, on the same scales for every scenario."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from chaoslab import plots
from chaoslab.export import narrative
from chaoslab.records import ErrorKind, Event
from chaoslab.wording import METRIC_NAMES, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from chaoslab.analysis import Analysis, ScenarioResult
    from chaoslab.metrics import Span
    from chaoslab.store import Campaign, Run

_ALSO_SHOWN: Final[dict[str, plots.Resource]] = {
    "memory_stress": "memory",
    "disk_stress": "disk",
    "network_latency": "network",
    "packet_loss": "network",
}
"""What of the host is drawn beneath a timeline, besides the CPU."""

_COLUMNS: Final = 3


def timeline(
    result: ScenarioResult, campaign: Campaign, *, scale: plots.Scale = "log", limits: plots.Limits | None = None
) -> plots.Picture | None:
    """Draw the latencies of a scenario's usable runs, over the host's load; of all, if none is usable; None without."""
    outages = {run.repeat: tuple((o.began_us, o.ended_us) for o in run.outages) for run in result.runs}
    runs = _drawn_runs(result, campaign)
    if not runs:
        return None
    below: list[plots.Resource] = ["cpu", *dict.fromkeys(_ALSO_SHOWN[t] for t in _types(result) if t in _ALSO_SHOWN)]
    spans = fault_spans(runs)
    strip = [0.22 * len(spans) + 0.1] if spans else []
    heights = [3.0, *strip, *[0.95] * len(below)]
    height = sum(heights) + 0.15 * len(runs) + 0.8
    # Fixed margins: time axes are as wide in every scenario, and nothing has to be drawn twice to find them.
    figure = plots.row_figure(height, left=0.95, right=2.4 if spans else 0.8)
    figure.subplots_adjust(bottom=0.5 / height, hspace=0.12)
    axes = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    if spans:
        plots.faults(spans, ax=axes.pop(1)).set_xlabel("")
    probes = [
        plots.Series(run=run, rows=judged(campaign.probes_of(run), campaign), outages=outages.get(run.repeat, ()))
        for run in runs
    ]
    limits = limits or plots.latency_limits(series.rows for series in probes)
    plots.timeline(probes, ax=axes[0], scale=scale, limits=limits, fault=_fault_label(result))
    samples = [plots.Series(run=run, rows=campaign.resources_of(run)) for run in runs]
    for ax, resource in zip(axes[1:], below, strict=True):
        plots.resources(samples, ax=ax, resource=resource)
    _one_time_axis(figure.axes)
    for ax in figure.axes:  # names at fixed places stand in one line, and no label of a tick is measured for it
        box = ax.get_position()
        ax.yaxis.set_label_coords(-0.55 / (box.width * figure.get_figwidth()), 0.5)
        ax.xaxis.set_label_coords(0.5, -0.27 / (box.height * height))
    detail = plots.Detail(name=result.name, repeats=probes, ax=axes[0], limits=limits)
    return plots.picture(figure, alt=_timeline_alt(result), caption=_timeline_caption(result, len(runs)), detail=detail)


def _one_time_axis(axes: Sequence[Axes]) -> None:
    """Draw the ticks of a time axis that all share at the lowest, and of the others only their lines."""
    first, last = axes[-1].get_xlim()
    ticks = [tick for tick in axes[-1].get_xticks() if first <= tick <= last]
    for ax in axes[:-1]:
        ax.xaxis.set_visible(False)
        ax.vlines(ticks, 0, 1, transform=ax.get_xaxis_transform(), color=plots.RULE, lw=0.6, zorder=0.4)


def _types(result: ScenarioResult) -> list[str]:
    """Return the failure types of a scenario's faults."""
    return [str(part["type"]) for part in result.planned.get("faults", [result.planned])]


def fault_spans(runs: Sequence[Run]) -> list[plots.FaultSpan]:
    """Return when each of a scenario's several faults was there, in the median run; empty where there is only one."""
    steps = pd.DataFrame(
        [
            (step["detail"]["fault"], run.repeat, step["event"], (step["at_us"] - run.injection_us) / 1e6)
            for run in runs
            for step in run.steps
            if run.injection_us is not None and "fault" in step["detail"]
        ],
        columns=["fault", "repeat", "event", "seconds"],
    )
    instants = steps.groupby(["event", "fault", "repeat"], sort=False)["seconds"].agg(["min", "max"])
    typical = instants.groupby(["event", "fault"], sort=False).median()
    return [
        plots.FaultSpan(label=fault, began=typical["min"][Event.DO, fault], ended=typical["max"][Event.UNDO, fault])
        for fault in dict.fromkeys(steps["fault"])
        if (Event.UNDO, fault) in typical.index
    ]


def _drawn_runs(result: ScenarioResult, campaign: Campaign) -> list[Run]:
    recorded = [run for run in campaign.runs if run.scenario == result.name]
    usable = {run.repeat for run in result.runs}
    return [run for run in recorded if run.repeat in usable] or recorded


def _fault_label(result: ScenarioResult) -> str:
    return "nothing injected" if result.type == "control" else f"injection: {result.type.replace('_', ' ')}"


def _timeline_alt(result: ScenarioResult) -> str:
    return f"{result.name}: latency of probes over time, with failed probes, outages and the host's load. " + " ".join(
        narrative.story(result)
    )


def _timeline_caption(result: ScenarioResult, count: int) -> str:
    together = " over each other" if count > 1 else ""
    which = f"{plural(count, 'run')}{together if result.runs else ', none of which counts'}"
    return f"{result.name}: latency of probes and load of the host, {which}."


def judged(probes: pd.DataFrame, campaign: Campaign) -> pd.DataFrame:
    """Return the probes that the analysis counts: the health check's, without any that the prober never sent."""
    name = (campaign.meta.get("probe") or {}).get("name", "health")
    found: pd.DataFrame = probes[(probes["probe"] == name) & (probes["error"] != ErrorKind.UNSENT)]
    return found


def objectives(result: ScenarioResult, limits: dict[str, plots.Limits]) -> plots.Picture:
    """Draw a scenario's estimates against its objectives, each on an axis of its own, scaled alike in all scenarios."""
    rows = [
        plots.Judged(
            label=narrative.metric_name(verdict),
            estimate=verdict.estimate,
            outcome=verdict.outcome,
            threshold=verdict.slo.threshold,
            comparison=verdict.slo.comparison,
            limits=limits[verdict.slo.metric],
        )
        for verdict in result.verdicts
    ]
    figure = plots.row_figure(0.35 + 0.55 * len(rows))
    figure.subplots_adjust(bottom=0.05 / figure.get_figheight())
    plots.slos(rows, ax=figure.subplots())
    said = ". ".join(f"{narrative.metric_name(v)}: {narrative.outcome(v)}" for v in result.verdicts)
    return plots.picture(figure, alt=f"{result.name}: estimates and intervals against the objectives. {said}.")


def objective_limits(analysis: Analysis) -> dict[str, plots.Limits]:
    """Return the limits of each metric's axis, the same for every scenario."""
    limits = {}
    for metric in METRIC_NAMES:
        verdicts = [verdict for verdict in analysis.verdicts if verdict.slo.metric == metric]
        if verdicts:
            estimates = [verdict.estimate for verdict in verdicts]
            spans = [plots.slo_limits(estimates, verdict.slo.threshold) for verdict in verdicts]
            limits[metric] = (min(low for low, _ in spans), max(high for _, high in spans))
    return limits


def doses(analysis: Analysis) -> plots.Picture:
    """Draw asked against measured doses, a row for each quantity of each scenario."""
    rows = narrative.dose_rows(analysis)
    figure = plots.row_figure(0.65 + 0.34 * len(rows), left=3.2, right=4.2)
    plots.dose([(f"{row.scenario}: {row.quantity}", row.doses) for row in rows], ax=figure.subplots())
    said = " ".join(f"{row.scenario}, {row.quantity}: asked {row.asked}, measured {row.measured}." for row in rows)
    caption = "Each mark is one run; the bar is the tolerance; a circle lies within it, a cross does not."
    return plots.picture(figure, alt=f"Measured doses as percent of what was asked. {said}", caption=caption)


def recoveries(analysis: Analysis) -> plots.Picture | None:
    """Draw the share of runs recovered over time, a panel for each scenario; None if no run had one to make."""
    spans = {r.name: found for r in analysis.scenarios if (found := [run.recovery for run in r.runs if run.recovery])}
    if not spans:
        return None
    until = 1.05 * max(1.0, *(span.seconds for found in spans.values() for span in found))
    threshold = next((slo.threshold for slo in analysis.slos if slo.metric == "recovery_time_seconds"), None)
    rows = math.ceil(len(spans) / _COLUMNS)
    height = 0.75 + 1.75 * rows
    figure = plots.row_figure(height, left=0.75, right=0.1)
    figure.subplots_adjust(bottom=0.5 / height, wspace=0.08, hspace=0.45)
    axes: Sequence[Axes] = list(figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False).ravel())
    for ax, (name, found) in zip(axes, spans.items(), strict=False):
        never = [span.seconds for span in found if span.censored]
        plots.recovery_curve(kaplan_meier(found), ax=ax, censored=never, until=until, label=name, threshold=threshold)
    for place, ax in enumerate(axes):
        ax.set_visible(place < len(spans))
        ax.set_ylabel(ax.get_ylabel() if place % _COLUMNS == 0 else "")
        ax.set_xlabel(ax.get_xlabel() if place + _COLUMNS >= len(spans) else "")
    said = " ".join(_recovery_words(name, found) for name, found in spans.items())
    caption = (
        "Kaplan–Meier estimate. A tick is a run whose window ended before it had recovered; the band is the pointwise "
        f"95 % interval, where it exists (from 3 runs on).{_allowed(threshold, until)}"
    )
    return plots.picture(figure, alt=f"Share of runs recovered over time. {said}", caption=caption)


def _allowed(threshold: float | None, until: float) -> str:
    if threshold is None:
        return ""
    where = "the dashed line" if threshold <= until else "beyond this axis"
    return f" The objective allows {threshold:g} s: {where}."


def _recovery_words(name: str, found: Sequence[Span]) -> str:
    back = sum(not span.censored for span in found)
    return f"{name}: {back} of {plural(len(found), 'run')} recovered."


def kaplan_meier(spans: Sequence[Span]) -> pd.DataFrame:
    """Return `seconds` and the share `recovered` by then, with a log-log band from three runs on.

    scipy.stats.ecdf gives the estimate and Greenwood's variance; Kaplan and Meier (1958), doi:10.2307/2281868.
    """
    from scipy.stats import CensoredData, ecdf  # takes half a second, and not every campaign has an outage

    known = [span.seconds for span in spans if not span.censored]
    never = [span.seconds for span in spans if span.censored]
    survival = ecdf(CensoredData(uncensored=known, right=never)).sf
    steps = np.isin(survival.quantiles, known)
    curve = pd.DataFrame({"seconds": survival.quantiles[steps], "recovered": 1 - survival.probabilities[steps]})
    if len(spans) < 3 or curve.empty:
        return curve
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # Greenwood's variance has no value where all have recovered; the band is NaN there, and not drawn.
        warnings.filterwarnings("ignore", message="The confidence interval is undefined", category=RuntimeWarning)
        band: Any = survival.confidence_interval(method="log-log")
    return curve.assign(low=1 - band.high.probabilities[steps], high=1 - band.low.probabilities[steps])

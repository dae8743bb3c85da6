"""Figures over time: latencies and failures of the probes, load of the host, and when each fault was there.

Time axes are seconds since the injection started, so that repeats lie over each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from chaoslab.plots.canvas import Limits, axes_or_new, beside, log_ticks, plain, printable
from chaoslab.plots.palette import BLUE, INK, MUTED, ORANGE, RULE, SHADE, SMALL, TEXT
from chaoslab.records import LAG_LIMIT_US, Outcome, RunState
from chaoslab.store import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

Scale = Literal["log", "linear"]

_SINCE: Final = "s since the injection started"

_BINS: Final = 240
"""Columns that a long series is drawn in: about one for each three pixels of a full-width figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One run's rows, as a time plot needs them: the run, its probes or samples, and its outages.

    `outages` are (first, last) in microseconds since the campaign's anchor; last is None where the service had not
    answered again when the run ended.
    """

    run: Run
    rows: pd.DataFrame
    outages: tuple[tuple[float, float | None], ...] = ()

    @property
    def origin_us(self) -> int:
        """The instant that is drawn as 0: the start of the injection, else of the run."""
        return self.run.baseline_us if self.run.injection_us is None else self.run.injection_us

    def seconds(self, column: str) -> NDArray[np.float64]:
        """Return the instants of `column` as seconds since the origin."""
        return (self.rows[column].to_numpy(dtype=float) - self.origin_us) / 1e6

    def since_origin(self, instant_us: float) -> float:
        """Return an instant as seconds since the origin."""
        return (instant_us - self.origin_us) / 1e6


def series(table: pd.DataFrame, at: str) -> list[Series]:
    """Return the runs of a table that holds the rows of one scenario, such as a part of `campaign.probes`.

    Args:
        table: its column `repeat` tells runs apart; `injection_us` and `recovery_us`, where it has them, are the
            instants at which the run's injection and recovery began.
        at: the column of instants in microseconds, `scheduled_us` or `at_us`.
    """
    return [Series(run=_told(rows, int(str(repeat)), at), rows=rows) for repeat, rows in table.groupby("repeat")]


def _told(rows: pd.DataFrame, repeat: int, at: str) -> Run:
    """Return what the rows themselves say of their run."""
    injection, recovery = (
        int(rows[name].iloc[0]) if name in rows else None for name in ("injection_us", "recovery_us")
    )
    return Run(
        scenario="",
        repeat=repeat,
        state=RunState.COMPLETED,
        reason="",
        steady=True,
        baseline_us=int(rows[at].min()),
        injection_us=injection,
        recovery_us=recovery,
        fault_over_us=recovery,
        finished_us=int(rows[at].max()),
    )


def timeline(
    repeats: Sequence[Series] | pd.DataFrame,
    *,
    ax: Axes | None = None,
    scale: Scale = "log",
    limits: Limits | None = None,
    fault: str = "injection",
) -> Axes:
    """Draw the latency of each successful probe over time, and above it each repeat's failed probes and outages.

    A stroke spans the fastest to the slowest success of one repeat in one column of the time axis, so that no extreme
    is lost however long the series; a column with one probe is a dot. The line is the median over all repeats; it
    breaks where nothing succeeded. Failed probes are ticks on the repeat's own line, outages the bars under them. A
    notch at the bottom marks a column with a probe that the prober sent late (`records.LAG_LIMIT_US`).

    Args:
        repeats: the runs of one scenario, whose `rows` are probes as in `records.PROBES`; or a table of them, as
            `series` takes it.
        ax: where to draw; a new figure's axes if None.
        scale: of the latency axis, which is in ms.
        limits: of the latency axis, in ms, to compare scenarios; from the data if None.
        fault: what the shaded span is called.
    """
    ax = axes_or_new(ax)
    repeats = series(repeats, "scheduled_us") if isinstance(repeats, pd.DataFrame) else repeats
    window = window_of(repeats)
    edges = np.linspace(*window, _BINS + 1)
    limits = limits or latency_limits([one.rows for one in repeats])
    top = _latency_axis(ax, limits, scale, lanes=len(repeats))
    for one in repeats:
        _strokes(ax, edges, one, alpha=max(0.3, 1 / len(repeats)))
    if any(np.isfinite(latencies(one.rows)).any() for one in repeats):
        _median_line(ax, edges, repeats)
    else:
        ax.text(0.5, 0.3, "no probe succeeded", transform=ax.transAxes, ha="center", color=MUTED, size=TEXT)
    _lanes(ax, repeats, edges, top)
    _late(ax, repeats, edges)
    _injection(ax, repeats, fault)
    _time_axis(ax, window)
    return ax


def latency_limits(tables: Iterable[pd.DataFrame]) -> Limits:
    """Return limits in ms that hold every success of the probe tables, rounded outward to 1, 2 or 5 × 10ⁿ."""
    low, high = math.inf, 0.0
    for table in tables:
        good = table.loc[(table["outcome"] == Outcome.SUCCESS).to_numpy(), "latency_us"].to_numpy()
        if len(good):
            low, high = min(low, float(good.min()) / 1e3), max(high, float(good.max()) / 1e3)
    if low > high:
        return (1.0, 1000.0)
    low = max(low, 0.01)
    high = max(low, high)
    floor = _round_125(low, up=False)
    return (floor, max(_round_125(high, up=True), 10 * floor))


_RESOURCES: Final = {
    "cpu": ("host CPU, %", "cpu_percent", False, 1.0),
    "memory": ("memory, GB", "memory_used_bytes", False, 1e-9),
    "disk": ("writes, MB/s", "disk_written_bytes", True, 1e-6),
    "network": ("sent, MB/s", "network_sent_bytes", True, 1e-6),
}
"""Label, column, whether the column is a counter, and factor of what `resources` draws."""

Resource = Literal["cpu", "memory", "disk", "network"]


def resources(
    repeats: Sequence[Series] | pd.DataFrame,
    *,
    ax: Axes | None = None,
    resource: Resource = "cpu",
    limits: Limits | None = None,
) -> Axes:
    """Draw one resource of the host over time, a line for each repeat.

    Args:
        repeats: the runs of one scenario, whose `rows` are samples as in `records.RESOURCES`; or a table of them, as
            `series` takes it.
        ax: where to draw, often beneath a timeline and sharing its time axis; a new figure's axes if None.
        resource: which one; counters are drawn as rates.
        limits: of the value axis; from the data if None, and always 0 to 100 for the CPU.
    """
    ax = axes_or_new(ax)
    label, column, counter, factor = _RESOURCES[resource]
    repeats = series(repeats, "at_us") if isinstance(repeats, pd.DataFrame) else repeats
    for one in repeats:
        seconds, values = one.seconds("at_us"), one.rows[column].to_numpy(dtype=float) * factor
        if counter:
            seconds, values = seconds[1:], np.diff(values) / np.maximum(np.diff(seconds), 1e-6)
        ax.plot(seconds, values, color=BLUE, lw=1.0, alpha=max(0.6, 1 / max(1, len(repeats))))
    plain(ax)
    if resource == "cpu":
        limits = (0.0, 100.0)
        ax.yaxis.set_major_locator(FixedLocator([0, 50, 100]))
    elif limits is None:
        ax.set_ylim(bottom=0)
    if limits is not None:
        ax.set_ylim(*limits)
    ax.set_ylabel(label, color=MUTED, size=SMALL)
    _injection(ax, repeats, "")
    _time_axis(ax, window_of(repeats))
    return ax


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpan:
    """From the first `do` to the undo of one of several faults, in seconds since the injection started."""

    label: str
    began: float
    ended: float


def faults(spans: Sequence[FaultSpan] | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw when each of several faults was there, a bar for each, named beside it.

    Args:
        spans: from top to bottom; or a table with the columns label, began and ended.
        ax: where to draw, often beneath a timeline and sharing its time axis; a new figure's axes if None.
    """
    ax = axes_or_new(ax)
    if isinstance(spans, pd.DataFrame):
        rows = zip(spans["label"], spans["began"], spans["ended"], strict=True)
        spans = [FaultSpan(label=str(label), began=began, ended=ended) for label, began, ended in rows]
    for place, span in enumerate(spans):
        ax.barh(place, span.ended - span.began, left=span.began, height=0.55, color=MUTED, lw=0)
        beside(ax, 1.006, 1 - (place + 0.5) / len(spans), printable(span.label), ha="left")
    plain(ax)
    ax.set_ylim(len(spans) - 0.5, -0.5)
    ax.yaxis.set_major_locator(NullLocator())
    ax.set_ylabel("faults", color=MUTED, size=SMALL)
    ax.set_xlabel(_SINCE, color=MUTED, size=SMALL)
    return ax


def window_of(repeats: Sequence[Series]) -> Limits:
    """Return the seconds that the runs span, around their origins."""
    starts = [(series.run.baseline_us - series.origin_us) / 1e6 for series in repeats]
    ends = [(series.run.finished_us - series.origin_us) / 1e6 for series in repeats]
    return (min(starts, default=0.0), max(max(ends, default=1.0), min(starts, default=0.0) + 1e-3))


def _time_axis(ax: Axes, window: Limits) -> None:
    ax.set_xlim(*window)
    ax.set_xlabel(_SINCE, color=MUTED, size=SMALL)


def latencies(probes: pd.DataFrame) -> NDArray[np.float64]:
    """Return the latency of each probe in ms, NaN for those that failed."""
    good = (probes["outcome"] == Outcome.SUCCESS).to_numpy()
    return np.where(good, probes["latency_us"].to_numpy(dtype=float) / 1e3, np.nan)


def _round_125(value: float, *, up: bool) -> float:
    """Return the nearest 1, 2 or 5 × 10ⁿ above or below `value` > 0.

    >>> _round_125(340, up=True), _round_125(340, up=False)
    (500.0, 200.0)
    """
    decade = 10.0 ** math.floor(math.log10(value))
    steps = [step * decade for step in (1, 2, 5, 10)]
    return min(step for step in steps if step >= value) if up else max(s for s in steps if s <= value)


_LANE: Final = 0.055
"""Height of one repeat's line of failures, as a share of the axes."""
_FEWEST_LANES: Final = 2
"""One line alone would leave no room for the words beside it."""


def _latency_axis(ax: Axes, limits: Limits, scale: Scale, lanes: int) -> float:
    """Set up the latency axis under `lanes` lines; return the share of the axes that latencies may fill."""
    if scale not in get_args(Scale):
        raise ValueError(f"scale is {scale!r}; accepted: {', '.join(get_args(Scale))}")
    low, high = limits
    top = max(0.4, 1 - _LANE * (max(lanes, _FEWEST_LANES) + 0.6))
    if scale == "log":
        ax.set_yscale("log")
        ax.set_ylim(low, low * (high / low) ** (1 / top))
        ticks = log_ticks(low, high)
    else:
        ax.set_ylim(0, high / top)
        ticks = [float(tick) for tick in np.linspace(0, high, 5)]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.set_ylabel("latency, ms", color=MUTED, size=SMALL)
    plain(ax)
    return top


def _columns(edges: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, len(edges) - 2)


def _strokes(ax: Axes, edges: NDArray[np.float64], series: Series, alpha: float) -> None:
    """Draw the fastest to the slowest success in each column, as one path; a single one makes a dot."""
    found = latencies(series.rows)
    good = np.isfinite(found)
    columns = _columns(edges, series.seconds("scheduled_us")[good])
    low, high = np.full(len(edges) - 1, np.inf), np.full(len(edges) - 1, -np.inf)
    np.minimum.at(low, columns, found[good])
    np.maximum.at(high, columns, found[good])
    used = np.isfinite(low)
    if not used.any():
        return
    middle, low, high = ((edges[:-1] + edges[1:]) / 2)[used], low[used], high[used]
    dot = np.where(low == high, 0.05 * (edges[1] - edges[0]), 0.0)  # no renderer draws a stroke of no length
    ends = [np.stack([middle - dot, low], axis=1), np.stack([middle + dot, high], axis=1)]
    _add_strokes(ax, ends, edgecolor=BLUE, lw=2.0, alpha=alpha, capstyle="round")


def _add_strokes(ax: Axes, ends: Sequence[NDArray[np.float64]], **look: Any) -> None:
    """Draw strokes between pairs of points, as one path: a path a stroke would make a picture of megabytes.

    The axes have their limits already, and are not asked to find them anew among all strokes.
    """
    outline = Outline(np.stack(ends, axis=1).reshape(-1, 2), np.tile([Outline.MOVETO, Outline.LINETO], len(ends[0])))
    ax.add_artist(PathPatch(outline, fill=False, **look))


def _median_line(ax: Axes, edges: NDArray[np.float64], repeats: Sequence[Series]) -> None:
    """Draw the median of the successes in each column that was probed; it breaks where none succeeded."""
    columns = np.concatenate([_columns(edges, series.seconds("scheduled_us")) for series in repeats])
    values = np.concatenate([latencies(series.rows) for series in repeats])
    medians = pd.Series(values).groupby(columns).median()
    middle = (edges[:-1] + edges[1:]) / 2
    ax.plot(middle[medians.index], medians.to_numpy(), color=INK, lw=1.1)


def _lanes(ax: Axes, repeats: Sequence[Series], edges: NDArray[np.float64], top: float) -> None:
    """Draw a line for each repeat above the latencies: outages as bars, columns with a failed probe as ticks."""
    height = (1 - top) / (len(repeats) + 0.6)
    ax.axhline(_at_share(ax, top), color=RULE, lw=0.8)
    for place, series in enumerate(repeats):
        share = 1 - (place + 0.8) * height
        _outages(ax, series, share)
        _failures(ax, edges, series, share, reach=0.3 * height)
        beside(ax, 1.006, share, f"repeat {series.run.repeat}", ha="left")
    beside(ax, -0.006, (1 + top) / 2 + 0.03, "failed ❘", ha="right")
    beside(ax, -0.006, (1 + top) / 2 - 0.03, "outage ▬", ha="right")


def _failures(ax: Axes, edges: NDArray[np.float64], series: Series, share: float, reach: float) -> None:
    """Draw a tick of height 2 × `reach` in each column with a failed probe, as one path."""
    failed = np.isnan(latencies(series.rows))
    columns = np.unique(_columns(edges, series.seconds("scheduled_us")[failed]))
    if len(columns):
        middle = ((edges[:-1] + edges[1:]) / 2)[columns]
        ends = [np.stack([middle, np.full(len(middle), share + side)], axis=1) for side in (-reach, reach)]
        _add_strokes(ax, ends, edgecolor=ORANGE, lw=1.3, transform=ax.get_xaxis_transform())


def late(probes: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which probes the prober sent so late that their latency says the less of the service; none if not told."""
    if "sent_us" not in probes:
        return np.zeros(len(probes), dtype=bool)
    found: NDArray[np.bool_] = probes["sent_us"].fillna(0).to_numpy(dtype=float) > LAG_LIMIT_US
    return found


def _late(ax: Axes, repeats: Sequence[Series], edges: NDArray[np.float64]) -> None:
    """Draw a notch at the bottom of each column in which a probe of any repeat was sent late, as one path."""
    held = [_columns(edges, one.seconds("scheduled_us")[late(one.rows)]) for one in repeats]
    columns = np.unique(np.concatenate([np.empty(0, dtype=np.intp), *held]))
    if len(columns):
        middle = ((edges[:-1] + edges[1:]) / 2)[columns]
        ends = [np.stack([middle, np.full(len(middle), share)], axis=1) for share in (0.0, 0.035)]
        _add_strokes(ax, ends, edgecolor=INK, lw=1.3, capstyle="butt", transform=ax.get_xaxis_transform(), zorder=3)
        beside(ax, 1.006, 0.018, "❘ sent late", ha="left")


def _at_share(ax: Axes, share: float) -> float:
    """Return the data value of the latency axis at a share of its height."""
    return float(ax.transData.inverted().transform(ax.transAxes.transform((0, share)))[1])


def _outages(ax: Axes, series: Series, share: float) -> None:
    """Draw a bar over each outage, as one path; one that was still open when the run ended points on."""
    if not series.outages:
        return
    across = ax.get_xaxis_transform()
    over = series.run.finished_us
    spans = np.array([(first, over if last is None else last) for first, last in series.outages])
    seconds = (spans - series.origin_us) / 1e6
    ends = [np.stack([seconds[:, side], np.full(len(seconds), share)], axis=1) for side in (0, 1)]
    _add_strokes(ax, ends, edgecolor=ORANGE, lw=4.5, alpha=0.35, capstyle="butt", transform=across)
    if any(last is None for _, last in series.outages):
        ax.plot([series.since_origin(over)], [share], ">", transform=across, ms=5, color=ORANGE, clip_on=False)


def injection_end(repeats: Sequence[Series]) -> float | None:
    """Return the seconds after which the typical injection ended, None if nothing was injected."""
    ends = [
        series.since_origin(series.run.recovery_us)
        for series in repeats
        if series.run.injection_us is not None and series.run.recovery_us is not None
    ]
    return float(np.median(ends)) if ends else None


def _injection(ax: Axes, repeats: Sequence[Series], label: str) -> None:
    end = injection_end(repeats)
    if end is None:
        return
    ax.axvspan(0, end, color=SHADE, lw=0, zorder=0)
    for edge in (0, end):
        ax.axvline(edge, color=MUTED, lw=0.7, zorder=0.5)
    ax.annotate(
        printable(label),
        (end / 2, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        size=SMALL,
        color=INK,
        parse_math=False,
    )

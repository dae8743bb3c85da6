"""Figures of a campaign: each function draws into `ax=` and returns it; nothing is shown, no global state is kept.

Marks differ by shape and text as well as by colour; the colours are blue, vermilion and green of Okabe and Ito, "Color
Universal Design" (2008), the latter two darkened until text can be set in them. Time axes are seconds since the
injection started, so that repeats lie over each other. `picture` turns a finished figure into a display object: an SVG
that follows the reader's light or dark scheme.
"""

from __future__ import annotations

import base64
import io
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from chaoslab import wording
from chaoslab.intervals import Estimate
from chaoslab.records import Dose, Outcome
from chaoslab.store import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

Limits = tuple[float, float]
Scale = Literal["log", "linear"]

INK: Final = "#1c2733"
MUTED: Final = "#5b6773"
RULE: Final = "#d5dbe1"
SHADE: Final = "#eef1f4"
PAPER: Final = "#fefefe"
BLUE: Final = "#0072b2"
ORANGE: Final = "#b85c00"
GREEN: Final = "#00795a"

_DARK: Final = {
    INK: "#e4e8ec",
    MUTED: "#a4afba",
    RULE: "#39434d",
    SHADE: "#222b34",
    PAPER: "#151b21",
    BLUE: "#56b4e9",
    ORANGE: "#f0a04b",
    GREEN: "#3cc79b",
}
"""Each colour's counterpart on a dark page."""

_BINS: Final = 240
"""Columns that a long series is drawn in: about one for each three pixels of a full-width figure."""

_SMALL: Final = 8.5
_TEXT: Final = 9.5

_OUTCOMES: Final = {
    "pass": ("o", GREEN, GREEN, "pass"),
    "fail": ("X", ORANGE, ORANGE, "FAIL"),
    "inconclusive": ("D", PAPER, MUTED, "inconclusive"),
    "": ("o", INK, INK, ""),
}
"""Marker, face, edge and word of each outcome; "" is an estimate that nobody judged."""


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


def timeline(
    repeats: Sequence[Series],
    *,
    ax: Axes | None = None,
    scale: Scale = "log",
    limits: Limits | None = None,
    fault: str = "injection",
) -> Axes:
    """Draw the latency of each successful probe over time, and above it each repeat's failed probes and outages.

    A stroke spans the fastest to the slowest success of one repeat in one column of the time axis, so that no extreme
    is lost however long the series; a column with one probe is a dot. The line is the median over all repeats; it
    breaks where nothing succeeded. Failed probes are ticks on the repeat's own line, outages the bars under them.

    Args:
        repeats: the runs of one scenario; `rows` are probes as in `records.PROBES`.
        ax: where to draw; a new figure's axes if None.
        scale: of the latency axis, which is in ms.
        limits: of the latency axis, in ms, to compare scenarios; from the data if None.
        fault: what the shaded span is called.
    """
    ax = axes_or_new(ax)
    window = _window(repeats)
    edges = np.linspace(*window, _BINS + 1)
    limits = limits or latency_limits([series.rows for series in repeats])
    top = _latency_axis(ax, limits, scale, lanes=len(repeats))
    for series in repeats:
        _strokes(ax, edges, series, alpha=max(0.3, 1 / len(repeats)))
    if any(np.isfinite(_latencies(series.rows)).any() for series in repeats):
        _median_line(ax, edges, repeats)
    else:
        ax.text(0.5, 0.3, "no probe succeeded", transform=ax.transAxes, ha="center", color=MUTED, size=_TEXT)
    _lanes(ax, repeats, edges, top)
    _injection(ax, repeats, fault)
    _time_axis(ax, window)
    return ax


def latency_limits(tables: Iterable[pd.DataFrame]) -> Limits:
    """Return limits in ms that hold every success of the probe tables, rounded outward to 1, 2 or 5 × 10ⁿ."""
    latencies = np.concatenate([_latencies(table) for table in tables] or [np.array([])])
    good = latencies[np.isfinite(latencies)]
    if not len(good):
        return (1.0, 1000.0)
    low, high = max(float(good.min()), 0.01), float(good.max())
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
    repeats: Sequence[Series],
    *,
    ax: Axes | None = None,
    resource: Resource = "cpu",
    limits: Limits | None = None,
) -> Axes:
    """Draw one resource of the host over time, a line for each repeat.

    Args:
        repeats: the runs of one scenario; `rows` are samples as in `records.RESOURCES`.
        ax: where to draw, often beneath a timeline and sharing its time axis; a new figure's axes if None.
        resource: which one; counters are drawn as rates.
        limits: of the value axis; from the data if None, and always 0 to 100 for the CPU.
    """
    ax = axes_or_new(ax)
    label, column, counter, factor = _RESOURCES[resource]
    for series in repeats:
        seconds, values = series.seconds("at_us"), series.rows[column].to_numpy(dtype=float) * factor
        if counter:
            seconds, values = seconds[1:], np.diff(values) / np.maximum(np.diff(seconds), 1e-6)
        ax.plot(seconds, values, color=BLUE, lw=1.0, alpha=max(0.4, 1 / max(1, len(repeats))))
    plain(ax)
    if resource == "cpu":
        limits = (0.0, 100.0)
        ax.yaxis.set_major_locator(FixedLocator([0, 50, 100]))
    elif limits is None:
        ax.set_ylim(bottom=0)
    if limits is not None:
        ax.set_ylim(*limits)
    ax.set_ylabel(label, color=MUTED, size=_SMALL)
    _injection(ax, repeats, "")
    _time_axis(ax, _window(repeats))
    return ax


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpan:
    """From the first `do` to the undo of one of several faults, in seconds since the injection started."""

    label: str
    began: float
    ended: float


def faults(spans: Sequence[FaultSpan], *, ax: Axes | None = None) -> Axes:
    """Draw when each of several faults was there, a bar for each, named beside it.

    Args:
        spans: from top to bottom.
        ax: where to draw, often beneath a timeline and sharing its time axis; a new figure's axes if None.
    """
    ax = axes_or_new(ax)
    for place, span in enumerate(spans):
        ax.barh(place, span.ended - span.began, left=span.began, height=0.55, color=MUTED, lw=0)
        _beside(ax, 1.006, 1 - (place + 0.5) / len(spans), printable(span.label), ha="left")
    plain(ax)
    ax.set_ylim(len(spans) - 0.5, -0.5)
    ax.yaxis.set_major_locator(NullLocator())
    ax.set_ylabel("faults", color=MUTED, size=_SMALL)
    return ax


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of `slo`: an estimate with its judgement; `outcome` is a verdict's, or "" where nobody judged."""

    label: str
    estimate: Estimate
    outcome: str = ""


def slo(
    rows: Sequence[Row],
    *,
    threshold: float,
    comparison: Literal["<=", ">="],
    unit: str,
    ax: Axes | None = None,
    limits: Limits | None = None,
) -> Axes:
    """Draw estimates of one metric with their intervals against its threshold; the wrong side is shaded.

    The outcome is told by shape (circle, cross, open diamond) and by word. A bound beyond `limits` ends in an arrow.

    Args:
        rows: from top to bottom; one without a value reads "not measured".
        threshold: of the objective, in `unit`.
        comparison: "<=" if the metric must stay at or below the threshold.
        unit: of threshold and estimates.
        ax: where to draw; a new figure's axes if None.
        limits: of the value axis, to compare panels; see `slo_limits`.
    """
    ax = axes_or_new(ax)
    low, high = limits or slo_limits([row.estimate for row in rows], threshold)
    ax.set_xlim(low, high)
    wrong = (threshold, high) if comparison == "<=" else (low, threshold)
    ax.axvspan(*wrong, color=SHADE, lw=0, zorder=0)
    ax.axvline(threshold, color=INK, lw=1.2, ls=(0, (4, 2)), zorder=1)
    ax.annotate(
        wording.objective(comparison, threshold, unit),
        (threshold, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha=_anchor(threshold, low, high),
        va="bottom",
        size=_SMALL,
        color=INK,
    )
    for place, row in enumerate(rows):
        _estimate(ax, place, row, (low, high))
    named_rows(ax, [row.label for row in rows])
    ax.set_xlabel(unit, color=MUTED, size=_SMALL)
    return ax


def slo_limits(estimates: Iterable[Estimate], threshold: float) -> Limits:
    """Return limits that hold the threshold, the values and their intervals.

    A bound that is further out than three times what values and threshold span is cut, lest one wide interval flatten
    all. Where something had not ended when the probes did, how far they saw stands for the value.
    """
    known = list(estimates)
    values = [threshold, *(v for e in known for v in (e.value, e.horizon) if v is not None)]
    bounds = [bound for e in known for bound in (e.low, e.high) if bound is not None]
    centre_low, centre_high = min(0.0, *values), max(values)
    reach = 3 * (centre_high - centre_low or 1.0)
    low = max(min([*values, *bounds]), centre_low - reach)
    high = min(max([*values, *bounds]), centre_high + reach)
    if low >= 0 and low < 0.5 * high:
        low = 0.0
    margin = 0.04 * (high - low or 1.0)
    return (low - margin, high + margin)


def recovery_curve(
    curve: pd.DataFrame,
    *,
    censored: Sequence[float] = (),
    ax: Axes | None = None,
    until: float | None = None,
    label: str = "",
    threshold: float | None = None,
) -> Axes:
    """Draw the share of runs that has recovered, over the seconds since the fault was over (Kaplan–Meier).

    Args:
        curve: `seconds` (ascending), `recovered` (share, 0 to 1) and, where a band is known, `low` and `high`.
        censored: seconds after which a run's window ended without a recovery; drawn as ticks on the curve.
        ax: where to draw; a new figure's axes if None.
        until: end of the time axis, the same for curves that are compared.
        label: title of the panel.
        threshold: the recovery time that the SLO allows, drawn as a line.
    """
    ax = axes_or_new(ax)
    seconds = np.concatenate([[0.0], curve["seconds"].to_numpy(dtype=float)])
    share = np.concatenate([[0.0], curve["recovered"].to_numpy(dtype=float)])
    until = until or 1.05 * float(max(seconds[-1], *censored, 1.0))
    seconds, share = np.append(seconds, until), np.append(share, share[-1])
    if {"low", "high"} <= set(curve.columns) and len(curve):
        low, high = (_stairs(curve[side]) for side in ("low", "high"))
        ax.fill_between(np.repeat(seconds, 2)[1:], low, high, color=BLUE, alpha=0.18, lw=0)
    ax.step(seconds, share, where="post", color=BLUE, lw=1.8)
    if len(censored):
        heights = share[np.searchsorted(seconds, censored, side="right") - 1]
        ax.plot(censored, heights, ls="", marker="|", ms=9, mew=1.6, color=INK)
    if threshold is not None:
        ax.axvline(threshold, color=INK, lw=1.0, ls=(0, (4, 2)))
    plain(ax)
    ax.set_xlim(0, until)
    ax.set_ylim(-0.03, 1.05)
    ax.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    ax.set_xlabel("s since the fault was over", color=MUTED, size=_SMALL)
    ax.set_ylabel("recovered", color=MUTED, size=_SMALL)
    ax.set_title(printable(label), loc="left", size=_TEXT, color=INK, parse_math=False)
    return ax


def dose(rows: Sequence[tuple[str, Sequence[Dose]]], *, ax: Axes | None = None) -> Axes:
    """Draw the measured doses as percent of what was asked, in their tolerances.

    Args:
        rows: label and the doses of its runs, from top to bottom; runs whose dose could not be measured are
            counted in words, since there is nothing to draw.
        ax: where to draw; a new figure's axes if None.
    """
    ax = axes_or_new(ax)
    ax.axvline(100, color=INK, lw=1.2, ls=(0, (4, 2)), zorder=1)
    shown = [100.0]
    for place, (_, doses) in enumerate(rows):
        for one in doses:
            shown += _dose(ax, place, one)
        words_of_row(ax, place, _dose_words(doses))
    ax.set_xlim(min(80.0, *shown) - 5, max(120.0, *shown) + 5)
    named_rows(ax, [label for label, _ in rows])
    ax.set_xlabel("measured, % of what was asked", color=MUTED, size=_SMALL)
    return ax


# Pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A finished figure as notebooks and pages show it: an SVG with its alternative text and caption."""

    svg: str
    alt: str
    caption: str = ""
    width: float

    def __html__(self) -> str:
        """Return a `<figure>` that holds everything it needs."""
        data = base64.b64encode(self.svg.encode()).decode()
        return Markup(
            '<figure class="chaoslab-figure"><div class="scroll" tabindex="0" role="group" aria-label="figure">'
            '<img src="data:image/svg+xml;base64,{}" alt="{}" width="{:.0f}"></div>{}</figure>'
        ).format(data, self.alt, self.width, self._caption())

    def _caption(self) -> str:
        return Markup("<figcaption>{}</figcaption>").format(self.caption) if self.caption else ""

    def _repr_html_(self) -> str:
        return str(self.__html__())


def figure(width: float = 11.0, height: float = 3.6) -> Figure:
    """Return an empty figure that lays itself out; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)


def row_figure(height: float, *, left: float = 2.4, right: float = 3.0, width: float = 11.0) -> Figure:
    """Return an empty figure with fixed margins for names and words, so that equal axes are equally wide; inches."""
    made = Figure(figsize=(width, height), facecolor=PAPER)
    made.subplots_adjust(
        left=left / width, right=1 - right / width, bottom=0.4 / height, top=1 - 0.25 / height, hspace=1.4
    )
    return made


def picture(drawn: Figure | Axes, *, alt: str, caption: str = "") -> Picture:
    """Return the figure (or the figure of the axes) as a display object.

    Equal figures give equal bytes. Text stays text, in the reader's own sans-serif.
    """
    whole = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    if whole is None:
        raise ValueError("the axes belong to no figure")
    buffer = io.StringIO()
    with mpl.rc_context(_SVG), warnings.catch_warnings():
        # Names may hold characters that matplotlib's own font lacks; the reader's browser picks the font.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from", category=UserWarning)
        whole.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, facecolor=PAPER)
    width = whole.get_size_inches()[0] * 96
    return Picture(svg=_adaptive(buffer.getvalue()), alt=alt, caption=caption, width=width)


_SVG: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "chaoslab",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "path.simplify": False,
}


_ATTRIBUTE: Final = re.compile(r' (d|style|x|y|transform)="([^"]*)"')
_NO_TURN: Final = re.compile(r"rotate\(-?0 ")


def _adaptive(svg: str) -> str:
    """Let the SVG follow the reader's fonts and colour scheme, and take out what says nothing."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"/>\s*', "", _ATTRIBUTE.sub(_leaner, svg))
    svg = re.sub(r"\n +<", "\n<", re.sub(r'<g id="[^"]*">', "<g>", svg))
    light = "".join(f"{_variable(colour)}:{colour};" for colour in _DARK)
    dark = "".join(f"{_variable(colour)}:{other};" for colour, other in _DARK.items())
    style = f"svg{{{light}{_FONT}}}@media screen and (prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return svg.replace('<style type="text/css">', f'<style type="text/css">{style}', 1)


_FONT: Final = "font-family:system-ui,-apple-system,Segoe UI,sans-serif"


def _variable(colour: str) -> str:
    return f"--{'abcdefgh'[list(_DARK).index(colour)]}"


def _leaner(attribute: re.Match[str]) -> str:
    name, value = attribute.groups()
    if name == "style":
        value = re.sub(r"font-family: [^;]*;? ?", "", value)
        value = re.sub("#[0-9a-f]{6}", lambda hit: f"var({_variable(hit[0])})" if hit[0] in _DARK else hit[0], value)
    elif name == "transform" and _NO_TURN.match(value):
        return ""
    else:
        # A tenth of a point is finer than a long path's strokes are wide; short paths are outlines of marks.
        value = re.sub(r"(\.\d)\d+" if len(value) > 1000 else r"(\.\d\d)\d+", r"\1", value)
        value = re.sub(r" ?\n", "", value)
    return f' {name}="{value}"'


def printable(text: str, width: int = 44) -> str:
    """Return `text` on one line, without control characters and not longer than `width`.

    >>> printable("Heavy\\x00 CPU\\nStress")
    'Heavy CPU Stress'
    """
    clean = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return clean if len(clean) <= width else f"{clean[: width - 1]}…"


# Parts


def axes_or_new(ax: Axes | None) -> Axes:
    """Return `ax`, or the axes of a new figure if None."""
    return figure().subplots() if ax is None else ax


def plain(ax: Axes) -> None:
    """Leave of the axes' frame what a reader needs: a base line and a faint grid."""
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(RULE)
    ax.set_facecolor("none")
    ax.grid(visible=True, color=RULE, lw=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(colors=MUTED, labelsize=_SMALL, length=0)


def named_rows(ax: Axes, names: Sequence[str]) -> None:
    """Give the value axis a row for each name, the first on top."""
    plain(ax)
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), [printable(name) for name in names], color=INK, size=_SMALL)
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.grid(visible=False, axis="y")


def words_of_row(ax: Axes, place: int, words: str, *, weight: str = "normal") -> None:
    """Write `words` to the right of the row at `place`."""
    ax.annotate(
        words,
        (1.0, place),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        size=_SMALL,
        color=INK,
        weight=weight,
        parse_math=False,
    )


def _window(repeats: Sequence[Series]) -> Limits:
    """Return the seconds that the runs span, around their origins."""
    starts = [(series.run.baseline_us - series.origin_us) / 1e6 for series in repeats]
    ends = [(series.run.finished_us - series.origin_us) / 1e6 for series in repeats]
    return (min(starts, default=0.0), max(max(ends, default=1.0), min(starts, default=0.0) + 1e-3))


def _time_axis(ax: Axes, window: Limits) -> None:
    ax.set_xlim(*window)
    ax.set_xlabel("s since the injection started", color=MUTED, size=_SMALL)


def _latencies(probes: pd.DataFrame) -> NDArray[np.float64]:
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


def _latency_axis(ax: Axes, limits: Limits, scale: Scale, lanes: int) -> float:
    """Set up the latency axis under `lanes` lines; return the share of the axes that latencies may fill."""
    if scale not in get_args(Scale):
        raise ValueError(f"scale is {scale!r}; accepted: {', '.join(get_args(Scale))}")
    low, high = limits
    top = max(0.4, 1 - _LANE * (lanes + 0.6))
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
    ax.set_ylabel("latency, ms", color=MUTED, size=_SMALL)
    plain(ax)
    return top


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten between the limits, and where they are few their double and fivefold.

    >>> log_ticks(1, 1000), log_ticks(20, 200)
    ([1.0, 10.0, 100.0, 1000.0], [20.0, 50.0, 100.0, 200.0])
    """
    first, last = math.floor(math.log10(low) - 1e-9), math.ceil(math.log10(high) + 1e-9)
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def _columns(edges: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, len(edges) - 2)


def _strokes(ax: Axes, edges: NDArray[np.float64], series: Series, alpha: float) -> None:
    """Draw the fastest to the slowest success in each column, as one path; a single one makes a dot."""
    latencies = _latencies(series.rows)
    good = np.isfinite(latencies)
    columns = _columns(edges, series.seconds("scheduled_us")[good])
    low, high = np.full(len(edges) - 1, np.inf), np.full(len(edges) - 1, -np.inf)
    np.minimum.at(low, columns, latencies[good])
    np.maximum.at(high, columns, latencies[good])
    used = np.isfinite(low)
    if not used.any():
        return
    middle, low, high = ((edges[:-1] + edges[1:]) / 2)[used], low[used], high[used]
    dot = np.where(low == high, 0.05 * (edges[1] - edges[0]), 0.0)  # no renderer draws a stroke of no length
    ends = [np.stack([middle - dot, low], axis=1), np.stack([middle + dot, high], axis=1)]
    _add_strokes(ax, ends, edgecolor=BLUE, lw=2.0, alpha=alpha, capstyle="round")


def _add_strokes(ax: Axes, ends: Sequence[NDArray[np.float64]], **look: Any) -> None:
    """Draw strokes between pairs of points, as one path: a path a stroke would make a picture of megabytes."""
    outline = Outline(np.stack(ends, axis=1).reshape(-1, 2), np.tile([Outline.MOVETO, Outline.LINETO], len(ends[0])))
    ax.add_patch(PathPatch(outline, fill=False, **look))


def _median_line(ax: Axes, edges: NDArray[np.float64], repeats: Sequence[Series]) -> None:
    """Draw the median of the successes in each column that was probed; it breaks where none succeeded."""
    columns = np.concatenate([_columns(edges, series.seconds("scheduled_us")) for series in repeats])
    values = np.concatenate([_latencies(series.rows) for series in repeats])
    medians = pd.Series(values).groupby(columns).median()
    middle = (edges[:-1] + edges[1:]) / 2
    ax.plot(middle[medians.index], medians.to_numpy(), color=INK, lw=1.1)


def _lanes(ax: Axes, repeats: Sequence[Series], edges: NDArray[np.float64], top: float) -> None:
    """Draw a line for each repeat above the latencies: outages as bars, columns with a failed probe as ticks."""
    height = (1 - top) / (len(repeats) + 0.6)
    ax.axhline(_at_share(ax, top), color=RULE, lw=0.8)
    for place, series in enumerate(repeats):
        share = 1 - (place + 0.8) * height
        for first, last in series.outages:
            _outage(ax, series, first, last, share)
        _failures(ax, edges, series, share, reach=0.3 * height)
        _beside(ax, 1.006, share, f"repeat {series.run.repeat}", ha="left")
    _beside(ax, -0.006, (1 + top) / 2 + 0.03, "failed ❘", ha="right")
    _beside(ax, -0.006, (1 + top) / 2 - 0.03, "outage ▬", ha="right")


def _failures(ax: Axes, edges: NDArray[np.float64], series: Series, share: float, reach: float) -> None:
    """Draw a tick of height 2 × `reach` in each column with a failed probe, as one path."""
    failed = np.isnan(_latencies(series.rows))
    columns = np.unique(_columns(edges, series.seconds("scheduled_us")[failed]))
    if len(columns):
        middle = ((edges[:-1] + edges[1:]) / 2)[columns]
        ends = [np.stack([middle, np.full(len(middle), share + side)], axis=1) for side in (-reach, reach)]
        _add_strokes(ax, ends, edgecolor=ORANGE, lw=1.3, transform=ax.get_xaxis_transform())


def _beside(ax: Axes, across: float, share: float, text: str, *, ha: Literal["left", "right"]) -> None:
    ax.text(across, share, text, transform=ax.transAxes, ha=ha, va="center", size=7, color=MUTED)


def _at_share(ax: Axes, share: float) -> float:
    """Return the data value of the latency axis at a share of its height."""
    return float(ax.transData.inverted().transform(ax.transAxes.transform((0, share)))[1])


def _outage(ax: Axes, series: Series, first: float, last: float | None, share: float) -> None:
    """Draw a bar over the outage; one that was still open when the run ended points on."""
    across = ax.get_xaxis_transform()
    begin, end = (series.since_origin(at) for at in (first, series.run.finished_us if last is None else last))
    bar = ax.plot([begin, end], [share, share], transform=across, color=ORANGE, lw=4.5, alpha=0.35)
    bar[0].set_solid_capstyle("butt")
    if last is None:
        ax.plot([end], [share], ">", transform=across, ms=5, color=ORANGE, clip_on=False)


def _injection(ax: Axes, repeats: Sequence[Series], label: str) -> None:
    ends = [
        series.since_origin(series.run.recovery_us)
        for series in repeats
        if series.run.injection_us is not None and series.run.recovery_us is not None
    ]
    if not ends:
        return
    end = float(np.median(ends))
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
        size=_SMALL,
        color=INK,
        parse_math=False,
    )


def _anchor(value: float, low: float, high: float) -> Literal["left", "center", "right"]:
    share = (value - low) / (high - low)
    return "left" if share < 0.15 else "right" if share > 0.85 else "center"


def _estimate(ax: Axes, place: int, row: Row, limits: Limits) -> None:
    marker, face, edge, word = _OUTCOMES[row.outcome]
    estimate = row.estimate
    text = wording.estimate(estimate)
    weight = "bold" if row.outcome == "fail" else "normal"
    words_of_row(ax, place, f"{text} · {word}" if word else text, weight=weight)
    low, high = limits
    if estimate.value is None and estimate.horizon is not None:
        ax.plot([max(low, min(estimate.horizon, high)), high], [place, place], color=edge, lw=1.8, ls=(0, (1, 1)))
        ax.plot([high], [place], ">", color=edge, ms=6, mew=1.4, clip_on=False)
    if estimate.value is None:
        return
    left = estimate.value if estimate.low is None else estimate.low
    right = estimate.value if estimate.high is None else estimate.high
    ax.plot([max(left, low), min(right, high)], [place, place], color=edge, lw=1.8, solid_capstyle="butt")
    for bound, tip in ((left, "<" if left < low else "|"), (right, ">" if right > high else "|")):
        ax.plot([min(max(bound, low), high)], [place], tip, color=edge, ms=6, mew=1.4, clip_on=False)
    ax.plot(
        [min(max(estimate.value, low), high)],
        [place],
        marker,
        ms=7,
        mfc=face,
        mec=edge,
        mew=1.4,
        clip_on=False,
        zorder=4,
    )


def _stairs(side: pd.Series[float]) -> NDArray[np.float64]:
    """Return a side of the band as both ends of each step, with the steps that `recovery_curve` adds before and after.

    fill_between(step="post") would drop a step whose neighbour is NaN.
    """
    values = np.concatenate([[0.0], side.to_numpy(dtype=float)])
    return np.append(np.repeat(values, 2), values[-1])


_FURTHEST: Final = 250.0
"""Percent of the asked dose beyond which a mark stands at the edge; the words beside it say how much it was."""


def _dose(ax: Axes, place: int, one: Dose) -> list[float]:
    """Draw tolerance and measurement of one dose; return what the axis should hold, in percent."""
    if not one.asked:
        return []
    low, high = (min(100 * bound / one.asked, _FURTHEST) for bound in (one.low, one.high))
    ax.plot([low, high], [place, place], color=RULE, lw=9, solid_capstyle="butt", zorder=0)
    if one.delivered is None:
        return [low, high]
    marker, _, edge, _ = _OUTCOMES["pass" if one.ok else "fail"]
    measured = min(100 * one.delivered / one.asked, _FURTHEST)
    ax.plot([measured], [place], marker, ms=7, mfc=edge, mec=PAPER, mew=0.6, zorder=3, clip_on=False)
    return [low, high, measured]


def _dose_words(doses: Sequence[Dose]) -> str:
    """Say what was asked and measured: "asked 2 cores, measured 1.9 to 2.0"."""
    if not doses:
        return "no dose recorded"
    measured = [one.delivered for one in doses if one.delivered is not None]
    asked = f"asked {doses[0].asked:g} {doses[0].unit}"
    if not measured:
        return f"{asked}, not measured"
    span = sorted({f"{min(measured):.4g}", f"{max(measured):.4g}"}, key=float)
    unmeasured = len(doses) - len(measured)
    missing = f", {wording.plural(unmeasured, 'run')} not measured" if unmeasured else ""
    return f"{asked}, measured {' to '.join(span)}{missing}"

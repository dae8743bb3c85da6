"""Estimates with their intervals against the thresholds of objectives: of one metric, or of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.ticker import MaxNLocator

from chaoslab import wording
from chaoslab.intervals import Estimate
from chaoslab.plots.canvas import Limits, axes_or_new, name_of_row, named_rows, words_of_row
from chaoslab.plots.palette import INK, MUTED, OUTCOMES, RULE, SHADE, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of `slo`: an estimate with its judgement; `outcome` is a verdict's, or "" where nobody judged."""

    label: str
    estimate: Estimate
    outcome: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Row):
    """One row of `slos`: with the threshold that it is held against, and the limits of its own axis."""

    threshold: float
    comparison: Literal["<=", ">="]
    limits: Limits | None = None


def slo(
    rows: Sequence[Row] | pd.DataFrame,
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
        rows: from top to bottom; one without a value reads "not measured". Or a table with the columns label, value,
            low, high and, where somebody judged, outcome.
        threshold: of the objective, in `unit`.
        comparison: "<=" if the metric must stay at or below the threshold.
        unit: of threshold and estimates.
        ax: where to draw; a new figure's axes if None.
        limits: of the value axis, to compare panels; see `slo_limits`.
    """
    ax = axes_or_new(ax)
    rows = _rows(rows, unit) if isinstance(rows, pd.DataFrame) else rows
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
        size=SMALL,
        color=INK,
    )
    for place, row in enumerate(rows):
        _estimate(ax, place, row, (low, high), float)
    named_rows(ax, [row.label for row in rows])
    ax.set_xlabel(unit, color=MUTED, size=SMALL)
    return ax


_HALF: Final = 0.2
"""Half the height of a row's own axis in `slos`, in rows."""


def slos(rows: Sequence[Judged] | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw estimates of several metrics, each against its threshold on an axis of its own; the wrong side is shaded.

    The marks are those of `slo`.

    Args:
        rows: from top to bottom. Or a table with the columns label, value, low, high, unit, threshold and comparison
            and, where somebody judged, outcome: a scenario's part of `Analysis.table()` with labels.
        ax: where to draw; a new figure's axes if None.
    """
    ax = axes_or_new(ax)
    rows = _judged(rows) if isinstance(rows, pd.DataFrame) else rows
    wrong = []
    for place, row in enumerate(rows):
        low, high = limits = row.limits or slo_limits([row.estimate], row.threshold)
        across = _across(limits)
        line = across(row.threshold)
        left, right = (line, 1.0) if row.comparison == "<=" else (0.0, line)
        top, bottom = place - _HALF, place + _HALF
        wrong.append([(left, top), (right, top), (right, bottom), (left, bottom)])
        ticks = [tick for tick in _TICKS.tick_values(low, high) if low <= tick <= high]
        ax.vlines([across(tick) for tick in ticks], top, bottom, color=RULE, lw=0.6, zorder=0.5)
        for tick in ticks:
            ax.annotate(
                f"{tick:,g}", (across(tick), bottom), xytext=(0, -3), textcoords="offset points", ha="center", va="top",
                size=SMALL, color=MUTED,
            )  # fmt: skip
        ax.vlines([line], top, bottom, color=INK, lw=1.2, ls=(0, (4, 2)), zorder=1)
        ax.annotate(
            wording.objective(row.comparison, row.threshold, row.estimate.unit),
            (line, top), xytext=(0, 2), textcoords="offset points", ha=_anchor(row.threshold, low, high), va="bottom",
            size=SMALL, color=INK,
        )  # fmt: skip
        _estimate(ax, place, row, limits, across)
        name_of_row(ax, place, row.label)
    ax.add_collection(PolyCollection(wrong, facecolors=SHADE, linewidths=0, zorder=0), autolim=False)
    ax.hlines(np.arange(len(rows)) + _HALF, 0, 1, color=RULE, lw=0.8, zorder=0.6)
    ax.set_xlim(0, 1)
    ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    ax.set_axis_off()
    return ax


_TICKS: Final = MaxNLocator(6, steps=[1, 2, 5, 10])


def _across(limits: Limits) -> Callable[[float], float]:
    """Return what takes a value to its share of the axis between `limits`."""
    low, high = limits
    return lambda value: (value - low) / (high - low)


def _judged(table: pd.DataFrame) -> list[Judged]:
    found = []
    for unit, threshold, comparison, row in zip(
        table["unit"], table["threshold"], table["comparison"], _rows(table, ""), strict=True
    ):
        known = replace(row.estimate, unit=unit)
        found.append(
            Judged(
                label=row.label, estimate=known, outcome=row.outcome, threshold=float(threshold), comparison=comparison
            )
        )
    return found


def _rows(table: pd.DataFrame, unit: str) -> list[Row]:
    plain = table.astype(object).where(table.notna(), None)
    return [
        Row(
            label=str(row["label"]),
            estimate=Estimate(value=row["value"], low=row["low"], high=row["high"], method="", n=0, unit=unit),
            outcome=row.get("outcome") or "",
        )
        for row in plain.to_dict("records")
    ]


def slo_limits(estimates: Iterable[Estimate], threshold: float) -> Limits:
    """Return limits that hold the threshold, the values and their intervals.

    A bound that is further out than three times what values and threshold span is cut, lest one wide interval flatten
    all. Where something had not ended when the probes did, how far they saw stands for the value.
    """
    known = list(estimates)
    values = [threshold, *(v for e in known for v in (e.value, e.horizon) if v is not None)]
    if len(values) == 1:
        values.append(0.0)  # an axis around nothing but a threshold would be all digits
    bounds = [bound for e in known for bound in (e.low, e.high) if bound is not None]
    centre_low, centre_high = min(0.0, *values), max(values)
    reach = 3 * (centre_high - centre_low or 1.0)
    low = max(min([*values, *bounds]), centre_low - reach)
    high = min(max([*values, *bounds]), centre_high + reach)
    if low >= 0 and low < 0.5 * high:
        low = 0.0
    margin = 0.04 * (high - low or 1.0)
    return (low - margin, high + margin)


def _anchor(value: float, low: float, high: float) -> Literal["left", "center", "right"]:
    share = (value - low) / (high - low)
    return "left" if share < 0.15 else "right" if share > 0.85 else "center"


def _estimate(ax: Axes, place: int, row: Row, limits: Limits, across: Callable[[float], float]) -> None:
    """Draw an estimate with its interval, cut at `limits`, and its words; `across` takes a value to its place."""
    marker, face, edge, word = OUTCOMES[row.outcome]
    estimate = row.estimate
    text = wording.estimate(estimate)
    weight = "bold" if row.outcome == "fail" else "normal"
    words_of_row(ax, place, f"{text} · {word}" if word else text, weight=weight)
    low, high = limits

    def at(value: float) -> float:
        return across(min(max(value, low), high))

    if estimate.value is None and estimate.horizon is not None:
        ax.plot([at(estimate.horizon), at(high)], [place, place], color=edge, lw=1.8, ls=(0, (1, 1)))
        ax.plot([at(high)], [place], ">", color=edge, ms=6, mew=1.4, clip_on=False)
    if estimate.value is None:
        return
    left = estimate.value if estimate.low is None else estimate.low
    right = estimate.value if estimate.high is None else estimate.high
    ax.plot([at(left), at(right)], [place, place], color=edge, lw=1.8, solid_capstyle="butt")
    for bound, tip in ((left, "<" if left < low else "|"), (right, ">" if right > high else "|")):
        ax.plot([at(bound)], [place], tip, color=edge, ms=6, mew=1.4, clip_on=False)
    ax.plot([at(estimate.value)], [place], marker, ms=7, mfc=face, mec=edge, mew=1.4, clip_on=False, zorder=4)

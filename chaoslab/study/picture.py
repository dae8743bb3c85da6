"""The study's table as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pandas as pd

from chaoslab.intervals import LEVEL
from chaoslab.plots import INK, MUTED, SHADE, figure, named_rows
from chaoslab.study.coverage import GOAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOWEST: Final = 70.0
_SIZE: Final = 8.5
_CHARACTER: Final = 0.28
"""Width of a character on the axis, in percent."""


def coverage(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how often intervals of one metric held the truth: a row each truth, with the number of repeats as the mark.

    The band is the goal. Digits in brackets are of intervals that say that they are not to be trusted; what lies below
    70 % stands at the edge with its figure.

    Args:
        table: rows of `study`, of one metric.
        ax: where to draw; a new figure's axes if None.
    """
    truths = list(dict.fromkeys(table["truth"]))
    ax = figure(height=0.8 + 0.26 * len(truths)).subplots() if ax is None else ax
    ax.axvspan(*GOAL, color=SHADE, lw=0, zorder=0)
    ax.axvline(100 * LEVEL, color=MUTED, lw=0.8, zorder=1)
    for place, truth in enumerate(truths):
        _row(ax, place, table.loc[table["truth"] == truth])
    named_rows(ax, truths)
    ax.set_xlim(_LOWEST, 100.5)
    ax.set_xlabel("% of 95 % intervals that held the truth; digits: repeats; band: the goal", color=MUTED, size=_SIZE)
    return ax


def _row(ax: Axes, place: int, rows: pd.DataFrame) -> None:
    """Digits that would lie over each other are set beside each other, in order of repeats."""
    known = rows.loc[rows["coverage"].notna()].sort_values("coverage", kind="stable")
    edge = float("-inf")
    for repeats, covered, reading in zip(known["repeats"], known["coverage"], known["reading"], strict=True):
        doubted = reading == "said not to be trusted"
        words = f"({repeats})" if doubted else str(repeats)
        if covered < _LOWEST:
            words += f" at {covered:.0f} %"
        half = _CHARACTER * (len(words) + 0.6) / 2
        at = max(float(covered), _LOWEST + half, edge + half)
        ax.text(
            at,
            place,
            words,
            ha="center",
            va="center",
            size=_SIZE,
            color=MUTED if doubted else INK,
            weight="bold" if reading == "short" else "normal",
        )
        edge = at + half

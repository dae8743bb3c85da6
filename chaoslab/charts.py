"""Figures that look beyond one campaign: what more repeats would show, what became of a metric, what an event costs.

Like those of `plots`, each draws into `ax=` and returns it; each works on a plain table, whose columns it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from chaoslab import plots
from chaoslab.plots import BLUE, GREEN, INK, MUTED, ORANGE
from chaoslab.plots import _axes as axes_or_new
from chaoslab.plots import _log_ticks as log_ticks
from chaoslab.plots import _plain as plain
from chaoslab.wording import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOOKS: Final = ((BLUE, "-"), (ORANGE, (0, (5, 2))), (GREEN, (0, (1, 1))), (INK, (0, (4, 1, 1, 1))))
"""Colour and dashes of the lines, in turn; each is named at its end as well."""
_SMALL: Final = 8.5


def detectable(curve: pd.DataFrame, *, ax: Axes | None = None, wanted: float | None = None) -> Axes:
    """Draw the smallest change that two campaigns find, over the repeats of each; a line for each scenario.

    Args:
        curve: of one metric, as `Design.curve` gives it: scenario, unit, repeats, change, low, high, now. A band
            between `low` and `high` is drawn where there is one scenario.
        ax: where to draw; a new figure's axes if None.
        wanted: a change that matters, drawn as a line, in the metric's unit.
    """
    ax = axes_or_new(ax)
    plain(ax)
    lines = [(str(name), rows.sort_values("repeats")) for name, rows in curve.groupby("scenario", sort=False)]
    if not lines:
        ax.text(0.5, 0.5, "no spread between runs is known", transform=ax.transAxes, ha="center", color=MUTED)
        return ax
    unit = str(curve["unit"].iloc[0])
    ax.set_yscale("log")
    for place, (_, rows) in enumerate(lines):
        colour, dashes = _LOOKS[place % len(_LOOKS)]
        if len(lines) == 1:
            ax.fill_between(rows["repeats"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
            _note(ax, "band: for the 95 % interval of the spread between runs")
        ax.plot(rows["repeats"], rows["change"], color=colour, ls=dashes, lw=1.8)
    if wanted is not None:
        ax.axhline(wanted, color=INK, lw=1.0, ls=(0, (4, 2)))
        ax.annotate(
            f"wanted: {quantity(wanted, unit)}",
            (1.0, wanted),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            size=_SMALL,
            color=INK,
        )
    ax.set_xlim(curve["repeats"].min(), curve["repeats"].max())
    ax.xaxis.set_major_locator(FixedLocator([3, 5, 10, 15, 20, 25, 30]))
    _log_labels(ax)
    _end_labels(
        ax,
        [float(rows["change"].iloc[-1]) for _, rows in lines],
        [f"{name}, now {quantity(float(rows['now'].iloc[0]), unit)}" for name, rows in lines],
    )
    ax.set_xlabel("repeats in each campaign", color=MUTED, size=_SMALL)
    ax.set_ylabel(f"smallest change found, {unit}", color=MUTED, size=_SMALL)
    return ax


def _note(ax: Axes, text: str) -> None:
    ax.annotate(
        text, (1.0, 1.0), xycoords="axes fraction", xytext=(-4, -4), textcoords="offset points", ha="right", va="top",
        size=_SMALL, color=MUTED,
    )  # fmt: skip


def _log_labels(ax: Axes) -> None:
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _end_labels(ax: Axes, ends: Sequence[float], names: Sequence[str]) -> None:
    """Name each line beside its end; names that would lie over each other are moved apart."""
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [float(to_axes.transform((ax.get_xlim()[1], end))[1]) for end in ends]
    gap, last = 0.07, -1.0
    for place in np.argsort(heights, kind="stable"):
        last = max(heights[place], last + gap)
        colour, _ = _LOOKS[place % len(_LOOKS)]
        ax.annotate(
            plots.printable(names[place]),
            (1.0, heights[place]),
            xycoords="axes fraction",
            xytext=(1.02, last),
            textcoords="axes fraction",
            va="center",
            size=_SMALL,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 0},
            parse_math=False,
        )

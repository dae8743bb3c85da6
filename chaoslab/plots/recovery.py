"""The recovery curve: the share of runs that is back, over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter

from chaoslab.plots.canvas import axes_or_new, plain, printable
from chaoslab.plots.palette import BLUE, INK, MUTED, SMALL, TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


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
    ax.set_xlabel("s since the fault was over", color=MUTED, size=SMALL)
    ax.set_ylabel("recovered", color=MUTED, size=SMALL)
    ax.set_title(printable(label), loc="left", size=TEXT, color=INK, parse_math=False)
    return ax


def _stairs(side: pd.Series[float]) -> NDArray[np.float64]:
    """Return a side of the band as both ends of each step, with the steps that `recovery_curve` adds before and after.

    fill_between(step="post") would drop a step whose neighbour is NaN.
    """
    values = np.concatenate([[0.0], side.to_numpy(dtype=float)])
    return np.append(np.repeat(values, 2), values[-1])

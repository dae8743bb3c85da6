"""Measured doses beside what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import pandas as pd

from chaoslab import wording
from chaoslab.plots.canvas import axes_or_new, named_rows, words_of_row
from chaoslab.plots.palette import INK, MUTED, OUTCOMES, PAPER, RULE, SMALL
from chaoslab.records import Dose

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def dose(rows: Sequence[tuple[str, Sequence[Dose]]] | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the measured doses as percent of what was asked, in their tolerances.

    Args:
        rows: label and the doses of its runs, from top to bottom; runs whose dose could not be measured are
            counted in words, since there is nothing to draw. Or a table with a row a run: label, unit, asked,
            delivered (missing where not measured), low and high.
        ax: where to draw; a new figure's axes if None.
    """
    ax = axes_or_new(ax)
    rows = _rows(rows) if isinstance(rows, pd.DataFrame) else rows
    ax.axvline(100, color=INK, lw=1.2, ls=(0, (4, 2)), zorder=1)
    shown = [100.0]
    for place, (_, doses) in enumerate(rows):
        for one in doses:
            shown += _dose(ax, place, one)
        words_of_row(ax, place, _dose_words(doses))
    ax.set_xlim(min(80.0, *shown) - 5, max(120.0, *shown) + 5)
    named_rows(ax, [label for label, _ in rows])
    ax.set_xlabel("measured, % of what was asked", color=MUTED, size=SMALL)
    return ax


def _rows(table: pd.DataFrame) -> list[tuple[str, list[Dose]]]:
    plain = table.astype(object).where(table.notna(), None)
    found: dict[str, list[Dose]] = {}
    for row in plain.to_dict("records"):
        fields = {name: row[name] for name in ("unit", "asked", "delivered", "low", "high")}
        found.setdefault(str(row["label"]), []).append(Dose(**fields, quantity="", how="", mechanism=""))
    return list(found.items())


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
    marker, _, edge, _ = OUTCOMES["pass" if one.ok else "fail"]
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

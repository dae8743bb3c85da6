"""The figure of a comparison: every change on one axis, in margins.

Metrics have units of their own; what they share is how much of a change matters. A change of 1 is as large as its
margin, and to the right is worse. Within ±1 the axis is linear, beyond it is logarithmic.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from chaoslab import plots, wording

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FURTHEST: Final = 100.0
"""Margins beyond which a change ends in an arrow at the edge; the words beside it say how large it is."""

_ANSWERS: Final = {
    "worse": ("X", plots.ORANGE, plots.ORANGE, "WORSE"),
    "better": ("o", plots.GREEN, plots.GREEN, "better"),
    "same": ("s", plots.BLUE, plots.BLUE, "same"),
    "inconclusive": ("D", plots.PAPER, plots.MUTED, "inconclusive"),
}
"""Marker, face, edge and word of each answer."""

_TICKS: Final = (-100, -10, -1, 0, 1, 10, 100)
_ROW_INCHES: Final = 0.27


def forest(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the changes of a comparison with their intervals, scenario by scenario; worse is to the right.

    The band between −1 and 1 is the margin: a change that does not matter. The answer is told by shape (cross, circle,
    square, open diamond) and by word. Beside each row stand what was and is, and the effect in its own unit.

    Args:
        table: as `Comparison.table()` returns it, or rows of it.
        ax: where to draw; a new figure's axes, as high as the rows need, if None.
    """
    rows = _rows(table)
    ax = _new_axes(len(rows)) if ax is None else ax
    plots.named_rows(ax, [label for label, _ in rows])
    ax.set_xscale("symlog", linthresh=1.0, linscale=0.6)
    ax.set_xlim(-1.3 * FURTHEST, 1.3 * FURTHEST)
    ax.axvspan(-1, 1, color=plots.SHADE, lw=0, zorder=0)
    ax.axvline(0, color=plots.INK, lw=1.2, ls=(0, (4, 2)), zorder=1)
    for place, (_, row) in enumerate(rows):
        if row is None:
            ax.get_yticklabels()[place].set_fontweight("bold")
        else:
            _draw(ax, place, row)
    ax.xaxis.set_major_locator(FixedLocator(_TICKS))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    ax.set_xlabel("← better · change in margins · worse →", color=plots.MUTED, size=8.5)
    ax.annotate(
        "the same within ±1",
        (0.0, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        size=8.5,
        color=plots.INK,
    )
    return ax


def describe(table: pd.DataFrame) -> str:
    """Return the figure in words, for those who do not see it."""
    said = [f"{row['scenario']}, {row['name']}: {words(row)}." for row in records(table)]
    return "Changes from baseline to candidate, in margins. " + " ".join(said)


def words(row: dict[str, Any]) -> str:
    """Return one row of the table in words: what was, what is, the effect with its interval, the answer.

    >>> change = dict(effect=2.0, low=1.5, high=2.7, effect_unit="×")
    >>> words(dict(metric="mttr_seconds", baseline=1.0, candidate=2.0, unit="s", answer="worse") | change)
    '1.00 s → 2.00 s, × 2.00 [1.50, 2.70] · WORSE'
    """
    answer = _ANSWERS[row["answer"]][3]
    if row["baseline"] is None and row["candidate"] is None:
        return f"{row['reason']} · {answer}"
    sides = " → ".join(side(row, name) for name in ("baseline", "candidate"))
    said = effect(row)
    return f"{sides}{', ' + said if said else ''} · {answer}"


def side(row: dict[str, Any], name: str) -> str:
    """Return the value of the "baseline" or the "candidate" with its unit; without an outage, there is no MTTR."""
    quiet = row[name] is None and row["metric"] == "mttr_seconds"
    return "no outage" if quiet else wording.quantity(row[name], row["unit"])


def effect(row: dict[str, Any]) -> str:
    """Return the effect with its interval, or an empty string.

    >>> effect(dict(effect=-4.0, low=-5.0, high=-3.0, effect_unit="points"))
    '−4.00 points [−5.00, −3.00]'
    """
    if row["effect"] is None:
        return ""
    unit = row["effect_unit"]
    precision = "%" if unit == "points" else unit
    shown = wording.number(row["effect"], precision)
    said = f"× {shown}" if unit == "×" else f"{shown} {unit}"
    if row["low"] is None:
        return said
    return f"{said} [{wording.number(row['low'], precision)}, {wording.number(row['high'], precision)}]"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a comparison's table; what is missing is None."""
    plain = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def _new_axes(rows: int) -> Axes:
    height = 0.9 + _ROW_INCHES * rows
    figure = plots.row_figure(height, left=2.6, right=4.6, width=12.0)
    figure.subplots_adjust(bottom=0.55 / height, top=1 - 0.3 / height)
    return figure.subplots()


def _rows(table: pd.DataFrame) -> list[tuple[str, dict[str, Any] | None]]:
    """Return the rows from top to bottom; a scenario's name has a row of its own, without data."""
    found: list[tuple[str, dict[str, Any] | None]] = []
    for scenario, group in groupby(records(table), key=lambda row: row["scenario"]):
        rows = list(group)
        found.append((scenario, None))
        if rows[0]["no_runs"]:
            found.append(("all", rows[0]))
        else:
            found += [(row["name"] if row["role"] == "gate" else f"({row['name']})", row) for row in rows]
    return found


def _draw(ax: Axes, place: int, row: dict[str, Any]) -> None:
    marker, face, edge, _ = _ANSWERS[row["answer"]]
    plots.words_of_row(ax, place, words(row), weight="bold" if row["answer"] == "worse" else "normal")
    if row["harm"] is None:
        return
    low, high = _within(row["harm_low"]), _within(row["harm_high"])
    ax.plot([low, high], [place, place], color=edge, lw=1.8, solid_capstyle="butt")
    for bound, shown in ((row["harm_low"], low), (row["harm_high"], high)):
        tip = "|" if math.isclose(bound, shown) else "<" if bound < shown else ">"
        ax.plot([shown], [place], tip, color=edge, ms=6, mew=1.4, clip_on=False)
    ax.plot([_within(row["harm"])], [place], marker, ms=7, mfc=face, mec=edge, mew=1.4, clip_on=False, zorder=4)


def _within(value: float) -> float:
    return min(max(value, -FURTHEST), FURTHEST)

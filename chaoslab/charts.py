"""Figures that look beyond one campaign: what more repeats would show, what became of a metric, what an event costs.

Like those of `plots`, each draws into `ax=` and returns it; each works on a plain table, whose columns it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from chaoslab import plots
from chaoslab.plots import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    SHADE,
    axes_or_new,
    log_ticks,
    named_rows,
    plain,
    words_of_row,
)
from chaoslab.wording import number, objective, quantity

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


def history(
    table: pd.DataFrame,
    *,
    changes: pd.DataFrame | None = None,
    threshold: float | None = None,
    comparison: Literal["<=", ">="] = "<=",
    ax: Axes | None = None,
    label: str = "",
) -> Axes:
    """Draw one metric from campaign to campaign with its intervals, its levels, and the changes between them.

    Args:
        table: a row a campaign, oldest first, as `History.table` gives it: started_at, value, low, high, unit,
            at_least. A value that is only a bound is drawn as an arrow, a campaign without one as a dash at the bottom.
        changes: a row a change, as `History.changes_table` gives it: place, before, after, words.
        threshold: of the objective; where it is far beyond all values, it is named in words and not drawn.
        comparison: "<=" if the metric must stay at or below the threshold; the wrong side is shaded.
        ax: where to draw; a new figure's axes if None.
        label: title of the panel.
    """
    ax = axes_or_new(ax)
    plain(ax)
    table = table.reset_index(drop=True)
    places = np.arange(len(table))
    unit = str(table["unit"].iloc[-1]) if len(table) else ""
    low, high = _value_limits(table, threshold)
    ax.set_ylim(low, high)
    ax.set_xlim(-0.7, max(len(table), 1) - 0.3)
    _threshold(ax, threshold, comparison, unit)
    ax.vlines(places, table["low"].fillna(table["value"]), table["high"].fillna(table["value"]), color=BLUE, lw=1.4)
    bound = table["at_least"].to_numpy(dtype=bool)
    for marker, chosen in (("o", ~bound), ("^", bound)):
        ax.plot(places[chosen], table["value"][chosen], marker, ms=5.5, color=BLUE, mec=plots.PAPER, mew=0.8, zorder=3)
    missing = table["value"].isna().to_numpy()
    across = ax.get_xaxis_transform()
    ax.plot(places[missing], np.full(int(missing.sum()), 0.03), "_", transform=across, ms=7, color=MUTED, mew=1.6)
    _levels(ax, changes, len(table))
    _dates(ax, table["started_at"])
    ax.set_ylabel(unit, color=MUTED, size=_SMALL)
    ax.set_title(plots.printable(label, 80), loc="left", size=9.5, color=INK, parse_math=False, pad=16)
    return ax


def _value_limits(table: pd.DataFrame, threshold: float | None) -> tuple[float, float]:
    """Return limits that hold all values; of bounds and threshold, those that would not flatten them."""
    values = table["value"].dropna()
    if values.empty:
        return (0.0, 1.0)
    bottom, top = float(values.min()), float(values.max())
    reach = 1.5 * max(top - bottom, 0.1 * abs(top), 1e-3)
    wanted = [*table["low"].dropna(), *table["high"].dropna(), *([] if threshold is None else [threshold])]
    inside = [one for one in wanted if bottom - reach <= one <= top + reach]
    cut_low = bottom - reach if any(one < bottom - reach for one in table["low"].dropna()) else bottom
    cut_high = top + reach if any(one > top + reach for one in table["high"].dropna()) else top
    low, high = min([cut_low, *inside]), max([cut_high, *inside])
    if low < 0 <= bottom:
        low = 0.0
    margin = 0.08 * (high - low)
    return (low - margin, high + margin)


def _threshold(ax: Axes, threshold: float | None, comparison: str, unit: str) -> None:
    if threshold is None:
        return
    low, high = ax.get_ylim()
    words = f"SLO {objective(comparison, threshold, unit)}"
    if not low <= threshold <= high:
        ax.annotate(
            f"{words}:\nbeyond this axis", (1.0, 1.0), xycoords="axes fraction", xytext=(6, 0),
            textcoords="offset points", va="top", size=_SMALL, color=MUTED,
        )  # fmt: skip
        return
    wrong = (threshold, high) if comparison == "<=" else (low, threshold)
    ax.axhspan(*wrong, color=SHADE, lw=0, zorder=0)
    ax.axhline(threshold, color=INK, lw=1.2, ls=(0, (4, 2)), zorder=1)
    ax.annotate(
        words, (1.0, threshold), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
        va="center", size=_SMALL, color=INK,
    )  # fmt: skip


def _levels(ax: Axes, changes: pd.DataFrame | None, length: int) -> None:
    """Draw a line between the campaigns where the level changed, its words above, and the level on either side."""
    if changes is None or changes.empty:
        return
    edges = [-0.5, *(place - 0.5 for place in changes["place"]), length - 0.5]
    levels = [changes["before"].iloc[0], *changes["after"]]
    for first, last, level in zip(edges[:-1], edges[1:], levels, strict=True):
        ax.plot([first, last], [level, level], color=ORANGE, lw=1.6, alpha=0.8, zorder=2)
    rows = zip(changes["place"], changes["before"], changes["after"], changes["p"], strict=True)
    for place, before, after, p in rows:
        ax.axvline(place - 0.5, color=ORANGE, lw=1.2, ls=(0, (2, 2)), zorder=2)
        ax.annotate(
            f"{'rose' if after > before else 'fell'} from {number(before)} to {number(after)}, p = {p:.2g}",
            (place - 0.5, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
            ha="right" if place > 0.75 * length else "left" if place < 0.25 * length else "center",
            size=_SMALL, color=ORANGE,
        )  # fmt: skip


def _dates(ax: Axes, started: pd.Series[Any]) -> None:
    """Name campaigns by their day, or by day and hour where there are several a day; at most ten of them."""
    days = [str(one)[:10] for one in started]
    if len(set(days)) < len(days):
        days = [str(one)[5:16].replace("T", " ") for one in started]
    step = max(1, -(-len(days) // 10))
    ax.set_xticks(range(0, len(days), step), days[::step], size=7.5, color=MUTED)
    ax.grid(visible=False, axis="x")


def budget(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the share of the error budget that one event of each scenario costs, with its interval.

    Args:
        table: a row an event, as `budget.table` gives it: scenario, share_percent and events with `_low` and `_high`,
            at_least. A bound that is far out ends in an arrow; the words beside the bar say how far.
        ax: where to draw; a new figure's axes if None.
    """
    ax = axes_or_new(ax)
    values, bounds = table["share_percent"].dropna(), table["share_percent_high"].dropna()
    furthest = float(max([*values, *(bound for bound in bounds if values.empty or bound <= 3 * values.max()), 0.0]))
    high = 1.08 * (furthest or float(bounds.max() if len(bounds) else 1.0))
    ax.set_xlim(0, high)
    for place, row in enumerate(table.itertuples()):
        _cost(ax, place, row, high)
    if high > 100:
        ax.axvline(100, color=INK, lw=1.2, ls=(0, (4, 2)))
        ax.annotate(
            "the whole budget", (100, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", size=_SMALL, color=INK,
        )  # fmt: skip
    named_rows(ax, [str(name) for name in table["scenario"]])
    ax.set_xlabel("% of the error budget that one event costs", color=MUTED, size=_SMALL)
    return ax


def _cost(ax: Axes, place: int, row: Any, high: float) -> None:
    share, low, top = row.share_percent, row.share_percent_low, row.share_percent_high
    if pd.isna(share):
        words_of_row(ax, place, "not measured")
        return
    ax.barh(place, min(share, high), height=0.5, color=BLUE, lw=0)
    words = f"{'at least ' if row.at_least else ''}{number(share, '%')} %"
    if pd.notna(top):
        ax.plot([min(low, high), min(top, high)], [place, place], color=INK, lw=1.4, solid_capstyle="butt")
        ax.plot([min(top, high)], [place], ">" if top > high else "|", color=INK, ms=6, mew=1.4, clip_on=False)
        words += f" [{number(low, '%')}, {number(top, '%')}]"
    words_of_row(ax, place, f"{words} · affords {_affordable(row)}")


def _affordable(row: Any) -> str:
    if pd.isna(row.events):
        return "no one knows how many" if pd.isna(row.events_low) else f"at least {int(row.events_low):,}"
    return f"{'at most ' if row.at_least else ''}{int(row.events):,}"

"""Sparklines: one history as a line of a word's height, in SVG that follows the page's colours.

Tufte, "Beautiful Evidence" (2006): small, without axes, the last value named beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

if TYPE_CHECKING:
    from chaoslab.trends import History

WIDTH: Final = 240
HEIGHT: Final = 44
_EDGE: Final = 5

Place = Callable[[float], float]


def sparkline(history: History, *, alt: str) -> Markup:
    """Return the history as an inline SVG of `WIDTH` × `HEIGHT` units: a dot for each campaign, the newest one filled.

    A value that is only a lower bound is a triangle, a campaign without a value a gap. An upright dashed line stands
    before the first campaign of another level, and level lines at the medians between. The objective is a dotted
    line where it lies within what the values span.
    """
    levels = [point.level for point in history.points]
    known = [level for level in levels if level is not None]
    if not known:
        return Markup('<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}"></svg>').format(
            WIDTH, HEIGHT, alt
        )
    low, high = min(known), max(known)
    span = high - low or 1.0

    def across(place: float) -> float:
        return round(_EDGE + place / max(1, len(levels) - 1) * (WIDTH - 2 * _EDGE), 1)

    def up(level: float) -> float:
        share = (level - low) / span if high > low else 0.5
        return round(HEIGHT - _EDGE - share * (HEIGHT - 2 * _EDGE), 1)

    parts = []
    if history.slo is not None and low <= history.slo.threshold <= high:
        parts.append(f'<path class="limit" d="M0 {up(history.slo.threshold)}H{WIDTH}"/>')
    places = [history.points.index(history.measured[change.at]) - 0.5 for change in history.changes]
    if places:
        edges = [-0.5, *places, len(levels) - 0.5]
        medians = [history.changes[0].before, *(change.after for change in history.changes)]
        drawn = "".join(
            f"M{max(0, across(first))} {up(level)}H{min(WIDTH, across(last))}"
            for first, last, level in zip(edges[:-1], edges[1:], medians, strict=True)
        )
        parts.append(f'<path class="level" d="{drawn}"/>')
        parts.append(f'<path class="change" d="{"".join(f"M{across(place)} 0V{HEIGHT}" for place in places)}"/>')
    parts.append(f'<path class="line" d="{_line(levels, across, up)}"/>')
    last = len(levels) - 1
    for place, point in enumerate(history.points):
        if point.level is not None:
            kind = "newest" if place == last else "dot"
            parts.append(_mark(across(place), up(point.level), kind, bound=point.estimate.censored > 0))
    return Markup('<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, alt, Markup("".join(parts))
    )


def _line(levels: Sequence[float | None], across: Place, up: Place) -> str:
    """Join neighbours that have a value; the line breaks where a campaign has none."""
    runs = groupby(enumerate(levels), key=lambda one: one[1] is not None)
    return "".join(
        "M" + "L".join(f"{across(place)} {up(level)}" for place, level in run if level is not None)
        for there, run in runs
        if there
    )


def _mark(x: float, y: float, kind: str, *, bound: bool) -> str:
    if bound:
        return f'<path class="{kind}" d="M{x - 3} {y + 2.5}h6l-3 -5.5z"/>'
    return f'<circle class="{kind}" cx="{x}" cy="{y}" r="{3 if kind == "newest" else 1.7}"/>'

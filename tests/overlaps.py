"""Words that lie over each other in a figure."""

from __future__ import annotations

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TOUCH = 1.0
"""Pixels at 72 to the inch that two boxes may share: they hold the font's whole height, and letters do not fill it."""


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Return each pair of texts whose boxes intersect when the figure is drawn with matplotlib's own font."""
    figure.set_dpi(72)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in _shown(figure)]
    return [(one, other) for (one, here), (other, there) in combinations(boxes, 2) if _meet(here, there)]


def _shown(figure: Figure) -> list[Text]:
    """Return the texts that are drawn; ticks outside of the limits exist and are not."""
    found = [text for text in figure.texts if text.get_text()]
    for ax in figure.axes:
        if not ax.get_visible():
            continue
        axis = [] if not ax.axison else [one for one in (ax.xaxis, ax.yaxis) if one.get_visible()]
        ticks = [tick for one in axis for tick in one._update_ticks()]  # type: ignore[attr-defined]
        words = [label for tick in ticks for label in (tick.label1, tick.label2)] + [one.label for one in axis]
        found += [*ax.texts, ax.title, ax._left_title, ax._right_title, *words]  # type: ignore[attr-defined]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def _meet(one: Bbox, other: Bbox) -> bool:
    shared = Bbox.intersection(one, other)
    return shared is not None and shared.width > TOUCH and shared.height > TOUCH

"""Figures of a campaign: each function draws into `ax=` and returns it; nothing is shown, no global state is kept.

`picture` turns a finished figure into a display object.
"""

from __future__ import annotations

from chaoslab.plots.canvas import (
    Limits,
    axes_or_new,
    figure,
    log_ticks,
    named_rows,
    plain,
    printable,
    row_figure,
    words_of_row,
)
from chaoslab.plots.detail import Detail, columns
from chaoslab.plots.doses import dose
from chaoslab.plots.objectives import Judged, Row, slo, slo_limits, slos
from chaoslab.plots.palette import BLUE, GREEN, INK, MUTED, ORANGE, PAPER, RULE, SHADE, SMALL, TEXT
from chaoslab.plots.pictures import Picture, picture
from chaoslab.plots.recovery import recovery_curve
from chaoslab.plots.timelines import (
    FaultSpan,
    Resource,
    Scale,
    Series,
    faults,
    latency_limits,
    resources,
    series,
    timeline,
)

__all__ = [
    "BLUE",
    "GREEN",
    "INK",
    "MUTED",
    "ORANGE",
    "PAPER",
    "RULE",
    "SHADE",
    "SMALL",
    "TEXT",
    "Detail",
    "FaultSpan",
    "Judged",
    "Limits",
    "Picture",
    "Resource",
    "Row",
    "Scale",
    "Series",
    "axes_or_new",
    "columns",
    "dose",
    "faults",
    "figure",
    "latency_limits",
    "log_ticks",
    "named_rows",
    "picture",
    "plain",
    "printable",
    "recovery_curve",
    "resources",
    "row_figure",
    "series",
    "slo",
    "slo_limits",
    "slos",
    "timeline",
    "words_of_row",
]

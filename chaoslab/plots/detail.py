"""What a reader of an exported page may read off a timeline, and enlarge: all repeats in fine columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from chaoslab.plots.timelines import Series, injection_end, late, latencies, window_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from chaoslab.plots.canvas import Limits

COLUMNS: Final = 720
"""Three for each column of the drawn timeline."""


def columns(repeats: Sequence[Series], *, count: int = COLUMNS) -> pd.DataFrame:
    """Return the probes of all repeats in `count` equal columns of the time axis, those without a probe left out.

    The index is the column's number; `probes`, `failed` and `late` (sent late by the prober) count, `low`, `median` and
    `high` are of the successes in ms, NaN where there is none.
    """
    first, last = window_of(repeats)
    seconds = np.concatenate([np.empty(0), *(series.seconds("scheduled_us") for series in repeats)])
    values = pd.Series(np.concatenate([np.empty(0), *(latencies(series.rows) for series in repeats)]))
    held = pd.Series(np.concatenate([np.empty(0, dtype=bool), *(late(series.rows) for series in repeats)]))
    places = np.clip(((seconds - first) / (last - first) * count).astype(int), 0, count - 1)
    grouped = values.groupby(places)
    return pd.DataFrame(
        {
            "probes": grouped.size(),
            "failed": grouped.size() - grouped.count(),
            "low": grouped.min(),
            "median": grouped.median(),
            "high": grouped.max(),
            "late": held.groupby(places).sum(),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """The fine columns of a timeline that was drawn into `ax`; `limits` are of its latency axis, in ms."""

    name: str
    repeats: Sequence[Series]
    ax: Axes
    limits: Limits

    def json(self) -> str:
        """Return what the report's script needs, the place of `ax` in its figure included."""
        place = self.ax.get_position()
        table = columns(self.repeats)
        return json.dumps(
            {
                "name": self.name,
                "box": [round(place.x0, 5), round(place.x1, 5)],
                "window": window_of(self.repeats),
                "end": injection_end(self.repeats),
                "limits": self.limits,
                "log": self.ax.get_yscale() == "log",
                "count": COLUMNS,
                "columns": [_column(index, row) for index, row in zip(table.index, table.to_numpy(), strict=True)],
            },
            separators=(",", ":"),
        )


def _column(index: int, row: Iterable[float]) -> list[float | int | None]:
    """Return a column's number and values; how many were late only where any was."""
    *values, held = map(_short, row)
    return [int(index), *values, held] if held else [int(index), *values]


def _short(value: Any) -> float | int | None:
    """Return at most three digits, which is what is shown."""
    if np.isnan(value):
        return None
    short = float(f"{value:.3g}") if value < 1000 else round(float(value))
    return int(short) if short == int(short) else short

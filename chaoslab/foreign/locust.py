"""Locust: `locust --csv NAME` writes `NAME_stats_history.csv`, running totals about once a second.

Single requests are not in it, so there are no probes, and no latency, outage or recovery can be told. What can be
counted is counted: requests and failures between two instants, as differences of the totals.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from chaoslab.errors import RecordingError
from chaoslab.foreign import source
from chaoslab.foreign.probes import Gathering

_MOST_ROWS: Final = 1_000_000
_COLUMNS: Final = ("Timestamp", "Type", "Name", "Total Request Count", "Total Failure Count")


@dataclass(frozen=True, slots=True)
class Totals:
    """Running totals: at each instant (microseconds since 1970), the requests and failures until then."""

    at_us: tuple[int, ...]
    requests: tuple[int, ...]
    failures: tuple[int, ...]

    def counted(self, edges_us: Sequence[int]) -> list[dict[str, Any]]:
        """Return requests and failures between each edge and the next, by the last totals known at each."""
        places = [max(0, bisect_right(self.at_us, edge) - 1) for edge in edges_us]
        found = []
        for low, high in pairwise(places):
            requests, failures = (totals[high] - totals[low] for totals in (self.requests, self.failures))
            rate = 100 * failures / requests if requests else None
            found.append({"requests": requests, "failures": failures, "error_rate_percent": rate})
        return found


def read(path: Path, gathering: Gathering) -> Totals:
    """Return the totals of all requests together, or of the Name and Type that are selected.

    Raises:
        RecordingError: as `source.headed`, totals that go down, more of them than are held, or nothing selected.
    """
    at: list[int] = []
    requests: list[int] = []
    failures: list[int] = []
    chosen = Gathering(gathering.select or {"Name": "Aggregated"})
    for place, row in source.headed(path, _COLUMNS, kind="Locust's stats_history.csv"):
        if not chosen.wants(row):
            continue
        when = source.epoch_us(place, "Timestamp", row["Timestamp"])
        for totals, name in ((requests, "Total Request Count"), (failures, "Total Failure Count")):
            count = source.whole(place, name, row[name])
            if totals and count < totals[-1]:
                place.refuse(name, count, f"a running total of one series, at least {totals[-1]}")
            totals.append(count)
        if at and when < at[-1]:
            place.refuse("Timestamp", row["Timestamp"], "instants in order")
        at.append(when)
        if len(at) > _MOST_ROWS:
            raise RecordingError(f"{place}: is row {len(at):,} of one series; accepted: up to {_MOST_ROWS:,}, 11 days")
    if not at:
        raise chosen.nothing(str(path))
    return Totals(tuple(at), tuple(requests), tuple(failures))

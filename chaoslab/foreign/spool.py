"""Probes on their way: sorted by when they were sent, whatever their number, in memory that does not grow with it.

Tools write a request when it has ended, so their files are nearly but not quite in order. Runs of rows are sorted in
memory, laid on disk and merged (external merge sort).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from chaoslab.foreign.probes import Probe
from chaoslab.records import ErrorKind

_KINDS: Final = tuple(ErrorKind)
_NONE: Final = -1
_ROW: Final = np.dtype([("sent_us", "<i8"), ("latency_us", "<i4"), ("status", "<i2"), ("error", "i1")])
_RUN_ROWS: Final = 200_000
_BLOCK_ROWS: Final = 8_192

Rows = NDArray[Any]
"""A structured array with the fields sent_us, latency_us, status (−1: no answer) and error (−1: success)."""


class Spool:
    """Takes probes in any order into `file`, an empty binary file that can be read and written, and gives them sorted.

    Attributes:
        count: probes taken; `first_us` and `last_us` are when the first and the last of them was sent, and `over_us`
            when the last of them was over (microseconds since 1970; meaningless without probes).
    """

    def __init__(self, file: IO[bytes], *, run_rows: int = _RUN_ROWS) -> None:
        self.count = 0
        self.first_us = self.last_us = self.over_us = 0
        self._file = file
        self._run_rows = run_rows
        self._rows: list[tuple[int, int, int, int]] = []
        self._runs: list[tuple[int, int]] = []  # (first row, rows)

    def add(self, probe: Probe) -> None:
        """Take one probe."""
        sent, latency, status, error = probe
        first = self.count == 0
        self.first_us = sent if first else min(self.first_us, sent)
        self.last_us = sent if first else max(self.last_us, sent)
        self.over_us = sent + latency if first else max(self.over_us, sent + latency)
        self.count += 1
        kind = _NONE if error is None else _KINDS.index(error)
        self._rows.append((sent, latency, _NONE if status is None else status, kind))
        if len(self._rows) >= self._run_rows:
            self._lay_down()

    def in_order(self) -> Iterator[Rows]:
        """Yield all probes in order of `sent_us`, in arrays of some thousands; equal instants stay as they came."""
        self._lay_down()
        if len(self._runs) == 1:
            yield from self._blocks(*self._runs[0])
            return
        merged = heapq.merge(*(self._tuples(*run) for run in self._runs), key=lambda row: row[0])
        while block := list(islice(merged, _BLOCK_ROWS)):
            yield np.array(block, dtype=_ROW)

    def _lay_down(self) -> None:
        if self._rows:
            rows = np.array(self._rows, dtype=_ROW)
            rows = rows[np.argsort(rows["sent_us"], kind="stable")]
            self._runs.append((self.count - len(rows), len(rows)))
            self._file.seek(0, 2)
            self._file.write(rows.tobytes())
            self._rows = []

    def _blocks(self, first: int, rows: int) -> Iterator[Rows]:
        for start in range(first, first + rows, _BLOCK_ROWS):
            length = min(_BLOCK_ROWS, first + rows - start)
            self._file.seek(start * _ROW.itemsize)
            yield np.frombuffer(self._file.read(length * _ROW.itemsize), dtype=_ROW)

    def _tuples(self, first: int, rows: int) -> Iterator[tuple[int, int, int, int]]:
        for block in self._blocks(first, rows):
            yield from block.tolist()


def columns(rows: Rows, *, anchor_us: int, first_seq: int, probe: str) -> dict[str, Any]:
    """Return rows as the table of probes has them, but for the run's key; the schedule is what was sent."""
    failed = rows["error"] != _NONE
    length = len(rows)
    return {
        "seq": np.arange(first_seq, first_seq + length, dtype=np.int32),
        "probe": [probe] * length,
        "scheduled_us": rows["sent_us"] - anchor_us,
        "sent_us": np.zeros(length, dtype=np.int32),
        "latency_us": rows["latency_us"],
        "status": [None if status == _NONE else status for status in rows["status"].tolist()],
        "outcome": ["failure" if bad else "success" for bad in failed.tolist()],
        "error": [None if kind == _NONE else str(_KINDS[kind]) for kind in rows["error"].tolist()],
    }

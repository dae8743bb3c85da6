"""Rows from an instrument to Parquet parts, without ever making the instrument wait for the disk."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from chaoslab.store import PartWriter

PERIOD: Final = 0.5
LIMIT: Final = 200_000


class Recorder:
    """A bounded queue of rows, and a thread that writes it as one part every `period` seconds.

    While the disk stalls or is full, rows wait, up to `limit`; beyond that they are dropped and counted. A write that
    failed is tried again with the next: a disk that a fault has filled comes back when the fault is reverted.
    `complain` gets one sentence for each series of failed writes.
    """

    def __init__(
        self,
        writer: PartWriter,
        columns: Sequence[str],
        *,
        complain: Callable[[str], None],
        period: float = PERIOD,
        limit: int = LIMIT,
    ) -> None:
        self.recorded = 0
        self.dropped = 0
        self._writer = writer
        self._columns = tuple(columns)
        self._complain = complain
        self._period = period
        self._limit = limit
        # Appending and popping at either end are atomic, so that adding a row takes no lock.
        self._queue: deque[tuple[Any, ...]] = deque()
        self._hand: list[tuple[Any, ...]] = []
        self._failing = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that are not on disk yet."""
        return len(self._queue) + len(self._hand)

    def add(self, row: tuple[Any, ...]) -> None:
        """Take one row, its values in the order of `columns`."""
        if len(self._queue) < self._limit:
            self._queue.append(row)
        else:
            self.dropped += 1

    def close(self, *, patience: float, compact: bool) -> bool:
        """Write what is left and, if `compact`, join the parts; return whether every row is on disk.

        Gives up after `patience` seconds. Rows that could not be written count as dropped.
        """
        self._closing.set()
        self._thread.join(patience)
        left = self.waiting
        self.dropped += left
        if left or self._thread.is_alive():
            return False
        return self._compacted() if compact else True

    def _compacted(self) -> bool:
        try:
            self._writer.compact()
        except OSError as error:
            # The parts stay, and can be read as they are.
            self._complain(f"the recorded parts cannot be joined: {_cause(error)}")
            return False
        return True

    def _work(self) -> None:
        while not self._closing.wait(self._period):
            self._write()
        while self._write():
            pass

    def _write(self) -> bool:
        """Write the rows in hand, else those that wait, as one part; return whether one was written."""
        self._hand = self._hand or [self._queue.popleft() for _ in range(len(self._queue))]
        if not self._hand:
            return False
        try:
            self._writer.write(dict(zip(self._columns, zip(*self._hand, strict=True), strict=True)))
        except OSError as error:
            if not self._failing:
                self._complain(f"rows cannot be written: {_cause(error)}")
            self._failing = True
            return False
        self._failing = False
        self.recorded += len(self._hand)
        self._hand = []
        return True


def _cause(error: OSError) -> str:
    # Arrow's own text names its functions and a temporary file.
    return os.strerror(error.errno) if error.errno else str(error)

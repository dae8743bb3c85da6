"""Numbers that a prober keeps while it works: flat in memory, and in cost per probe, however long it runs."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chaoslab.records import ErrorKind

TICK: Final = 0.2
_BINS_PER_OCTAVE: Final = 16
_OCTAVES: Final = 32


class Histogram:
    """Counts of microseconds on a logarithmic scale: bins are 4.4 % wide, quantiles exact to half of that.

    >>> histogram = Histogram()
    >>> for microseconds in (100, 1_000, 1_000, 9_000):
    ...     histogram.add(Histogram.bin(microseconds))
    >>> histogram.quantile(0.5)
    1002
    """

    def __init__(self) -> None:
        self.count = 0
        self._bins = [0] * (_BINS_PER_OCTAVE * _OCTAVES)

    @staticmethod
    def bin(microseconds: int) -> int:
        """Return the bin of a duration; negative ones count as zero, those beyond an hour as the longest."""
        if microseconds < 1:
            return 0
        return min(int(math.log2(microseconds) * _BINS_PER_OCTAVE), _BINS_PER_OCTAVE * _OCTAVES - 1)

    def add(self, index: int, count: int = 1) -> None:
        """Add `count` durations of bin `index`; a negative count takes them out again."""
        self._bins[index] += count
        self.count += count

    def quantile(self, share: float) -> int | None:
        """Return the duration, in microseconds, below which `share` of them lie; None when there are none."""
        wanted = max(1, math.ceil(share * self.count))
        seen = 0
        for index, count in enumerate(self._bins):
            seen += count
            if seen >= wanted:
                return round(2 ** ((index + 0.5) / _BINS_PER_OCTAVE))
        return None


@dataclass(slots=True)
class _Slice:
    """What ended between two ticks; `answers` has the bins of response times with how many are in each."""

    ended_us: int
    successes: int
    failures: int
    answers: Mapping[int, int]


class Vitals:
    """How the target fares now: counts of the last second and of the last `window_s` seconds.

    A probe that was never sent says nothing about the target and does not count. A response time is that of an
    answer, whatever its status, or of a time-out, which took at least that long; a refused connection is no response.
    """

    def __init__(self, *, window_s: float, started_us: int) -> None:
        self._window_s = window_s
        self._started_us = started_us
        self._successes = 0
        self._failures = 0
        self._answers: list[int] = []
        self._slices: deque[_Slice] = deque()
        self._window_successes = 0
        self._window_failures = 0
        self._window_answers = Histogram()
        self._failing_since_us: int | None = None
        self._last_success_us = started_us

    def add(self, error: ErrorKind | None, *, scheduled_us: int, latency_us: int) -> None:
        """Take a probe that has ended."""
        if error is None:
            self._successes += 1
            self._failing_since_us = None
            self._last_success_us = max(self._last_success_us, scheduled_us + latency_us)
            self._answers.append(latency_us)
            return
        if error is ErrorKind.UNSENT:
            return
        self._failures += 1
        if self._failing_since_us is None:
            # A lost probe that times out after later ones succeeded must not claim that nothing succeeded meanwhile.
            self._failing_since_us = max(scheduled_us, self._last_success_us)
        if error is ErrorKind.STATUS or error is ErrorKind.TIMEOUT:
            self._answers.append(latency_us)

    def tick(self, now_us: int) -> dict[str, float | int | None]:
        """Close a slice of time and return the numbers as of `now_us`, as `probe.Live` has them."""
        self._take_slice(now_us)
        self._forget(now_us - round(self._window_s * 1e6))
        second = self._last_second(now_us)
        return {
            "at_us": now_us,
            "successes_1s": sum(part.successes for part in second),
            "failures_1s": sum(part.failures for part in second),
            "failing_since_us": self._failing_since_us,
            "window_count": self._window_successes + self._window_failures,
            "window_failures": self._window_failures,
            "window_filled_s": max(0.0, min(self._window_s, (now_us - self._started_us) / 1e6)),
            "median_latency_us": self._window_answers.quantile(0.5),
        }

    def _take_slice(self, now_us: int) -> None:
        answers: Counter[int] = Counter()
        # Many are alike to the microsecond: counted first, they are binned in fewer steps.
        for latency_us, count in Counter(self._answers).items():
            answers[Histogram.bin(latency_us)] += count
        self._slices.append(_Slice(now_us, self._successes, self._failures, answers))
        self._window_successes += self._successes
        self._window_failures += self._failures
        self._count(answers, +1)
        self._successes = self._failures = 0
        self._answers.clear()

    def _forget(self, before_us: int) -> None:
        while self._slices and self._slices[0].ended_us <= before_us:
            old = self._slices.popleft()
            self._window_successes -= old.successes
            self._window_failures -= old.failures
            self._count(old.answers, -1)

    def _count(self, answers: Mapping[int, int], sign: int) -> None:
        for index, count in answers.items():
            self._window_answers.add(index, sign * count)

    def _last_second(self, now_us: int) -> list[_Slice]:
        found: list[_Slice] = []
        for part in reversed(self._slices):
            if part.ended_us <= now_us - 1_000_000:
                break
            found.append(part)
        return found

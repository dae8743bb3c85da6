"""When a fault acted, as whoever imports a recording says it: foreign files do not tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from chaoslab.errors import UsageError

_ACCEPTED: Final = "seconds from the first probe, or an instant such as 2026-01-31T12:00:00Z"
_LONGEST: Final = 10 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class Window:
    """Start and end of an injection as texts: seconds from the recording's first probe, or instants with a time zone.

    Raises:
        UsageError: one is neither.
    """

    start: str
    end: str

    def __post_init__(self) -> None:
        self.within(0)

    def within(self, first_us: int) -> tuple[int, int]:
        """Return start and end in microseconds since 1970, for a recording that began at `first_us`."""
        return _at("--injection-start", self.start, first_us), _at("--injection-end", self.end, first_us)


@dataclass(frozen=True, slots=True)
class Piece:
    """What becomes one run, in microseconds since 1970: rows sent in [begin_us, finish_us)."""

    begin_us: int
    finish_us: int
    injection_us: tuple[int, int] | None = None


def cut(windows: Sequence[Window], *, what: str, first_us: int, last_us: int, over_us: int) -> list[Piece]:
    """Return the runs of one recording, one for each window; two windows share the time between them evenly.

    Args:
        what: the recording, for messages.
        first_us, last_us: when its first and last probes were sent.
        over_us: when its last probe was over.

    Raises:
        UsageError: a window lies outside of the recording, leaves no baseline, has no length, or meets another.
    """
    finish = max(over_us, last_us) + 1
    if not windows:
        return [Piece(first_us, finish)]
    found = sorted(window.within(first_us) for window in windows)
    for start, end in found:
        if not first_us < start < end <= last_us:
            raise UsageError(
                f"{what}: the injection {shown(start)} to {shown(end)} does not lie within the recording, with "
                f"some time before it; accepted: start before end, between {shown(first_us)} and {shown(last_us)} "
                f"(0 and {(last_us - first_us) / 1e6:g} seconds from the first probe)"
            )
    for (_, end), (start, _) in pairwise(found):
        if start <= end:
            raise UsageError(f"{what}: two injections overlap at {shown(start)}; accepted: one after the other")
    borders = [(end + start) // 2 for (_, end), (start, _) in pairwise(found)]
    edges = pairwise([first_us, *borders, finish])
    return [Piece(begin, end, window) for (begin, end), window in zip(edges, found, strict=True)]


def shown(at_us: int) -> str:
    """Return an instant as text, in UTC."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _at(option: str, text: str, first_us: int) -> int:
    try:
        seconds = float(text)
    except ValueError:
        return _instant(option, text)
    if not -_LONGEST <= seconds <= _LONGEST:
        raise UsageError(f"{option} is {text!r}; accepted: {_ACCEPTED}")
    return first_us + round(seconds * 1e6)


def _instant(option: str, text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return round(at.timestamp() * 1e6)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{option} is {text!r}; accepted: {_ACCEPTED}")

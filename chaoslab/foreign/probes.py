"""What a reader of a format yields, and what it learns on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from chaoslab.errors import RecordingError
from chaoslab.records import ErrorKind

_MOST_SHOWN: Final = 8
_CLUES: Final = (
    (ErrorKind.TIMEOUT, ("timeout", "timed out", "deadline exceeded")),
    (ErrorKind.REFUSED, ("refused", "connectexception", "httphostconnect")),
    (ErrorKind.UNREACHABLE, ("no such host", "unknownhost", "no route", "unreachable", "lookup")),
    (ErrorKind.TLS, ("x509", "certificate", "tls:", "sslexception", "sslhandshake")),
    (ErrorKind.RESET, ("reset", "eof", "broken pipe", "nohttpresponse", "socket closed", "socketexception")),
    (ErrorKind.PROTOCOL, ("malformed", "protocol")),
)


class Probe(NamedTuple):
    """One request: when it was sent (microseconds since 1970), how long it took, and what became of it."""

    sent_us: int
    latency_us: int
    status: int | None
    error: ErrorKind | None


@dataclass(slots=True)
class Gathering:
    """Which rows are wanted, and what was met: the origins that were asked, and remarks for whoever reads the record.

    `select` maps a name of the format (a tag, a label, a column) to the value that a row must have there.
    """

    select: Mapping[str, str]
    origins: set[str] = field(default_factory=set)
    urls: set[str] = field(default_factory=set)
    remarks: dict[str, None] = field(default_factory=dict)
    _passed: dict[str, set[str]] = field(default_factory=dict)

    def wants(self, row: Mapping[str, object]) -> bool:
        """Return whether a row is selected."""
        for name, value in self.select.items():
            found = str(row.get(name, ""))
            if found != value:
                met = self._passed.setdefault(name, set())
                if found and len(met) < _MOST_SHOWN:
                    met.add(found)
                return False
        return True

    def met(self, url: str) -> None:
        """Note a URL that was asked; only a few are kept."""
        if url in self.urls or len(self.urls) >= _MOST_SHOWN:
            return
        try:
            parts = urlsplit(url)
        except ValueError:
            return
        if parts.scheme and parts.netloc:
            self.urls.add(url)
            self.origins.add(f"{parts.scheme}://{parts.netloc}")

    def nothing(self, what: str) -> RecordingError:
        """Return the error for a recording without a row that is wanted."""
        if not self.select:
            return RecordingError(f"{what}: holds no probe; accepted: a recording with at least one")
        asked = ", ".join(f"{name}={value}" for name, value in self.select.items())
        known = "; ".join(f"{name} is one of {', '.join(sorted(met))}" for name, met in self._passed.items() if met)
        return RecordingError(f"{what}: nothing is selected by --select {asked}{f'; {known}' if known else ''}")


Probes = Iterator[Probe]


def kind_of(text: str) -> ErrorKind:
    """Return the kind of error that another tool's words tell; what tells nothing counts as unreachable.

    >>> kind_of("dial tcp [::1]:80: connect: connection refused"), kind_of("Get http://x: context deadline exceeded")
    (<ErrorKind.REFUSED: 'refused'>, <ErrorKind.TIMEOUT: 'timeout'>)
    """
    said = text.lower()
    return next((kind for kind, clues in _CLUES if any(clue in said for clue in clues)), ErrorKind.UNREACHABLE)


def judged(status: int | None, failed: bool, words: str) -> ErrorKind | None:
    """Return why a probe failed, None for a success: with an answer it is its status, without one what `words` say."""
    if not failed:
        return None
    return ErrorKind.STATUS if status else kind_of(words)

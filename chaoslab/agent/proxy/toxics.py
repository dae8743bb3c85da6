"""Toxics: what the proxy does to what passes, and the count of what was done.

A stream toxic acts on the bytes of every connection, whatever they mean. A request toxic acts on a share of the HTTP
requests that match it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Final

_RETRANSMISSION_SECONDS: Final = 0.2
_SYN_RETRANSMISSION_SECONDS: Final = 1.0
MOST_LOSSES: Final = 6


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request, as far as toxics look at it: `path` without its query, names of headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(slots=True, kw_only=True, eq=False)
class Toxic:
    """What both kinds have: a delay, a pace, a seed of their own, and how fast what they pace really went."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    bytes_per_second: float = 0.0
    seed: int = 0
    generator: random.Random = field(init=False, repr=False)
    paced: int = 0
    paced_bytes: int = 0
    paced_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.generator = random.Random(self.seed)

    def delay(self) -> float:
        """Return a delay in seconds, evenly distributed within the jitter on either side."""
        if not self.jitter_ms:
            return self.delay_ms / 1000
        return max(0.0, self.delay_ms + self.jitter_ms * self.generator.uniform(-1, 1)) / 1000

    def count_paced(self, count: int, seconds: float) -> None:
        """Count bytes that this toxic's pace made wait, and how long they really took."""
        self.paced += 1
        self.paced_bytes += count
        self.paced_seconds += seconds

    def state(self) -> dict[str, Any]:
        """Return settings and counts, as JSON takes them."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "generator"}


@dataclass(slots=True, kw_only=True, eq=False)
class StreamToxic(Toxic):
    """Holds back bytes: delay and loss on the way to the target, pace and black hole in both directions.

    Loss is *emulated*: TCP hides a lost packet behind a retransmission, so what an application sees of it is a stall
    (RFC 6298: 200 ms as in Linux, doubled at each further loss, 1 s for a connection's first packet). The pace is that
    of each connection and direction. What a black hole swallows goes on once it is gone, as TCP sends it again then.
    """

    loss_percent: float = 0.0
    black_hole: bool = False
    connections: int = 0
    chunks: int = 0
    stalled: int = 0

    def opens(self) -> float:
        """Return for how many seconds a new connection's own first packet is held back."""
        self.connections += 1
        return self._hold(_SYN_RETRANSMISSION_SECONDS)

    def holds(self, towards_target: bool) -> float:
        """Return for how many seconds the next chunk is held back; infinity: until the toxic is gone."""
        if self.black_hole:
            self.chunks += 1
            return float("inf")
        return self._hold(_RETRANSMISSION_SECONDS) if towards_target else 0.0

    def _hold(self, pause: float) -> float:
        self.chunks += 1
        losses = 0
        while losses < MOST_LOSSES and self.generator.random() * 100 < self.loss_percent:
            losses += 1
        self.stalled += losses > 0
        return self.delay() + pause * float(2**losses - 1)


@dataclass(slots=True, kw_only=True, eq=False)
class RequestToxic(Toxic):
    """Hits `percent` of the requests that match: they wait, go slowly, or never reach the target.

    `path` and the values of `headers` are patterns in which * stands for any characters, slashes too. A request that
    is hit is answered with `status`, reset, or left hanging; without any of these it passes, after its delay.
    """

    percent: float = 100.0
    path: str | None = None
    methods: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    reset: bool = False
    hang: bool = False
    matched: int = 0
    hit: int = 0
    held: int = 0
    held_seconds: float = 0.0

    @property
    def ends(self) -> bool:
        """Whether a request that is hit never reaches the target."""
        return self.status is not None or self.reset or self.hang

    def strikes(self, request: Request) -> bool:
        """Return whether a request is hit, and count it if it could have been."""
        if not self._matches(request):
            return False
        self.matched += 1
        hit = self.generator.random() * 100 < self.percent
        self.hit += hit
        return hit

    def _matches(self, request: Request) -> bool:
        return (
            (self.path is None or fnmatchcase(request.path, self.path))
            and (not self.methods or request.method in self.methods)
            and all(fnmatchcase(request.headers.get(name, ""), value) for name, value in self.headers.items())
        )

    def waited(self, seconds: float) -> None:
        """Count how long a request that was hit really waited."""
        self.held += 1
        self.held_seconds += seconds


KINDS: Final[Mapping[str, type[StreamToxic] | type[RequestToxic]]] = {"stream": StreamToxic, "requests": RequestToxic}

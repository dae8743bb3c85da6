"""What a delay, a jitter and a rate that are asked for come to in time, by the emulator's own arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from chaoslab.faults.impairment import Impairment

FRAME_BYTES: Final = 100

_BURST_MS: Final = 200
_BURST_BYTES: Final = 1000
_LEAST_BURST: Final = 4
_MOST_BURST: Final = 200


@dataclass(frozen=True, slots=True)
class Shape:
    """A distribution of jitter, in units of it."""

    mean: float
    deviation: float
    median: float


SHAPES: Final = {
    # Those of iproute2's tables, which are what tc hands to the kernel.
    "uniform": Shape(0.0, 1 / math.sqrt(3), 0.0),
    "normal": Shape(0.0, 1.0, 0.0),
    "pareto": Shape(-0.033, 0.820, -0.320),
    "paretonormal": Shape(-0.025, 0.834, -0.240),
}


def shape_of(asked: Impairment) -> Shape:
    """Return the distribution of the jitter."""
    return SHAPES[asked.delay_distribution or "uniform"]


def spread_ms(asked: Impairment) -> float:
    """Return the standard deviation of the delay that is asked, ms.

    A uniform jitter whose draws are correlated varies less (a mixed draw keeps to the middle); the tables of the other
    distributions are entered by the draw's low bits, which know nothing of the one before.
    """
    shape = asked.delay_distribution or "uniform"
    memory = asked.delay_correlation_percent / 100 if shape == "uniform" else 0.0
    return asked.jitter_ms * SHAPES[shape].deviation * math.sqrt((1 - memory) / (1 + memory))


def delay_trials(asked: Impairment, count: int) -> float:
    """Return how many independent delays `count` of them are worth."""
    memory = asked.delay_correlation_percent / 100
    return max(1.0, count * (1 - memory) / (1 + memory))


def charged_bytes(asked: Impairment, size: int) -> int:
    """Return as how many bytes the emulator counts a packet of `size` (packet_time_ns in sch_netem.c).

    >>> charged_bytes(Impairment(rate_kbit=32, rate_cell_bytes=48, rate_cell_overhead_bytes=5), 50)
    106
    """
    size = max(1, size + asked.rate_packet_overhead_bytes)
    if not asked.rate_cell_bytes:
        return size
    return -(-size // asked.rate_cell_bytes) * max(1, asked.rate_cell_bytes + asked.rate_cell_overhead_bytes)


def serialised_ms(asked: Impairment, size: int) -> float:
    """Return how long a limited rate takes for a packet of `size` bytes, ms."""
    return charged_bytes(asked, size) * 8 / asked.rate_kbit if asked.rate_kbit else 0.0


def burst(asked: Impairment) -> tuple[int, int]:
    """Return of how many bytes, and how many, the frames are that show the rate in a fifth of a second or so."""
    bits = asked.rate_kbit * _BURST_MS
    size = _BURST_BYTES if bits >= _LEAST_BURST * _BURST_BYTES * 8 else FRAME_BYTES
    return size, max(_LEAST_BURST, min(_MOST_BURST, round(bits / 8 / size)))

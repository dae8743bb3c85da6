"""memory_stress: memory that is touched, resident, and kept while the fault lasts.

Dose: anonymous resident bytes of the workers, the smaller of what was seen at the effect and at the end. A dose that
would leave the machine, or a limited container, too little memory is refused; the workers ask the kernel to be killed
first if memory runs out all the same.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from chaoslab.agent.facts import Facts
from chaoslab.faults.base import FailureType, Obstacle, Reading
from chaoslab.faults.stress import Stressor, StressParameters, shorthand
from chaoslab.records import Dose
from chaoslab.scenario import Scenario, parse_size

_MEBIBYTE = 1024**2
_LEAST_LEFT = 256 * _MEBIBYTE
_LEAST_LEFT_SHARE = 0.05
_TOLERANCE = 0.05
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_WORKER_OVERHEAD = 16 * _MEBIBYTE


def _amount(value: object) -> object:
    """Return bytes, or a share as it is written, "40%".

    >>> _amount("256M"), _amount(" 40 %")
    (268435456, '40%')

    Raises:
        ValueError: neither, or nothing.
    """
    if isinstance(value, str) and (share := _SHARE.fullmatch(value)) and 0 < float(share[1]) <= 100:
        return f"{share[1]}%"
    size = parse_size(value)
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    raise ValueError('accepted: bytes, text such as "256M", or a share of what is free such as "40%"')


class MemoryParameters(StressParameters):
    """Dose of memory_stress."""

    memory_size: Annotated[int | str, BeforeValidator(_amount, json_schema_input_type=int | str)] = Field(
        validation_alias=shorthand("memory_size", "size"),
        description='resident memory to hold, "256M", or "40%" of what is free when the fault begins',
    )


class MemoryStress(Scenario):
    """Memory held resident."""

    type: Literal["memory_stress", "memory_leak"]
    parameters: MemoryParameters


class _Memory(Stressor):
    """One worker that holds memory."""

    def settled(self, scenario: Scenario, facts: Facts) -> Scenario:
        size = scenario.parameters.model_copy(update={"memory_size": _bytes(scenario, facts)})
        return scenario.model_copy(update={"parameters": size})

    def shortage(self, scenario: Scenario, facts: Facts) -> Obstacle | None:
        asked, keep = _bytes(scenario, facts), _kept(facts)
        if asked <= facts.memory_available - keep:
            return None
        sizes = (size // _MEBIBYTE for size in (asked, facts.memory_available, keep))
        return Obstacle("{} MB are asked for; {} MB are free, of which {} MB must stay".format(*sizes), "ask for less")

    def shows(self, scenario: Scenario, earlier: Reading, later: Reading) -> bool:
        return bool(later.data.get("anonymous_bytes", 0) >= (1 - _TOLERANCE) * _asked(scenario))

    def measure(self, scenario: Scenario, facts: Facts, effect: Reading, last: Reading) -> tuple[Dose, ...]:
        asked = _asked(scenario) / _MEBIBYTE
        held = min(reading.data.get("anonymous_bytes", 0) for reading in (effect, last))
        return (
            Dose(
                quantity="memory held resident",
                unit="MB",
                asked=asked,
                delivered=held / _MEBIBYTE,
                low=asked * (1 - _TOLERANCE),
                high=asked * (1 + _TOLERANCE) + _WORKER_OVERHEAD / _MEBIBYTE,
                how="anonymous resident bytes of the workers (/proc/PID/status), the least of effect and end",
                mechanism=self.name,
            ),
        )


def _dose(scenario: Scenario) -> int | str:
    assert isinstance(scenario, MemoryStress)
    return scenario.parameters.memory_size


def _asked(scenario: Scenario) -> int:
    """Return the bytes of a settled scenario."""
    return int(_dose(scenario))


def _bytes(scenario: Scenario, facts: Facts) -> int:
    """Return the bytes that are asked for, a share being one of what is free."""
    asked = _dose(scenario)
    return asked if isinstance(asked, int) else int(facts.memory_available * float(asked.removesuffix("%")) / 100)


def _kept(facts: Facts) -> int:
    """Return the bytes that must stay free: 256 MB, or a quarter of a small container, or 5 % of a large machine."""
    return int(max(_LEAST_LEFT_SHARE * facts.memory_total, min(_LEAST_LEFT, facts.memory_total / 4)))


class StressNg(_Memory):
    """stress-ng's virtual memory stressor, which fills its memory once and keeps it."""

    name = program = "stress-ng"

    def argv(self, scenario: Scenario, seconds: float, token: str) -> tuple[str, ...]:
        hold = ("--vm", "1", "--vm-bytes", str(_asked(scenario)), "--vm-keep", "--vm-hang", "0")
        return ("stress-ng", *hold, "--timeout", f"{int(seconds + 1)}s", "--quiet")


class OwnWorker(_Memory):
    """A worker process of our own."""

    name = "python worker"

    def argv(self, scenario: Scenario, seconds: float, token: str) -> tuple[str, ...]:
        hold = ("memory", "--bytes", str(_asked(scenario)), "--seconds", f"{seconds:g}")
        return (sys.executable, "-m", "chaoslab.agent.workers", *hold)


FAULT: Final = FailureType(scenario=MemoryStress, mechanisms=(StressNg(), OwnWorker()))

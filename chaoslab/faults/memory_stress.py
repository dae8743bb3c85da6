"""memory_stress: memory that is touched, resident, and kept while the fault lasts.

Dose: anonymous resident bytes of the workers, the smaller of what was seen at the effect and at the end. A dose that
would leave this machine too little memory is refused; the workers ask the kernel to be killed first if memory runs out.
"""

from __future__ import annotations

import sys
from typing import Final, Literal

import psutil
from pydantic import Field

from chaoslab.faults.base import FailureType, Obstacle, Reading
from chaoslab.faults.stress import Stressor
from chaoslab.records import Dose
from chaoslab.scenario import Parameters, Scenario, Size

_MEBIBYTE = 1024**2
_LEAST_LEFT = 256 * _MEBIBYTE
_LEAST_LEFT_SHARE = 0.05
_TOLERANCE = 0.05
_WORKER_OVERHEAD = 16 * _MEBIBYTE


class MemoryParameters(Parameters):
    """Dose of memory_stress."""

    memory_size: Size = Field(description='resident memory to hold, "256M"')


class MemoryStress(Scenario):
    """Memory held resident."""

    type: Literal["memory_stress", "memory_leak"]
    parameters: MemoryParameters


class _Memory(Stressor):
    """One worker that holds memory."""

    def shortage(self, scenario: Scenario) -> Obstacle | None:
        memory = psutil.virtual_memory()
        keep = max(_LEAST_LEFT, _LEAST_LEFT_SHARE * memory.total)
        if _asked(scenario) <= memory.available - keep:
            return None
        sizes = (_asked(scenario) // _MEBIBYTE, memory.available // _MEBIBYTE, int(keep) // _MEBIBYTE)
        return Obstacle("{} MB are asked for; {} MB are free, of which {} MB must stay".format(*sizes))

    def shows(self, scenario: Scenario, earlier: Reading, later: Reading) -> bool:
        return bool(later.data.get("anonymous_bytes", 0) >= (1 - _TOLERANCE) * _asked(scenario))

    def measure(self, scenario: Scenario, effect: Reading, last: Reading) -> tuple[Dose, ...]:
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


def _asked(scenario: Scenario) -> int:
    assert isinstance(scenario, MemoryStress)
    return scenario.parameters.memory_size


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

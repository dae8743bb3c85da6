"""cpu_stress: workers that want a core all the time, or `cpu_load` percent of it.

Dose: the demand (cores' worth of work that ran or waited for a core), which is what the fault controls, and the cores
really busy, which depend also on who else competes, and on a container's quota. Both come from the kernel's accounting
of the workers.
"""

from __future__ import annotations

import sys
from typing import Final, Literal

from pydantic import Field

from chaoslab.agent.facts import Facts
from chaoslab.faults.base import FailureType, Reading
from chaoslab.faults.stress import Stressor, StressParameters, rate, shorthand
from chaoslab.records import Dose
from chaoslab.scenario import Scenario

_EFFECT_SHARE = 0.7
_HOW = "CPU accounting of the workers (/proc/PID/schedstat) between effect and undo"


class CpuParameters(StressParameters):
    """Dose of cpu_stress."""

    cpu_workers: int = Field(
        gt=0, le=4096, validation_alias=shorthand("cpu_workers", "workers"), description="how many workers spin"
    )
    cpu_load: int = Field(
        default=100,
        gt=0,
        le=100,
        validation_alias=shorthand("cpu_load", "load"),
        description="percent of one core that each worker takes",
    )


class CpuStress(Scenario):
    """Workers that keep cores busy."""

    type: Literal["cpu_stress", "cpu_exhaust"]
    parameters: CpuParameters


class _Cpu(Stressor):
    """Workers that spin."""

    def shows(self, scenario: Scenario, earlier: Reading, later: Reading) -> bool:
        dose = _dose(scenario)
        # With their leader they are one more; before that, what runs is only on its way to become them.
        complete = earlier.data.get("processes", 0) > dose.cpu_workers
        found = rate(earlier, later, "runnable_seconds") if complete else None
        return found is not None and found >= _EFFECT_SHARE * _demand(dose)

    def measure(self, scenario: Scenario, facts: Facts, effect: Reading, last: Reading) -> tuple[Dose, ...]:
        dose = _dose(scenario)
        demand = _demand(dose)
        cores = min(demand, facts.cores)
        return (
            Dose(
                quantity="CPU demand",
                unit="cores",
                asked=demand,
                delivered=rate(effect, last, "runnable_seconds"),
                # The kernel does not count all the time as waiting in which a group has used up its quota.
                low=demand * (0.85 if dose.placement is not None and cores < demand else 0.95),
                # A worker that wants part of a core may have to wait for it, which is demand too.
                high=dose.cpu_workers * 1.05,
                how=_HOW,
                mechanism=self.name,
            ),
            Dose(
                quantity="cores busy",
                unit="cores",
                asked=cores,
                delivered=rate(effect, last, "cpu_seconds"),
                # The target and others compete for the same cores: a fair share may be as low as this.
                low=cores * 0.25,
                # At partial load, what it owed from before the first reading is made up after it.
                high=cores * (1.05 if dose.cpu_load == 100 else 1.15),
                how=_HOW if cores == demand else f"{_HOW}; there are no more than {facts.cores:g} cores to get",
                mechanism=self.name,
            ),
        )


def _dose(scenario: Scenario) -> CpuParameters:
    assert isinstance(scenario, CpuStress)
    return scenario.parameters


def _demand(dose: CpuParameters) -> float:
    return dose.cpu_workers * dose.cpu_load / 100


class StressNg(_Cpu):
    """stress-ng's CPU stressor."""

    name = program = "stress-ng"

    def argv(self, scenario: Scenario, seconds: float, token: str) -> tuple[str, ...]:
        dose = _dose(scenario)
        workers = ("--cpu", str(dose.cpu_workers), "--cpu-load", str(dose.cpu_load))
        # Its --timeout takes whole seconds.
        return ("stress-ng", *workers, "--timeout", f"{int(seconds + 1)}s", "--quiet")


class OwnWorkers(_Cpu):
    """Worker processes of our own."""

    name = "python workers"

    def argv(self, scenario: Scenario, seconds: float, token: str) -> tuple[str, ...]:
        dose = _dose(scenario)
        workers = ("--workers", str(dose.cpu_workers), "--load", str(dose.cpu_load))
        return (sys.executable, "-m", "chaoslab.agent.workers", "cpu", *workers, "--seconds", f"{seconds:g}")


FAULT: Final = FailureType(scenario=CpuStress, mechanisms=(StressNg(), OwnWorkers()))

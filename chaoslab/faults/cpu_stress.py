"""cpu_stress: workers that want a core all the time, or `cpu_load` percent of it.

Dose: the demand (cores' worth of work that ran or waited for a core), which is what the fault controls, and the cores
really busy, which depend also on who else competes. Both come from the kernel's accounting of the workers.
"""

from __future__ import annotations

import os
import sys

from chaoslab.faults.base import Mechanism, Reading
from chaoslab.faults.stress import Stressor, rate
from chaoslab.records import Dose
from chaoslab.scenario import AnyScenario, CpuParameters, CpuStress

_EFFECT_SHARE = 0.7
_HOW = "CPU accounting of the workers (/proc/PID/schedstat) between effect and undo"


class _Cpu(Stressor):
    """Workers that spin."""

    def shows(self, scenario: AnyScenario, earlier: Reading, later: Reading) -> bool:
        found = rate(earlier, later, "runnable_seconds")
        return found is not None and found >= _EFFECT_SHARE * _demand(_dose(scenario))

    def measure(self, scenario: AnyScenario, effect: Reading, last: Reading) -> tuple[Dose, ...]:
        demand = _demand(_dose(scenario))
        cores = min(demand, float(os.cpu_count() or 1))
        # A worker that asks for part of a core sleeps in between, and waiting shortens its sleep: a wider tolerance.
        tolerance = 0.10 if _dose(scenario).cpu_load == 100 else 0.25
        return (
            Dose(
                quantity="CPU demand",
                unit="cores",
                asked=demand,
                delivered=rate(effect, last, "runnable_seconds"),
                low=demand * (1 - tolerance),
                high=demand * (1 + tolerance),
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
                high=cores * 1.10,
                how=_HOW,
                mechanism=self.name,
            ),
        )


def _dose(scenario: AnyScenario) -> CpuParameters:
    assert isinstance(scenario, CpuStress)
    return scenario.parameters


def _demand(dose: CpuParameters) -> float:
    return dose.cpu_workers * dose.cpu_load / 100


class StressNg(_Cpu):
    """stress-ng's CPU stressor."""

    name = program = "stress-ng"

    def argv(self, scenario: AnyScenario, seconds: float, token: str) -> tuple[str, ...]:
        dose = _dose(scenario)
        workers = ("--cpu", str(dose.cpu_workers), "--cpu-load", str(dose.cpu_load))
        # Its --timeout takes whole seconds.
        return ("stress-ng", *workers, "--timeout", f"{int(seconds + 1)}s", "--quiet")


class OwnWorkers(_Cpu):
    """Worker processes of our own."""

    name = "python workers"

    def argv(self, scenario: AnyScenario, seconds: float, token: str) -> tuple[str, ...]:
        dose = _dose(scenario)
        workers = ("--workers", str(dose.cpu_workers), "--load", str(dose.cpu_load))
        return (sys.executable, "-m", "chaoslab.faults.workers", "cpu", *workers, "--seconds", f"{seconds:g}")


MECHANISMS: tuple[Mechanism, ...] = (StressNg(), OwnWorkers())

"""What CPU, memory and disk stress share: a family of worker processes on the machine where the target runs."""

from __future__ import annotations

import shutil
import sys
from abc import abstractmethod
from collections.abc import Sequence

from chaoslab.faults.base import MARGIN_SECONDS, Injection, Mechanism, Obstacle, Reading, Surroundings
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Scenario

_PROCESSES = (sys.executable, "-m", "chaoslab.agent.processes")


class Stressor(Mechanism):
    """Workers that last as long as the fault: found, measured and ended by their token.

    `program` is what must be installed, or None for workers of our own.
    """

    program: str | None = None

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if self.program is not None and shutil.which(self.program) is None:
            return Obstacle(f"{self.program} is not installed", f"apt-get install {self.program}")
        if scenario is None:
            return None
        if not where.hits_target:
            return Obstacle(
                f"{scenario.type} would hit this machine, but the target {where.url} is another one",
                "run chaoslab on the target's machine",
            )
        return self.shortage(scenario)

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        limit = seconds + MARGIN_SECONDS
        step = Step(
            name=f"{scenario.type} by {self.name}",
            do=self.argv(scenario, limit, token),
            undo=(*_PROCESSES, "end", token),
            evidence=(*_PROCESSES, "usage", token),
            token=token,
            deadline=limit,
            holds=True,
        )

        def took_effect(readings: Sequence[Reading]) -> bool:
            return len(readings) > 1 and self.shows(scenario, readings[-2], readings[-1])

        def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
            # The reading before the last one showed the effect; what came before it is start-up.
            return self.measure(scenario, readings[-2], readings[-1])

        return Injection(mechanism=self.name, steps=(step,), took_effect=took_effect, doses=doses)

    def shortage(self, scenario: Scenario) -> Obstacle | None:
        """Return what this machine lacks for such a dose, or None."""
        return None

    @abstractmethod
    def argv(self, scenario: Scenario, seconds: float, token: str) -> tuple[str, ...]:
        """Return the command of the workers; they end by themselves after `seconds`."""

    @abstractmethod
    def shows(self, scenario: Scenario, earlier: Reading, later: Reading) -> bool:
        """Whether two readings in a row show the workers at work."""

    @abstractmethod
    def measure(self, scenario: Scenario, effect: Reading, last: Reading) -> tuple[Dose, ...]:
        """Return what was delivered between the reading that showed the effect and the last one before the undo."""


def rate(earlier: Reading, later: Reading, name: str) -> float | None:
    """Return by how much a counter grew each second, or None when a reading lacks it."""
    elapsed = later.data.get("at", 0.0) - earlier.data.get("at", 0.0)
    return (later.data[name] - earlier.data[name]) / elapsed if elapsed > 0 else None

"""control: nothing is injected. It tells noise from effect."""

from __future__ import annotations

from typing import Final, Literal

from chaoslab.faults.base import FailureType, Injection, Mechanism, Obstacle, Surroundings
from chaoslab.scenario import Scenario


class Control(Scenario):
    """The same phases with nothing injected."""

    type: Literal["control"]


class Nothing(Mechanism):
    """No step at all."""

    name = "no fault"

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        return None

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        return Injection(mechanism=self.name, steps=(), took_effect=lambda _: True, doses=lambda _: ())


FAULT: Final = FailureType(scenario=Control, mechanisms=(Nothing(),))

"""control: nothing is injected. It tells noise from effect."""

from __future__ import annotations

from chaoslab.faults.base import Injection, Mechanism, Obstacle, Surroundings
from chaoslab.scenario import AnyScenario


class Nothing(Mechanism):
    """No step at all."""

    name = "no fault"

    def obstacle(self, scenario: AnyScenario | None, where: Surroundings) -> Obstacle | None:
        return None

    def inject(self, scenario: AnyScenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        return Injection(mechanism=self.name, steps=(), took_effect=lambda _: True, doses=lambda _: ())


MECHANISMS: tuple[Mechanism, ...] = (Nothing(),)

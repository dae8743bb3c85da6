"""What a run would do: its steps, with nothing done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chaoslab.delivery import Chosen, contested
from chaoslab.errors import NotDelivered
from chaoslab.faults import Injection, Route
from chaoslab.journal import Step
from chaoslab.plan import Plan, PlannedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """One run with the steps that it would take, and its way round; nothing is done."""

    planned: PlannedRun
    injections: tuple[Injection, ...]
    route: Route | None

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step, in order."""
        way = (self.route.step,) if self.route else ()
        return (*way, *(step for injection in self.injections for step in injection.steps))

    @property
    def mechanism(self) -> str:
        """What would deliver it."""
        return "; ".join(injection.mechanism for injection in self.injections)


def rehearse(planned: PlannedRun, plan: Plan, chosen: Sequence[Chosen]) -> Rehearsed:
    """Return the steps that a run of `plan` would take; nothing is done, not even a probe.

    Raises:
        NotDelivered: a victim is gone, or two faults of the scenario need the same thing at the same time.
    """
    found = (one.mechanism.route(one.where, seconds=planned.seconds, token="DRY-RUN") for one in chosen)
    route = next((way for way in found if way is not None), None)
    scale = plan.duration_scale
    spans = [(one.fault.offset * scale, one.fault.duration * scale) for one in chosen]
    injections = tuple(
        one.mechanism.inject(
            one.fault,
            replace(one.where, route=route, seed=plan.seed + planned.index + number),
            seconds=seconds,
            token="DRY-RUN" if len(chosen) == 1 else f"DRY-RUN-{number}",
        )
        for number, (one, (_, seconds)) in enumerate(zip(chosen, spans, strict=True))
    )
    shared = contested([(*span, injection) for span, injection in zip(spans, injections, strict=True)])
    if shared:
        raise NotDelivered(f"{planned.scenario.name}: two of its faults would need the {shared} at the same time")
    return Rehearsed(planned=planned, injections=injections, route=route)

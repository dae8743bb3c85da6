"""What CPU, memory and disk stress share: a family of worker processes on the machine where the target runs.

With a `placement` they join the control groups of the service, so that they compete where it lives; a container as host
implies that. Whatever is asked of the machine is asked from inside that place: a container's quota and limit count.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from chaoslab.agent.facts import Facts
from chaoslab.errors import NotDelivered
from chaoslab.faults.base import MARGIN_SECONDS, Injection, Mechanism, Obstacle, Reading, Surroundings
from chaoslab.hosts import Host, Unreachable
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Parameters, Scenario
from chaoslab.targets import Target

_PROCESSES = (sys.executable, "-m", "chaoslab.agent.processes")
_WITHIN = (sys.executable, "-m", "chaoslab.agent.within")


class Placement(BaseModel):
    """The process beside which the workers compete, named in one way."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"minProperties": 1, "maxProperties": 1})

    container: str | None = Field(default=None, min_length=1, description="a Docker container, by name or id")
    pid_file: str | None = Field(default=None, min_length=1, description='a file that holds "PID"')
    port: int | None = Field(default=None, gt=0, le=65535, description="whoever listens on this TCP port")
    target: bool = Field(default=False, description="the process that the target published")

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if len(self._named()) != 1:
            raise ValueError(f"accepted: exactly one of {', '.join(type(self).model_fields)}")
        return self

    def _named(self) -> dict[str, Any]:
        return {name: value for name, value in self.model_dump().items() if value}

    def options(self, target: Target | None) -> tuple[str, ...]:
        """Return the options of `chaoslab.agent.within` that name the place; none where the target published none."""
        if self.target:
            return ("--pid-file", target.pid_file) if target else ()
        ((name, value),) = self._named().items()
        return (f"--{name.replace('_', '-')}", str(value))

    def __str__(self) -> str:
        ((name, value),) = self._named().items()
        return "the target's process" if self.target else f"{name.replace('_', ' ')} {value}"


def shorthand(name: str, short: str) -> AliasChoices:
    """Return what makes a parameter go by a short form too."""
    return AliasChoices(name, short)


class StressParameters(Parameters):
    """What every kind of stress accepts."""

    placement: Placement | None = Field(
        default=None, description="join the control groups of this process, so that the stress competes where it lives"
    )

    @classmethod
    def short_forms(cls) -> dict[str, str]:
        """Return the short forms that a file may use, with the names that they stand for."""
        choices = {name: field.validation_alias for name, field in cls.model_fields.items()}
        return {
            str(short): name
            for name, alias in choices.items()
            if isinstance(alias, AliasChoices)
            for short in alias.choices[1:]
        }

    @model_validator(mode="before")
    @classmethod
    def _given_once(cls, document: Any) -> Any:
        if isinstance(document, Mapping):
            for short, name in cls.short_forms().items():
                if short in document and name in document:
                    raise ValueError(f"{short} is short for {name}; accepted: one of the two")
        return document

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the short forms, of which pydantic publishes only the first name."""
        schema = handler.resolve_ref_schema(handler(core))
        for short, name in cls.short_forms().items():
            schema["properties"][short] = {**schema["properties"][name], "title": short}
            either = [{"required": [name]}, {"required": [short]}]
            if name in schema.get("required", ()):
                schema["required"].remove(name)
                schema.setdefault("allOf", []).append({"oneOf": either})
            else:
                schema.setdefault("allOf", []).append({"not": {"required": [name, short]}})
        return schema


class Stressor(Mechanism):
    """Workers that last as long as the fault: found, measured and ended by their token.

    `program` is what must be installed, or None for workers of our own.
    """

    program: str | None = None

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if scenario is not None and (obstacle := _elsewhere(scenario, where) or _misplaced(scenario, where)):
            return obstacle
        try:
            facts = self._facts(scenario, where)
        except Unreachable as refusal:
            return Obstacle(str(refusal))
        if self.program is not None and self.program not in facts.programs:
            missing = f"{self.program} is not installed on {where.host.machine.place}"
            return Obstacle(missing, f"apt-get install {self.program}")
        return None if scenario is None else self.shortage(scenario, facts)

    def _facts(self, scenario: Scenario | None, where: Surroundings) -> Facts:
        programs = () if self.program is None else (self.program,)
        if scenario is None:
            return where.host.facts(programs=programs)
        return where.host.facts(folder=self.folder(scenario), programs=programs, within=_place(scenario, where))

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        try:
            facts = self._facts(scenario, where)
        except Unreachable as refusal:
            raise NotDelivered(str(refusal)) from refusal
        work, limit = self.settled(scenario, facts), seconds + MARGIN_SECONDS
        place = _named_place(scenario, where)
        # A container is entered by the same command, which is how the workers become first victims there.
        enter = () if _is_part(where) else (*_WITHIN, *_place(scenario, where), "--")
        step = Step(
            name=f"{scenario.type} by {self.name}",
            do=where.host.reach((*enter, *self.argv(work, limit, token)), token=token),
            undo=where.host.machine.reach((*_PROCESSES, "end", token), undo=True),
            evidence=where.host.machine.reach((*_PROCESSES, "usage", token, *self.watched(work))),
            token=token,
            deadline=limit,
            holds=True,
            touches={"host": where.host.name, "processes_of": token, "beside": place or where.host.place},
        )

        def took_effect(readings: Sequence[Reading]) -> bool:
            if len(readings) < 2 or (place and not _all_inside(facts, readings[-2:])):
                return False
            return self.shows(work, readings[-2], readings[-1])

        def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
            # The reading before the last one showed the effect; what came before it is start-up.
            found = self.measure(work, facts, readings[-2], readings[-1])
            return tuple(_beside(found, place, facts, readings[-2:])) if place else found

        steps = (*self.preparations(work, where.host.machine, limit=limit, token=token), step)
        return Injection(mechanism=self.name, steps=steps, took_effect=took_effect, doses=doses)

    def preparations(self, scenario: Scenario, machine: Host, *, limit: float, token: str) -> tuple[Step, ...]:
        """Return what the workers need before they start."""
        return ()

    def folder(self, scenario: Scenario) -> str:
        """Return the folder that the workers are told to use, or an empty string."""
        return ""

    def watched(self, scenario: Scenario) -> tuple[str, ...]:
        """Return what the evidence looks at beside the workers."""
        return ()

    def settled(self, scenario: Scenario, facts: Facts) -> Scenario:
        """Return `scenario` with what only the machine can say filled in."""
        return scenario

    def shortage(self, scenario: Scenario, facts: Facts) -> Obstacle | None:
        """Return what the machine lacks for such a dose, or None."""
        return None

    @abstractmethod
    def argv(self, scenario: Scenario, seconds: float, token: str) -> tuple[str, ...]:
        """Return the command of the workers; they end by themselves after `seconds`."""

    @abstractmethod
    def shows(self, scenario: Scenario, earlier: Reading, later: Reading) -> bool:
        """Whether two readings in a row show the workers at work."""

    @abstractmethod
    def measure(self, scenario: Scenario, facts: Facts, effect: Reading, last: Reading) -> tuple[Dose, ...]:
        """Return what was delivered between the reading that showed the effect and the last one before the undo."""


def _placement(scenario: Scenario) -> Placement | None:
    assert isinstance(scenario.parameters, StressParameters)
    return scenario.parameters.placement


def _place(scenario: Scenario, where: Surroundings) -> tuple[str, ...]:
    placement = _placement(scenario)
    return placement.options(where.target) if placement else ()


def _named_place(scenario: Scenario, where: Surroundings) -> str:
    """Return whose control groups the workers share, or an empty string when it is nobody's in particular."""
    placement = _placement(scenario)
    if placement:
        return str(placement)
    return where.host.place if _is_part(where) else ""


def _is_part(where: Surroundings) -> bool:
    """Whether the host is a container: a part of a machine."""
    return where.host.machine is not where.host


def _elsewhere(scenario: Scenario, where: Surroundings) -> Obstacle | None:
    if where.hits_target:
        return None
    return Obstacle(
        f"{scenario.type} would hit {where.host.place}, but the target {where.url} is another one",
        "name the target's own machine with the key host, or say allow_other_host: true",
    )


def _misplaced(scenario: Scenario, where: Surroundings) -> Obstacle | None:
    placement = _placement(scenario)
    if placement is None:
        return None
    if _is_part(where):
        return Obstacle(f"the host {where.host.name} is a placement already", "leave out placement, or host")
    if placement.target and where.target is None:
        return Obstacle(f"{where.url} has published no process", "name a container, pid_file or port in placement")
    return None


def _all_inside(facts: Facts, readings: Sequence[Reading]) -> bool:
    """Whether every worker was in the control groups of the place that `facts` are of."""
    return all(reading.data.get("groups") == [list(facts.groups)] for reading in readings)


def _beside(doses: Sequence[Dose], place: str, facts: Facts, readings: Sequence[Reading]) -> Iterator[Dose]:
    """Yield the doses with the proof that every worker was in the groups of `place`; without it, none is delivered."""
    for dose in doses:
        if _all_inside(facts, readings):
            yield replace(dose, how=f"{dose.how}; every worker in the control groups of {place} ({facts.groups[0]})")
        else:
            yield replace(dose, delivered=None, how=f"{dose.how}; a worker was outside the control groups of {place}")


def rate(earlier: Reading, later: Reading, name: str) -> float | None:
    """Return by how much a counter grew each second, or None when a reading lacks it."""
    elapsed = later.data.get("at", 0.0) - earlier.data.get("at", 0.0)
    return (later.data[name] - earlier.data[name]) / elapsed if elapsed > 0 else None

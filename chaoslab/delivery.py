"""One fault of a run, from its plan to its dose: done when due, watched until it shows, undone when it is over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from chaoslab.errors import ChaoslabError, NotDelivered, NotReverted
from chaoslab.faults import Injection, Mechanism, Reading, Surroundings
from chaoslab.hosts import LocalHost
from chaoslab.journal import Journal, Phase, Step, now_us
from chaoslab.records import Dose, Event
from chaoslab.scenario import Scenario
from chaoslab.undo import undo

_EVIDENCE_LIMIT: Final = 5.0
_EVIDENCE_PAUSE_US: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A fault, the mechanism that was chosen to deliver it, and where."""

    fault: Scenario
    mechanism: Mechanism
    where: Surroundings


class Log(Protocol):
    """Where events go."""

    def add(self, event: Event, step: str = "", *, at_us: int | None = None, **detail: Any) -> None:
        """Record an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What every delivery of a run works with; `look` is called while commands run, and may raise to cut them short."""

    run: str
    journal: Journal
    log: Log
    host: LocalHost
    look: Callable[[], None]


class Delivery:
    """One fault on its way; `advance` takes it on whenever something is due.

    Args:
        chosen: the fault and its mechanism.
        offset, seconds: from the start of the injection to its `do`, and from its `do` to its undo.
        label: tells its steps and doses from those of other faults in the run; empty where it is the only one.
    """

    def __init__(
        self, chosen: Chosen, room: Room, *, offset: float, seconds: float, token: str, label: str = ""
    ) -> None:
        self.injection = _labelled(
            chosen.mechanism.inject(chosen.fault, chosen.where, seconds=seconds, token=token), label
        )
        self._room = room
        self._offset_us, self._seconds_us = int(offset * 1e6), int(seconds * 1e6)
        self._label = label
        self._readings: list[Reading] = []
        self._begun: list[Step] = []
        self._done_us: int | None = None
        self._shown = False
        self._over_us: int | None = None

    @property
    def _named(self) -> dict[str, Any]:
        """Which of several faults an event belongs to."""
        return {"fault": self._label} if self._label else {}

    @property
    def over_us(self) -> int | None:
        """When it was over: the undo, or for a fault that nothing keeps up its `do`; None while it lasts."""
        if self.injection.over_when_done:
            return self._done_us
        return self._over_us

    def look_before(self) -> None:
        """Take the reading that later ones are compared with."""
        if self.injection.steps:
            self._read()

    def due_us(self, started_us: int) -> int:
        """Return the monotonic instant, in µs, at which there is something to do next."""
        if self._done_us is None:
            return started_us + self._offset_us
        if not self._shown:
            return self._readings[-1].at_us + _EVIDENCE_PAUSE_US
        return self._done_us + self._seconds_us

    def advance(self, started_us: int) -> bool:
        """Do what is due now; return whether its time is over, its last reading taken, and only its undo is left.

        Raises:
            NotDelivered: a step failed, or no effect was seen in time.
        """
        if now_us() < self.due_us(started_us):
            return False
        if self._done_us is None:
            self._do()
            return False
        if not self._shown:
            self._verify(self._done_us)
            return False
        if self.injection.steps:
            self._read()
        return True

    def _do(self) -> None:
        for step in self.injection.steps:
            self._intend(step)
            self._room.log.add(Event.DO, step.name, argv=step.do, **self._named)
            self._carry_out(step)
            self._room.journal.append(Phase.DONE, run=self._room.run, step=step.name)
            self._room.log.add(Event.DONE, step.name)
        self._done_us = now_us()
        self._shown = not self.injection.steps

    def _intend(self, step: Step) -> None:
        before = self._readings[0] if self._readings else None
        prior = {"at_us": before.at_us, "exit_code": before.exit_code, "seen": dict(before.data)} if before else {}
        self._room.journal.intend(self._room.run, step, claims=self.injection.claims, prior=prior)
        rival = self._room.journal.rival(self._room.run, step) if self.injection.claims else ""
        if rival:
            # Its undo would take from the other what it has.
            self._room.journal.withdraw(self._room.run, step)
            raise NotDelivered(f"{step.name}: {rival}: wait until it is over (if it is dead: `chaoslab recover`)")
        self._begun.append(step)

    def _carry_out(self, step: Step) -> None:
        if step.holds:
            try:
                self._room.host.hold(step.do, token=step.token)
            except OSError as error:
                raise NotDelivered(f"{step.name}: {step.do[0]} cannot be started: {error.strerror}") from error
            return
        result = self._room.host.run(step.do, timeout=step.do_limit, token=step.token, watch=self._room.look)
        if not result.ok:
            raise NotDelivered(f"{step.name}: {result.problem}")

    def _verify(self, done_us: int) -> None:
        step = self.injection.steps[-1]
        self._read()
        if self.injection.took_effect(self._readings):
            self._shown = True
            self._room.journal.append(Phase.VERIFIED, run=self._room.run, step=step.name)
            self._room.log.add(Event.VERIFIED, step.name, **self._readings[-1].data)
        elif now_us() > done_us + self.injection.effect_limit * 1e6:
            raise NotDelivered(f"{step.name}: no effect was seen within {self.injection.effect_limit:g} s")

    def _read(self) -> None:
        at = now_us()
        evidence = self.injection.steps[-1].evidence
        result = self._room.host.run(evidence, timeout=_EVIDENCE_LIMIT, watch=self._room.look)
        try:
            data = json.loads(result.stdout)
        except ValueError:
            data = {}
        self._readings.append(
            Reading(at_us=at, exit_code=result.exit_code, data=data if isinstance(data, dict) else {})
        )

    def revert(self) -> list[NotReverted]:
        """Undo what was begun, the last step first; a failure does not spare the others, and is returned."""
        mine = self._still_open()
        if self._done_us is not None and self._over_us is None:
            self._over_us = now_us()
        return [failure for step in reversed(mine) if (failure := self._undo(step))]

    def _still_open(self) -> list[Step]:
        """Return the steps that were begun and not undone by somebody else; what the journal lost, we still know."""
        try:
            contents = self._room.journal.read()
        except ChaoslabError:
            return [step for step in self.injection.steps if step in self._begun]
        return [
            step
            for step in self.injection.steps
            if (key := (self._room.run, step.name)) in contents.open_steps
            or (step in self._begun and key not in contents.undone)
        ]

    def _undo(self, step: Step) -> NotReverted | None:
        self._room.log.add(Event.UNDO, step.name, argv=step.undo, **self._named)
        try:
            undo(step, run=self._room.run, journal=self._room.journal, host=self._room.host)
        except NotReverted as failure:
            self._room.log.add(Event.UNDO_FAILED, step.name, reason=str(failure), command="; ".join(failure.commands))
            return failure
        self._room.log.add(Event.UNDONE, step.name)
        return None

    def doses(self) -> Iterator[Dose]:
        """Yield what was delivered."""
        for dose in self.injection.doses(self._readings):
            yield replace(dose, quantity=f"{self._label}: {dose.quantity}") if self._label else dose


def _labelled(injection: Injection, label: str) -> Injection:
    if not label:
        return injection
    return replace(injection, steps=tuple(replace(step, name=f"{label}: {step.name}") for step in injection.steps))


def contested(deliveries: Sequence[tuple[float, float, Injection]]) -> str:
    """Return what two faults would need at the same time, or an empty string; each is (offset, seconds, injection)."""
    for number, (offset, seconds, injection) in enumerate(deliveries):
        for other_offset, other_seconds, other in deliveries[:number]:
            shared = set(injection.claims) & set(other.claims)
            if shared and offset < other_offset + other_seconds and other_offset < offset + seconds:
                return min(shared)
    return ""

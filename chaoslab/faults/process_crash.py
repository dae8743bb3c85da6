"""container_crash without a container: of a process that the scenario names, or that the target published."""

from __future__ import annotations

from typing import Final

from chaoslab.errors import NotDelivered
from chaoslab.faults import victims
from chaoslab.faults.base import NO_COMMANDS, Injection, Mechanism, Obstacle, Reading, Surroundings
from chaoslab.faults.crash import CrashParameters, asked_of
from chaoslab.faults.victims import VICTIM, ProcessChoice, Victim, death, outage
from chaoslab.journal import Step
from chaoslab.scenario import Scenario

_UNDO_LIMIT: Final = 30.0


class _Process(Mechanism):
    """A process of the machine, known by pid and start time."""

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        asked, choice = asked_of(scenario), self.choice(scenario, where)
        victim = victims.find(choice, where, family=asked.action == "pause")
        if asked.action == "pause":
            return self._pause(victim, where, seconds=seconds, token=token)
        step = _ending(victim, choice, asked, where, seconds=seconds, token=token)
        if asked.start_command is None:
            return death(
                mechanism=self.name,
                step=step,
                is_dead=lambda readings: readings[-1].data.get("alive") is False,
                how="the process, by pid and start time, is gone",
                claim=victim.claim,
            )
        return outage(
            mechanism=f"{self.name}, brought back by its start command",
            steps=(step,),
            is_there=_stands,
            quantity="application away",
            how="the process, by pid and start time, is gone, and no other one is in its place",
            seconds=seconds,
            claim=victim.claim,
        )

    def choice(self, scenario: Scenario, where: Surroundings) -> ProcessChoice:
        """Return what names the victim."""
        raise NotImplementedError

    def _pause(self, victim: Victim, where: Surroundings, *, seconds: float, token: str) -> Injection:
        look = where.host.reach((*VICTIM, "look", *victim.argv))
        step = victims.freezing(victim, where, token=token, evidence=look, deadline=victims.deadline(seconds))
        return outage(
            mechanism=f"{self.name}, frozen",
            steps=(step,),
            is_there=_goes_on,
            quantity="application frozen",
            how="the process and all that descend from it are stopped (/proc/PID/stat)",
            seconds=seconds,
            claim=victim.claim,
        )

    def _unfit(self, scenario: Scenario, where: Surroundings) -> Obstacle | None:
        """Return why the victim cannot be hit, or None."""
        try:
            victims.find(self.choice(scenario, where), where, family=asked_of(scenario).action == "pause")
        except NotDelivered as refusal:
            return Obstacle(str(refusal))
        return None


def _ending(
    victim: Victim, choice: ProcessChoice, asked: CrashParameters, where: Surroundings, *, seconds: float, token: str
) -> Step:
    """Return the step that ends a process; its undo sees that one is in its place again."""
    how = ("stop", *victim.argv, *victim.in_boot, "--grace", str(asked.grace_seconds))
    patience = float(asked.grace_seconds)
    if asked.action != "stop":
        how = ("kill", *victim.argv, *victim.in_boot, "--signal", asked.signal)
        patience = victims.dying_seconds(asked.signal)
    place = ("--victim", *victim.argv, *victim.in_boot, "--patience", f"{patience:g}")
    start = ("--start", *asked.start_command) if asked.start_command else ()
    return Step(
        name=f"{how[0]} of {victim.shown}",
        do=where.host.reach((*VICTIM, *how), token=token),
        undo=where.host.reach((*VICTIM, "back", *choice.options, *place, *start)),
        evidence=where.host.reach((*VICTIM, "look", *victim.argv, *choice.options)),
        token=token,
        deadline=victims.deadline(seconds),
        do_limit=asked.grace_seconds + 10.0,
        undo_limit=_UNDO_LIMIT + patience,
        touches={"host": where.host.name, **victim.touched},
    )


def _stands(reading: Reading) -> bool | None:
    if "alive" not in reading.data:
        return None
    return bool(reading.data["alive"]) or reading.data["back"] is not None


def _goes_on(reading: Reading) -> bool | None:
    if not reading.data.get("alive"):
        return None
    return bool(reading.data["frozen"] < reading.data["processes"])


class ChosenProcess(_Process):
    """A process that the scenario names by pid file, port or command line."""

    name = "process"

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if scenario is None:
            return None
        asked = asked_of(scenario)
        if not asked.ways:
            return Obstacle("the scenario names no process", "set parameters.pid_file, port or process")
        if asked.start_command is not None and not where.allow_commands:
            return NO_COMMANDS
        return victims.is_elsewhere(where, "a process") or self._unfit(scenario, where)

    def choice(self, scenario: Scenario, where: Surroundings) -> ProcessChoice:
        return asked_of(scenario)


class SupervisedProcess(_Process):
    """The process that the target published, with a supervisor that brings it back."""

    name = "supervised process"
    only_here = True

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if scenario is None:
            return None
        asked = asked_of(scenario)
        if asked.container is not None or asked.ways:
            return Obstacle("the scenario names another victim")
        if where.target is None:
            return Obstacle(
                f"{where.url} has not published how it is supervised",
                "name a container in parameters.container, or try it on `chaoslab demo --serve`",
            )
        if asked.start_command is not None:
            return Obstacle("its supervisor brings it back, not a start_command", "name the victim, or leave it out")
        return self._unfit(scenario, where)

    def choice(self, scenario: Scenario, where: Surroundings) -> ProcessChoice:
        assert where.target is not None
        return ProcessChoice(pid_file=where.target.pid_file)

"""database_outage: the database behind the service goes away, and comes back.

By a pair of commands of the scenario file, or by the control that the target published for its own database.

Dose: seconds for which the database itself refused, by the check command: from the first look that it refused to the
last one before the undo. Without a check there is no evidence, and the run counts as not delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from chaoslab.faults.base import MARGIN_SECONDS, FailureType, Injection, Mechanism, Obstacle, Reading, Surroundings
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Command, Parameters, Scenario
from chaoslab.targets import DatabaseControl

_UNDO_LIMIT = 60.0


class DatabaseParameters(Parameters):
    """Victim of database_outage: the target's own database, or whatever a pair of commands stops and starts."""

    database: str | None = Field(default=None, description="kind or name of the database, for the record")
    container: str | None = Field(default=None, description="Docker container, by name or id")
    stop_command: Command | None = Field(default=None, description="argv that stops the database")
    start_command: Command | None = Field(default=None, description="argv that starts it again; must be idempotent")
    check_command: Command | None = Field(
        default=None, description="argv that exits 0 while the database answers: the evidence of the outage"
    )

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.stop_command is None) != (self.start_command is None):
            raise ValueError("stop_command and start_command go together: one without the other cannot be undone")
        return self


class DatabaseOutage(Scenario):
    """The database behind the service goes away and comes back."""

    destructive_type: ClassVar[bool] = True

    type: Literal["database_outage", "database_down"]
    parameters: DatabaseParameters = DatabaseParameters()


def _injection(
    control: DatabaseControl, *, mechanism: str, seconds: float, token: str, restored: tuple[str, ...] = ()
) -> Injection:
    step = Step(
        name=f"outage of {control.kind}",
        do=control.stop,
        undo=control.start,
        restored=restored,
        evidence=control.check,
        token=token,
        deadline=seconds + MARGIN_SECONDS,
        undo_limit=_UNDO_LIMIT,
    )

    def took_effect(readings: Sequence[Reading]) -> bool:
        return _refused(readings[-1])

    def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
        refused = [reading.at_us for reading in readings if _refused(reading)]
        whole = bool(refused) and _refused(readings[-1])
        return (
            Dose(
                quantity="database refusing",
                unit="s",
                asked=seconds,
                delivered=(refused[-1] - refused[0]) / 1e6 if whole else 0.0,
                # What lies between the effect and the first look at it, and the last look and the undo, is not seen.
                low=min(0.8 * seconds, seconds - 0.5) if seconds > 1 else 0.5 * seconds,
                high=1.2 * seconds + 1.0,
                how="its check command refused, from the first look after the stop to the last one before the undo",
                mechanism=mechanism,
            ),
        )

    return Injection(mechanism=mechanism, steps=(step,), took_effect=took_effect, doses=doses)


def _refused(reading: Reading) -> bool:
    # A check that cannot run (126, 127), or hangs, says nothing about the database.
    return reading.exit_code not in (0, None, 126, 127)


class Commands(Mechanism):
    """A stop and a start command of the scenario file."""

    name = "commands of the scenario"

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if not isinstance(scenario, DatabaseOutage):
            return None
        dose = scenario.parameters
        if dose.stop_command is None:
            return Obstacle("the scenario gives no stop_command and start_command")
        if dose.check_command is None:
            return Obstacle(
                "the scenario gives no check_command, so nothing would show that the database refuses",
                "give the argv of a command that exits 0 while the database answers",
            )
        if not where.allow_commands:
            return Obstacle("a scenario file may run commands only when asked to", "--allow-commands")
        return None

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert isinstance(scenario, DatabaseOutage)
        dose = scenario.parameters
        assert dose.stop_command is not None
        assert dose.start_command is not None
        assert dose.check_command is not None
        control = DatabaseControl(
            kind=dose.database or "the database",
            stop=dose.stop_command,
            start=dose.start_command,
            check=dose.check_command,
        )
        # Not every start command waits until the database answers.
        return _injection(control, mechanism=self.name, seconds=seconds, token=token, restored=control.check)


class PublishedControl(Mechanism):
    """The commands that the target published: the embedded target's own PostgreSQL, by pg_ctl."""

    name = "control published by the target"

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if isinstance(scenario, DatabaseOutage) and scenario.parameters.stop_command is not None:
            return Obstacle("the scenario gives commands of its own")
        if isinstance(scenario, DatabaseOutage) and scenario.parameters.container is not None:
            return Obstacle("stopping a database's container is not built yet", "give stop_command and start_command")
        if scenario is not None and (where.target is None or where.target.database is None):
            return Obstacle(
                f"{where.url} has not published how its database is controlled",
                "give stop_command, start_command and check_command, or try it on `chaoslab demo --serve`",
            )
        return None

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert where.target is not None
        assert where.target.database is not None
        control = where.target.database
        return _injection(control, mechanism=f"{control.kind}, {self.name}", seconds=seconds, token=token)


FAULT: Final = FailureType(scenario=DatabaseOutage, mechanisms=(Commands(), PublishedControl()))

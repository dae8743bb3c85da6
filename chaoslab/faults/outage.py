"""What database_outage may be asked, and what its ways have in common: evidence that the database itself gives."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from chaoslab.faults import postgres, victims
from chaoslab.faults.base import NO_COMMANDS, Injection, Mechanism, Obstacle, Reading, Surroundings
from chaoslab.faults.port_cut import Cut, IpAddress
from chaoslab.faults.postgres import Conninfo, StopMode
from chaoslab.faults.systemd import UnitName
from chaoslab.faults.victims import ProcessChoice
from chaoslab.journal import Step
from chaoslab.scenario import Command, Parameters, Scenario


class FreezeChoice(ProcessChoice):
    """The server process to freeze, with all that descend from it."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.ways) != 1:
            raise ValueError("exactly one of pid_file, port and process is accepted")
        return self


class DatabaseParameters(Parameters):
    """Victim of database_outage, in one of seven ways, and how to see that it refuses."""

    database: str | None = Field(default=None, description="kind or name of the database, for the record")
    container: str | None = Field(default=None, min_length=1, description="Docker container, by name or id")
    action: Literal["stop", "pause", "kill"] = Field(default="stop", description="what is done to the container")
    unit: UnitName | None = Field(default=None, description="systemd unit that is stopped and started")
    data_directory: str | None = Field(default=None, min_length=1, description="PostgreSQL's data folder, for pg_ctl")
    pg_bin: str | None = Field(
        default=None, description="folder of pg_ctl, which runs; the running server's own by default"
    )
    stop_mode: StopMode = Field(default="fast", description="how pg_ctl stops it; immediate is like a crash")
    freeze: FreezeChoice | None = Field(default=None, description="server process that is frozen (SIGSTOP)")
    cut_port: int | None = Field(default=None, ge=1, le=65_535, description="TCP port of the database that is cut off")
    cut_address: IpAddress | None = Field(
        default=None, description="only packets to this address, on their way out too; without it those that come in"
    )
    cut_by: Cut = Field(default="reject", description="reject answers with a reset, drop answers nothing")
    stop_command: Command | None = Field(default=None, description="argv that stops the database")
    start_command: Command | None = Field(default=None, description="argv that starts it again; must be idempotent")
    connection: Conninfo | None = Field(
        default=None,
        description="how PostgreSQL is reached from here, as a URL or conninfo: the evidence of the outage. Only host "
        "and port are kept; no password is needed",
    )
    check_command: Command | None = Field(
        default=None, description="argv that exits 0 while the database answers: the evidence of the outage"
    )

    @property
    def ways(self) -> tuple[str, ...]:
        """The keys that are given of those that name a victim."""
        keys = ("container", "unit", "data_directory", "freeze", "cut_port", "stop_command")
        return tuple(key for key in keys if getattr(self, key) is not None)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.stop_command is None) != (self.start_command is None):
            raise ValueError("stop_command and start_command go together: one without the other cannot be undone")
        if len(self.ways) > 1:
            raise ValueError(f"{' and '.join(self.ways)} are different ways to the outage; one is accepted")
        if self.connection is not None and self.check_command is not None:
            raise ValueError("connection and check_command are two kinds of evidence; one is accepted")
        belongs = {"action": "container", "pg_bin": "data_directory", "stop_mode": "data_directory"}
        belongs |= {"cut_address": "cut_port", "cut_by": "cut_port"}
        for key, way in belongs.items():
            if getattr(self, way) is None and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} goes with {way}, which is not given")
        return self


class DatabaseOutage(Scenario):
    """The database behind the service goes away and comes back."""

    destructive_type: ClassVar[bool] = True

    type: Literal["database_outage", "database_down"]
    parameters: DatabaseParameters = DatabaseParameters()


def asked_of(scenario: Scenario) -> DatabaseParameters:
    """Return what is asked of database_outage."""
    assert isinstance(scenario, DatabaseOutage)
    return scenario.parameters


def outage(steps: tuple[Step, ...], *, mechanism: str, how: str, seconds: float, claim: str) -> Injection:
    """Return an injection whose evidence is a command that exits 0 while the database answers."""
    return victims.outage(
        mechanism=mechanism,
        steps=steps,
        is_there=_answers,
        quantity="database refusing",
        how=how,
        seconds=seconds,
        claim=claim,
    )


def _answers(reading: Reading) -> bool | None:
    # A check that cannot run (126, 127), or hangs, says nothing about the database.
    return None if reading.exit_code in (None, 126, 127) else reading.exit_code == 0


class Way(Mechanism):
    """A way that the scenario names by its `key`, with the evidence that the scenario gives."""

    key: ClassVar[str]

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if scenario is None:
            return self.lacking(where)
        asked = asked_of(scenario)
        if getattr(asked, self.key) is None:
            return Obstacle(f"the scenario gives no {self.key}")
        return self._no_evidence(asked, where) or self.lacking(where) or self.unfit(asked, where)

    def _no_evidence(self, asked: DatabaseParameters, where: Surroundings) -> Obstacle | None:
        if asked.connection == postgres.UNREADABLE:
            return Obstacle("parameters.connection is no URL or conninfo of PostgreSQL", "e.g. postgresql://HOST:5432")
        if self.evidence(asked, where) is None:
            return Obstacle(
                "the scenario gives no connection and no check_command: nothing would show that the database refuses",
                "connection: postgresql://HOST:PORT, or the argv of a command that exits 0 while the database answers",
            )
        # A folder that the file names decides which pg_ctl runs.
        if not where.allow_commands and (asked.check_command or asked.stop_command or asked.pg_bin):
            return NO_COMMANDS
        return None

    def evidence(self, asked: DatabaseParameters, where: Surroundings) -> tuple[str, ...] | None:
        """Return the command that exits 0 while the database answers."""
        if asked.connection is not None:
            return postgres.ping(asked.connection)
        return where.host.reach(asked.check_command) if asked.check_command else None

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        asked = asked_of(scenario)
        steps = self.steps(asked, where, token=token, deadline=victims.deadline(seconds))
        how = "its check command refused" if asked.check_command else "libpq's ping was refused, or not answered in 1 s"
        claim = f"{self.key} {getattr(asked, self.key)}"
        return outage(steps, mechanism=self.name, how=how, seconds=seconds, claim=claim)

    def lacking(self, where: Surroundings) -> Obstacle | None:
        """Return what the machine lacks for this way, or None."""
        return None

    def unfit(self, asked: DatabaseParameters, where: Surroundings) -> Obstacle | None:
        """Return why what the scenario names cannot be hit this way, or None."""
        return None

    def steps(self, asked: DatabaseParameters, where: Surroundings, *, token: str, deadline: float) -> tuple[Step, ...]:
        """Return the steps that take the database away."""
        raise NotImplementedError

    def check(self, asked: DatabaseParameters, where: Surroundings) -> tuple[str, ...]:
        """Return the evidence where `obstacle` has found that there is some."""
        evidence = self.evidence(asked, where)
        assert evidence is not None
        return evidence

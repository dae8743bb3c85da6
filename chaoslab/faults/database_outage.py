"""database_outage: the database behind the service goes away, and comes back.

The scenario names one way: its container, its systemd unit, its data folder (pg_ctl), a pair of commands, its process
(frozen), or its port (cut off). Without one it is the control that the target published for its own database.

Dose: seconds for which the database itself refused: asked by libpq's ping where the scenario says how to connect, else
by a check command. Without either there is no evidence, and it is refused.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, Final

from chaoslab.errors import NotDelivered
from chaoslab.faults import containers, postgres, victims
from chaoslab.faults.base import FailureType, Injection, Mechanism, Obstacle, Surroundings
from chaoslab.faults.lifelines import endangered
from chaoslab.faults.outage import DatabaseOutage, DatabaseParameters, Way, asked_of, outage
from chaoslab.faults.port_cut import IpAddress, Iptables, Nft, Port, Tool, mark_of
from chaoslab.faults.systemd import needed, no_systemd, not_active, unit_step
from chaoslab.faults.traffic import ANYWHERE, Traffic, network_of
from chaoslab.journal import Step
from chaoslab.scenario import Scenario

_UNDO_LIMIT: Final = 60.0


class DatabaseContainer(Way):
    """The database's container, through the Docker Engine API."""

    name, key = "docker", "container"
    only_here = True

    def lacking(self, where: Surroundings) -> Obstacle | None:
        return containers.no_docker()

    def unfit(self, asked: DatabaseParameters, where: Surroundings) -> Obstacle | None:
        try:
            container = containers.running(asked.container or "")
        except NotDelivered as refusal:
            return Obstacle(str(refusal))
        return containers.not_reversible(container, asked.action)

    def steps(self, asked: DatabaseParameters, where: Surroundings, *, token: str, deadline: float) -> tuple[Step, ...]:
        container, check = containers.running(asked.container or ""), self.check(asked, where)
        fields: dict[str, Any] = {"evidence": check, "restored": check, "deadline": deadline}
        return (containers.step(container, asked.action, token=token, **fields),)


class SystemdUnit(Way):
    """The database's systemd unit."""

    name, key = "systemd", "unit"

    def lacking(self, where: Surroundings) -> Obstacle | None:
        return no_systemd(where.host)

    def unfit(self, asked: DatabaseParameters, where: Surroundings) -> Obstacle | None:
        unit = asked.unit or ""
        return (
            victims.is_elsewhere(where, f"the unit {unit}") or needed(where.host, unit) or not_active(where.host, unit)
        )

    def steps(self, asked: DatabaseParameters, where: Surroundings, *, token: str, deadline: float) -> tuple[Step, ...]:
        check = self.check(asked, where)
        fields: dict[str, Any] = {"evidence": check, "restored": check, "deadline": deadline}
        return (unit_step(where.host, asked.unit or "", token=token, **fields),)


class PgCtl(Way):
    """PostgreSQL's own pg_ctl, as the owner of the data folder."""

    name, key = "pg_ctl", "data_directory"

    def lacking(self, where: Surroundings) -> Obstacle | None:
        return None  # the running server's own pg_ctl is found beside it

    def unfit(self, asked: DatabaseParameters, where: Surroundings) -> Obstacle | None:
        try:
            postgres.describe(asked.data_directory or "", asked.pg_bin, where)
        except NotDelivered as refusal:
            return Obstacle(str(refusal))
        return victims.is_elsewhere(where, f"PostgreSQL in {asked.data_directory}")

    def evidence(self, asked: DatabaseParameters, where: Surroundings) -> tuple[str, ...] | None:
        given = super().evidence(asked, where)
        if given is not None:
            return given
        try:
            server = postgres.describe(asked.data_directory or "", asked.pg_bin, where)
        except NotDelivered:
            return ()  # `unfit` says why
        return where.host.reach(postgres.ping(server.address))

    def steps(self, asked: DatabaseParameters, where: Surroundings, *, token: str, deadline: float) -> tuple[Step, ...]:
        server = postgres.describe(asked.data_directory or "", asked.pg_bin, where)
        check = self.check(asked, where)
        fields: dict[str, Any] = {"evidence": check, "restored": check, "deadline": deadline}
        return (postgres.step(server, asked.stop_mode, where, token=token, **fields),)


class FrozenServer(Way):
    """The database's first process and all that descend from it, frozen."""

    name, key = "frozen server", "freeze"

    def unfit(self, asked: DatabaseParameters, where: Surroundings) -> Obstacle | None:
        assert asked.freeze is not None
        try:
            victims.find(asked.freeze, where, family=True)
        except NotDelivered as refusal:
            return Obstacle(str(refusal))
        return victims.is_elsewhere(where, "the database's process")

    def steps(self, asked: DatabaseParameters, where: Surroundings, *, token: str, deadline: float) -> tuple[Step, ...]:
        assert asked.freeze is not None
        victim, check = victims.find(asked.freeze, where, family=True), self.check(asked, where)
        fields: dict[str, Any] = {"evidence": check, "restored": check, "deadline": deadline}
        return (victims.freezing(victim, where, token=token, **fields),)


class CutPort(Way):
    """The database's port, cut off by the packet filter."""

    key = "cut_port"

    def __init__(self, tool: Tool) -> None:
        self.name = f"port cut by {tool.name}"
        self._tool = tool

    def lacking(self, where: Surroundings) -> Obstacle | None:
        return self._tool.lacking(where.host)

    def unfit(self, asked: DatabaseParameters, where: Surroundings) -> Obstacle | None:
        assert asked.cut_port is not None
        return (
            victims.is_elsewhere(where, f"port {asked.cut_port}")
            or endangered(_packets(asked.cut_port, asked.cut_address), where.host)
            or self._tool.unfit(asked.cut_by)
        )

    def steps(self, asked: DatabaseParameters, where: Surroundings, *, token: str, deadline: float) -> tuple[Step, ...]:
        assert asked.cut_port is not None
        port = Port(number=asked.cut_port, address=asked.cut_address, cut=asked.cut_by)
        mark, check = mark_of(token), self.check(asked, where)
        return tuple(
            Step(
                name=f"cut of {port} by {self._tool.name}, {number}",
                do=where.host.reach(command, token=f"{token}-{number}"),
                # Any one of them removes whatever all of them have made so far.
                undo=where.host.reach(self._tool.remove(port, mark), undo=True),
                evidence=check,
                token=f"{token}-{number}",
                deadline=deadline,
                touches={**network_of(where.host), "packets": str(port), "rules": mark},
            )
            for number, command in enumerate(self._tool.commands(port, mark), 1)
        )


def _packets(port: int, address: IpAddress | None) -> Traffic:
    """Return what a cut hits; without an address, whatever comes in to the port."""
    networks = ANYWHERE if address is None else (ip_network(address),)
    return Traffic(networks, port, serving=address is None)


class Commands(Way):
    """A stop and a start command of the scenario file."""

    name, key = "commands of the scenario", "stop_command"

    def steps(self, asked: DatabaseParameters, where: Surroundings, *, token: str, deadline: float) -> tuple[Step, ...]:
        assert asked.stop_command is not None
        assert asked.start_command is not None
        check = self.check(asked, where)
        step = Step(
            name=f"outage of {asked.database or 'the database'}",
            do=where.host.reach(asked.stop_command, token=token),
            undo=where.host.reach(asked.start_command),
            # Not every start command waits until the database answers.
            restored=check,
            evidence=check,
            token=token,
            deadline=deadline,
            undo_limit=_UNDO_LIMIT,
            touches={"host": where.host.name, "database": asked.database or "the one that its commands control"},
        )
        return (step,)


class PublishedControl(Mechanism):
    """The commands that the target published: the embedded target's own PostgreSQL, by pg_ctl."""

    name = "control published by the target"
    only_here = True

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if scenario is None:
            return None
        if named := asked_of(scenario).ways:
            return Obstacle(f"the scenario gives a {named[0]} of its own")
        if where.target is None or where.target.database is None:
            return Obstacle(
                f"{where.url} has not published how its database is controlled",
                "name the victim in the parameters, or try it on `chaoslab demo --serve`",
            )
        return None

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert where.target is not None
        assert where.target.database is not None
        control = where.target.database
        step = Step(
            name=f"outage of {control.kind}",
            do=control.stop,
            undo=control.start,
            evidence=control.check,
            token=token,
            deadline=victims.deadline(seconds),
            undo_limit=_UNDO_LIMIT,
            touches={"database_of": where.target.name, "kind": control.kind},
        )
        mechanism, claim = f"{control.kind}, {self.name}", f"database of {where.url}"
        return outage((step,), mechanism=mechanism, how="its check command refused", seconds=seconds, claim=claim)


FAULT: Final = FailureType(
    scenario=DatabaseOutage,
    mechanisms=(
        DatabaseContainer(),
        SystemdUnit(),
        PgCtl(),
        Commands(),
        FrozenServer(),
        CutPort(Nft()),
        CutPort(Iptables()),
        PublishedControl(),
    ),
)

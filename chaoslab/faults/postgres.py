"""PostgreSQL as the victim of an outage: where it is, how it is stopped and started, and how it is seen to refuse."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator

from chaoslab.errors import NotDelivered
from chaoslab.faults.base import Surroundings
from chaoslab.journal import Step

StopMode = Literal["smart", "fast", "immediate"]

UNREADABLE: Final = ""
"""Stands for a connection that could not be read: what was written may hold a password, so no message shows it."""

_COMMAND: Final = (sys.executable, "-m", "chaoslab.agent.database")
_KEPT: Final = ("host", "hostaddr", "port", "service", "sslmode")
_LIMIT: Final = 10.0
_UNDO_LIMIT: Final = 60.0


def _without_secrets(value: object) -> object:
    """Return a conninfo of what it takes to reach the server, and no more: a ping needs neither user nor password."""
    if not isinstance(value, str):
        return value
    from psycopg import ProgrammingError, conninfo  # takes a sixth of a second, and only this needs it

    try:
        given = conninfo.conninfo_to_dict(value)
    except ProgrammingError:
        return UNREADABLE
    kept: dict[str, Any] = {key: value for key, value in given.items() if key in _KEPT}
    return conninfo.make_conninfo(**kept, dbname="postgres")


Conninfo = Annotated[str, BeforeValidator(_without_secrets)]


def ping(conninfo: str) -> tuple[str, ...]:
    """Return the command that exits 0 while the server accepts connections."""
    return (*_COMMAND, "ping", conninfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs: its data folder, the pg_ctl to control it by, its log, and a conninfo to reach it by."""

    data: str
    pid: int
    pg_ctl: str
    log: str
    address: str


def describe(data: str, programs: str | None, where: Surroundings) -> Server:
    """Return the server that runs in the folder `data` of a machine.

    Raises:
        NotDelivered: none does, there is no telling, or there is no pg_ctl.
    """
    given = ("--programs", programs) if programs else ()
    result = where.host.run((*_COMMAND, "describe", "--data", data, *given), timeout=_LIMIT)
    if not result.ok:
        words = result.stderr.strip().splitlines()
        raise NotDelivered(words[-1] if words else result.problem)
    found = json.loads(result.stdout)
    return Server(data=data, **{key: found[key] for key in ("pid", "pg_ctl", "log", "address")})


def step(server: Server, mode: StopMode, where: Surroundings, *, token: str, **fields: Any) -> Step:
    """Return the step that shuts a server down, and starts it as it was started."""
    control = ("--data", server.data, "--pg-ctl", server.pg_ctl)
    return Step(
        name=f"{mode} shutdown of PostgreSQL in {server.data}, process {server.pid}",
        do=where.host.reach((*_COMMAND, "stop", *control, "--mode", mode), token=token),
        undo=where.host.reach((*_COMMAND, "start", *control, "--log", server.log)),
        token=token,
        undo_limit=_UNDO_LIMIT,
        touches={
            "host": where.host.name,
            "data_directory": server.data,
            "address": server.address,
            "pid": server.pid,
        },
        **fields,
    )

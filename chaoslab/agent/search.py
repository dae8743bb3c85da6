"""The search for one process that may be a victim: named by a pid file, by a port or by its command line.

Never one: the machine's first process, a thread of the kernel, whatever chaoslab itself runs as or below, and whatever
carries a token of ours. A target that published itself is the exception it asked to be: what carries the token of its
service may be hit, but not what the service hangs on.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaoslab.agent import process_table
from chaoslab.agent.freezer import STOPPED
from chaoslab.agent.process_table import Process, Table
from chaoslab.agent.processes import Identity, boot_id, identify

_CLOCK_SLACK: Final = 2.0


class Refused(Exception):
    """There is no such victim, or not for us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """What names a process: exactly one of these is given."""

    pid_file: Path | None = None
    port: int | None = None
    process: str | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Which | None:
        """Return what the options of a command say, or None where they say nothing."""
        given = {name: getattr(options, name, None) for name in ("pid_file", "port", "process")}
        return cls(**given) if any(value is not None for value in given.values()) else None

    @property
    def named(self) -> str:
        """What to call it in a message."""
        if self.pid_file is not None:
            return f"the process of {self.pid_file}"
        return f"the listener on port {self.port}" if self.port is not None else f"the process {self.process!r}"

    @property
    def nobody(self) -> str:
        """What to say where there is none."""
        if self.pid_file is not None:
            return f"the pid file {self.pid_file} names no living process"
        if self.port is None:
            return f"no command line holds {self.process!r}"
        if process_table.is_listened_on(self.port):
            return f"who listens on port {self.port} is another user's (run as root)"
        return f"nobody listens on port {self.port}"


def read_pid_file(path: Path) -> Identity | None:
    """Return the process that a pid file names, or None when it names none that can be the one that was meant.

    The file holds "PID START_TICKS", or begins with a pid alone; then a process that is younger than the file is
    another one, which has the pid by chance.
    """
    try:
        words, written = path.read_text().split(), path.stat().st_mtime
        if len(words) == 2:
            return Identity(int(words[0]), int(words[1]))
        found = process_table.look().get(int(words[0]))
    except (OSError, ValueError, IndexError):
        return None
    if found is None or process_table.started_at(found) > written + _CLOCK_SLACK:
        return None
    return found.identity


def find(which: Which, published: Path | None, *, whole_family: bool) -> dict[str, Any]:
    """Return the one process that is `which`, as {"pid", "start_ticks", "boot_id", "user", "command", "processes"}.

    With `whole_family` nothing may stand against its descendants either: all of them are to be frozen.

    Raises:
        Refused: there is none, there are several, or it may be no victim.
    """
    table = process_table.look()
    victim = _only(which, table, _spared(table, published))
    family = process_table.family(table, victim.pid)
    if whole_family:
        _require_free(family, _spared(table, published))
    _require_permission(victim)
    return {
        "pid": victim.pid,
        "start_ticks": victim.identity.start_ticks,
        "boot_id": boot_id(),
        "user": victim.user,
        "command": victim.command,
        "processes": len(family),
    }


def candidates(table: Table, which: Which, spared: Mapping[int, str] | None = None) -> list[Process]:
    """Return the processes that are `which`, without those that are ours."""
    if which.pid_file is not None:
        named = read_pid_file(which.pid_file)
        found = [process for process in table.values() if process.identity == named]
    elif which.port is not None:
        found = process_table.listeners(table, which.port)
    else:
        own, pattern = _own(table), re.compile(which.process or "", re.DOTALL)
        others = (process for process in table.values() if process.pid not in own and not process.is_kernel_thread)
        found = [process for process in others if pattern.search(process.arguments)]
    return [process for process in found if spared is None or process.pid not in spared]


def _only(which: Which, table: Table, spared: Mapping[int, str]) -> Process:
    everyone = candidates(table, which)
    found = process_table.topmost(table, [process for process in everyone if process.pid not in spared])
    if not everyone:
        raise Refused(which.nobody)
    if not found:
        raise Refused(f"process {everyone[0]} can be no victim: {spared[everyone[0].pid]}")
    if len(found) > 1:
        shown = "; ".join(map(str, found))
        raise Refused(f"{which.named} is not one but {len(found)}, and only one can be the victim: {shown}")
    return found[0]


def _own(table: Table) -> set[int]:
    """Return the pids of this command and of what it runs below: their command lines hold what is searched for."""
    return {os.getpid(), *(process.pid for process in process_table.ancestors(table, os.getpid()))}


def _spared(table: Table, published: Path | None) -> dict[int, str]:
    """Return why processes can be no victims, by pid."""
    service = read_pid_file(published) if published else None
    exempt = process_table.token(service.pid) if service and identify(service.pid) == service else None
    reasons: dict[int, str] = {}
    for process in table.values():
        token = process_table.token(process.pid)
        if token is not None and (not token or token != exempt):
            reasons[process.pid] = "it is chaoslab's own"
        if process.is_kernel_thread:
            reasons[process.pid] = "it is a thread of the kernel"
    if service is not None:
        reasons |= {one.pid: "the target hangs on it" for one in process_table.ancestors(table, service.pid)}
    return reasons | dict.fromkeys(_own(table), "chaoslab itself runs below it") | {1: "everything runs below it"}


def _require_free(family: list[Process], spared: Mapping[int, str]) -> None:
    for member in family:
        if member.pid in spared:
            raise Refused(f"process {member} would be frozen too, and can be no victim: {spared[member.pid]}")
        if member.state in (STOPPED, "t"):
            raise Refused(f"process {member} is stopped already, by somebody else")


def _require_permission(victim: Process) -> None:
    try:
        descriptor = os.pidfd_open(victim.pid)
    except ProcessLookupError:
        raise Refused(f"process {victim} has just ended") from None
    try:
        signal.pidfd_send_signal(descriptor, 0)  # sends nothing: it asks whether we might
    except PermissionError:
        raise Refused(f"process {victim} is not ours to signal (run as root, or as its user)") from None
    except ProcessLookupError:
        raise Refused(f"process {victim} has just ended") from None
    finally:
        os.close(descriptor)

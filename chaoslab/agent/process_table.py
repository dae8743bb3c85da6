"""The processes of this machine, whoever started them: whose children they are, what they run, where they listen."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaoslab.agent.processes import TOKEN_VARIABLE, Identity

_PROC: Final = Path("/proc")
_LONGEST_COMMAND: Final = 80
_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD of the kernel's sched.h
_LISTENING: Final = "0A"  # TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class Process:
    """One process as it was when it was looked at; `state` is the letter of proc(5)."""

    identity: Identity
    parent: int
    state: str
    is_kernel_thread: bool
    arguments: str
    uid: int

    @property
    def pid(self) -> int:
        """Its number."""
        return self.identity.pid

    @property
    def user(self) -> str:
        """Whom it runs as."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def command(self) -> str:
        """The start of its command line, on one line."""
        shown = " ".join(self.arguments.split())
        return shown if len(shown) <= _LONGEST_COMMAND else f"{shown[:_LONGEST_COMMAND]}…"

    def __str__(self) -> str:
        return f"{self.pid} of {self.user}: {self.command}"


Table = Mapping[int, Process]


def look() -> Table:
    """Return every living process by its pid; a zombie is none."""
    found = (_read(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit())
    return {process.pid: process for process in found if process is not None and process.state not in "ZX"}


def _read(pid: int) -> Process | None:
    folder = _PROC / str(pid)
    try:
        text = (folder / "stat").read_text()
        line = (folder / "cmdline").read_bytes()
        status = (folder / "status").read_text()
    except OSError:  # gone, or hidden from us
        return None
    # The name, in parentheses, may itself hold blanks and parentheses.
    name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    uid = next(int(entry.split()[1]) for entry in status.splitlines() if entry.startswith("Uid:"))
    return Process(
        identity=Identity(pid, int(fields[19])),
        parent=int(fields[1]),
        state=fields[0],
        is_kernel_thread=bool(int(fields[6]) & _KERNEL_THREAD),
        arguments=str(line, "utf-8", "replace").replace("\0", " ").strip() or f"[{name}]",
        uid=uid,
    )


def ancestors(table: Table, pid: int) -> Iterator[Process]:
    """Yield the parent of a process, the parent's parent, and so on."""
    seen = {pid}
    while (process := table.get(pid)) is not None and process.parent in table and process.parent not in seen:
        pid = process.parent
        seen.add(pid)
        yield table[pid]


def family(table: Table, pid: int) -> list[Process]:
    """Return a process and all that descend from it, parents before their children."""
    members = [table[pid]] if pid in table else []
    for member in members:
        members += [process for process in table.values() if process.parent == member.pid]
    return members


def topmost(table: Table, processes: list[Process]) -> list[Process]:
    """Return those of `processes` that descend from no other one of them: of a server with workers, the server."""
    pids = {process.pid for process in processes}
    return [one for one in processes if not pids & {above.pid for above in ancestors(table, one.pid)}]


def token(pid: int) -> str | None:
    """Return the token that a process was started with, None where there is none, or where we may not look."""
    mark = f"{TOKEN_VARIABLE}=".encode()
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((str(entry[len(mark) :], "utf-8") for entry in environment if entry.startswith(mark)), None)


def started_at(process: Process) -> float:
    """Return when a process started, in seconds of the wall clock as it is set now."""
    lines = (_PROC / "stat").read_text().splitlines()
    boot = next(int(line.split()[1]) for line in lines if line.startswith("btime"))
    return boot + process.identity.start_ticks / os.sysconf("SC_CLK_TCK")


def is_listened_on(port: int) -> bool:
    """Whether any process of this network namespace listens on a TCP port."""
    return bool(_listening_sockets(port))


def listeners(table: Table, port: int) -> list[Process]:
    """Return the processes that listen on a TCP port, as far as we may see their sockets."""
    sockets = {f"socket:[{inode}]" for inode in _listening_sockets(port)}
    return [process for process in table.values() if sockets and sockets & set(_open_files(process.pid))]


def _listening_sockets(port: int) -> set[str]:
    rows = [
        line.split()
        for file in ("tcp", "tcp6")
        if (_PROC / "net" / file).exists()
        for line in (_PROC / "net" / file).read_text().splitlines()[1:]
    ]
    return {row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port}


def _open_files(pid: int) -> Iterator[str]:
    try:
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            yield str(descriptor.readlink())
    except OSError:  # gone, or another user's
        return

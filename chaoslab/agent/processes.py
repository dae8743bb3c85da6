"""Processes of our own: how they are marked, found again and ended.

A process is identified by pid and start time (clock ticks since boot), never by name. What we start gets a session of
its own and a token in its environment, so that whoever holds the token finds the whole family after any crash, even
where members have overwritten their environment or lost their parent.

Run as a command it is the undo and the evidence of every fault that is a family of processes:

    python -m chaoslab.agent.processes end TOKEN               end the family; exit 0 once it is gone, 1 if some survive
    python -m chaoslab.agent.processes usage TOKEN [FOLDER]    print what the family has used, as JSON
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from chaoslab.agent import cgroups

TOKEN_VARIABLE: Final = "CHAOSLAB_TOKEN"
_PROC = Path("/proc")
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """One process: a pid alone may be reused, a pid with its start time may not."""

    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """Whether that very process still runs (a zombie does not)."""
        found = _stat(self.pid)
        return found is not None and found.start_ticks == self.start_ticks and found.state not in "ZX"

    def send(self, signum: int) -> bool:
        """Send a signal to that very process; False when it is gone.

        The pid is pinned before its identity is checked, so that it cannot be reused in between.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive:
                return False
            signal.pidfd_send_signal(descriptor, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    session: int
    start_ticks: int


def _stat(pid: int) -> _Stat | None:
    """Return what /proc/PID/stat says (proc(5)), or None when there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may itself hold blanks and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(fields[0], int(fields[3]), int(fields[19]))


def _schedule(pid: int) -> tuple[int, int]:
    """Return the nanoseconds that a process ran and waited for a core (/proc/PID/schedstat)."""
    try:
        ran, waited, _slices = (_PROC / str(pid) / "schedstat").read_text().split()
    except OSError:
        return 0, 0
    return int(ran), int(waited)


def boot_id() -> str:
    """Return the kernel's identifier of this boot: pids and start times mean nothing beyond it."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Identity | None:
    """Return the identity of the running process `pid`, or None."""
    found = _stat(pid)
    return Identity(pid, found.start_ticks) if found else None


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _has_token(pid: int, mark: bytes) -> bool:
    try:
        return mark in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def family(token: str) -> frozenset[Identity]:
    """Return the living processes that carry `token`, and all that share a session with one of them."""
    mark = f"{TOKEN_VARIABLE}={token}".encode()
    stats = {pid: found for pid in _pids() if (found := _stat(pid)) and found.state not in "ZX"}
    marked = {pid for pid in stats if pid != os.getpid() and _has_token(pid, mark)}
    # A session is ours only if its leader is: a token inherited by chance must not drag in a foreign session.
    sessions = {stats[pid].session for pid in marked if stats[pid].session == pid}
    return frozenset(
        Identity(pid, found.start_ticks)
        for pid, found in stats.items()
        if pid in marked or (found.session in sessions and pid != os.getpid())
    )


def end(members: Iterable[Identity], *, grace: float = 0.2, limit: float = 2.0) -> frozenset[Identity]:
    """End processes: TERM, KILL after `grace` seconds; return those that still live after `limit` seconds."""
    living = frozenset(members)
    for signum, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, limit)):
        for member in living:
            member.send(signum)
            # A stopped process acts on TERM only once it runs again.
            if signum == signal.SIGTERM:
                member.send(signal.SIGCONT)
        deadline = time.monotonic() + patience
        while (living := frozenset(member for member in living if member.alive)) and time.monotonic() < deadline:
            time.sleep(0.005)
    return living


def end_family(token: str, *, grace: float = 0.2, limit: float = 2.0) -> frozenset[Identity]:
    """End everything that carries `token`, including what it starts meanwhile; return what survives.

    It has `grace` seconds to end by itself, of the `limit` for all of it.
    """
    deadline = time.monotonic() + limit
    while members := family(token):
        if time.monotonic() > deadline:
            return members
        end(members, grace=grace, limit=max(0.1, deadline - time.monotonic()))
    return frozenset()


def usage(token: str, folder: str = "") -> dict[str, Any]:
    """Return what the processes that carry `token` have used so far.

    `cpu_seconds` ran, `runnable_seconds` ran or waited for a core (the demand), `anonymous_bytes` are held in memory
    now, `written_bytes` reached the block layer, by pid; `groups` are the different sets of control groups that they
    are in; `disk_bytes` were written to the disk of `folder`, by whomever; `at` is the monotonic clock in seconds.
    """
    pids = sorted(member.pid for member in family(token))
    scheduled = [_schedule(pid) for pid in pids]
    return {
        "at": time.monotonic(),
        "processes": len(pids),
        "cpu_seconds": sum(ran for ran, _ in scheduled) / 1e9,
        "runnable_seconds": sum(ran + waited for ran, waited in scheduled) / 1e9,
        "anonymous_bytes": sum(map(anonymous_bytes, pids)),
        "written_bytes": {str(pid): _field(pid, "io", "write_bytes") for pid in pids},
        "groups": [list(found) for found in sorted(set(_groups(pids)))],
        "disk_bytes": _written_to_disk(folder) if folder else None,
    }


def _groups(pids: Iterable[int]) -> Iterator[tuple[str, ...]]:
    for pid in pids:
        with contextlib.suppress(OSError):
            yield tuple(map(str, cgroups.of(pid)))


def _written_to_disk(folder: str) -> int | None:
    """Return the bytes written to the disk of `folder` since boot, or None when no one disk is behind it."""
    device = Path(folder).stat().st_dev
    try:
        counts = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()
    except OSError:
        return None
    return int(counts[6]) * 512  # sectors, whatever the disk's own are


def anonymous_bytes(pid: int) -> int:
    """Return the resident memory of a process that no file backs, in bytes; 0 when it is gone."""
    return _field(pid, "status", "RssAnon") * 1024


def _field(pid: int, file: str, name: str) -> int:
    """Return a number that /proc/PID/FILE gives as "NAME: NUMBER", or 0 when the process is gone."""
    try:
        lines = (_PROC / str(pid) / file).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def spawn(
    argv: Sequence[str],
    *,
    token: str,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own, marked with `token`; terminal signals do not reach it.

    Raises:
        OSError: the program cannot be started.
    """
    marked = {**os.environ, **(environment or {}), TOKEN_VARIABLE: token}
    return subprocess.Popen(
        argv, env=marked, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True, close_fds=True
    )


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process `signum` when the thread that started it ends (prctl(2))."""
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def listener(port: int) -> int | None:
    """Return the oldest process that listens on a TCP port of this network, or None when none can be seen."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    holders = [found for pid in _pids() if sockets & _open_files(pid) and (found := identify(pid))]
    return min(holders, key=lambda found: found.start_ticks).pid if holders else None


def _listening_inodes(port: int) -> Iterator[str]:
    """Yield the inodes of sockets that listen on `port` (/proc/net/tcp: state 0A)."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _open_files(pid: int) -> set[str]:
    links = set()
    with contextlib.suppress(OSError):
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                links.add(str(entry.readlink()))
    return links


def become_first_victim() -> None:
    """Ask the kernel to kill this process, and what it starts, before anything else when memory runs out."""
    Path("/proc/self/oom_score_adj").write_text("1000")


def protect_from_memory_pressure() -> None:
    """Ask the kernel to kill this process last when memory runs out, where we may."""
    with contextlib.suppress(PermissionError):
        Path("/proc/self/oom_score_adj").write_text("-900")


def _main(argv: Sequence[str]) -> int:
    match argv:
        case ["end", token]:
            survivors = end_family(token)
            for survivor in sorted(survivors):
                print(f"process {survivor.pid} survives", file=sys.stderr)
            return 1 if survivors else 0
        case ["usage", token, *folder]:
            print(json.dumps(usage(token, *folder)))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

"""What a host is, and this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import psutil

from chaoslab.agent import processes
from chaoslab.agent.facts import Facts
from chaoslab.errors import UsageError

_FACTS_LIMIT: Final = 20.0


class Unreachable(UsageError):
    """A machine, or a place on it, that cannot be asked."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended; `exit_code` is None when it did not end in time and was killed."""

    argv: tuple[str, ...]
    exit_code: int | None
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether the command ended with 0."""
        return self.exit_code == 0

    @property
    def problem(self) -> str:
        """The command's own last words, or how it ended."""
        words = (self.stderr.strip() or self.stdout.strip()).splitlines()
        ending = "did not end in time" if self.exit_code is None else f"ended with {self.exit_code}"
        return f"{words[-1]} ({ending})" if words else ending


class Host:
    """A machine that runs argv.

    Whatever runs there is a local command: `reach` returns it. Steps hold what `reach` returned, so that the runner,
    the guardian and a reader of the journal run them alike, wherever they act. `place` is what the host is called in a
    sentence ("this machine").
    """

    name: str
    place: str

    def reach(self, argv: Sequence[str], *, token: str = "", undo: bool = False) -> tuple[str, ...]:
        """Return the local command that runs `argv` there, marked with `token`.

        With `undo` it is success when what was changed has gone together with its place (a container's network).
        """
        raise NotImplementedError

    @property
    def machine(self) -> Host:
        """The machine that this is a part of: its files are there, and its processes are seen from there."""
        return self

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """Ask the machine something: run `argv` there to its end."""
        return LocalHost().run(self.reach(argv), timeout=timeout)

    def facts(self, *, folder: str = "", programs: Sequence[str] = (), within: Sequence[str] = ()) -> Facts:
        """Return what there is; `within` are the options of `chaoslab.agent.within` that name a place there.

        Raises:
            Unreachable: the machine, or the place on it, does not answer.
        """
        wanted = (
            *(("--folder", folder) if folder else ()),
            *(word for name in programs for word in ("--program", name)),
        )
        found = self.run(placed((sys.executable, "-m", "chaoslab.agent.facts", *wanted), within), timeout=_FACTS_LIMIT)
        try:
            if found.ok:
                return Facts.from_dict(json.loads(found.stdout))
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"{self.place} answers what is no facts: {found.stdout[:80]!r}") from error
        raise Unreachable(f"{self.place}: {found.problem}")

    def serves(self, url: str) -> bool:
        """Whether the service at `url` runs there, as far as can be told."""
        raise NotImplementedError


def placed(argv: Sequence[str], within: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs `argv` in the place that options of `chaoslab.agent.within` name, if any."""
    return (sys.executable, "-m", "chaoslab.agent.within", *within, "--", *argv) if within else tuple(argv)


def addresses_of(url: str) -> frozenset[str]:
    """Return the addresses of the host of `url`; none when it does not resolve."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname or "", None)
    except OSError:
        return frozenset()
    return frozenset(str(entry[4][0]).partition("%")[0] for entry in found)


def _nothing() -> None:
    return None


class LocalHost(Host):
    """This machine."""

    name = "local"
    place = "this machine"

    def __init__(self) -> None:
        self._held: list[subprocess.Popen[bytes]] = []

    def reach(self, argv: Sequence[str], *, token: str = "", undo: bool = False) -> tuple[str, ...]:
        """Return `argv` as it is."""
        return tuple(argv)

    def serves(self, url: str) -> bool:
        """Whether the host of `url` is a loopback address, or one of this machine's own."""
        own = {address.address.partition("%")[0] for part in psutil.net_if_addrs().values() for address in part}
        found = addresses_of(url)
        return bool(found) and all(ip_address(address).is_loopback or address in own for address in found)

    def run(
        self, argv: Sequence[str], *, timeout: float, token: str = "", watch: Callable[[], None] = _nothing
    ) -> Completed:
        """Run `argv` in a session of its own, so that a terminal's signals do not cut it in half.

        A program that cannot be started is reported like one that failed, with exit code 127.
        """
        # Files, not pipes: a daemon that the command leaves behind may keep a pipe open for ever.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = processes.spawn(argv, token=token, stdout=out, stderr=err)
            except OSError as error:
                return Completed(tuple(argv), 127, "", f"{argv[0]} cannot be started: {error.strerror}")
            try:
                exit_code = _wait(process, time.monotonic() + timeout, watch)
            except BaseException:
                _kill_session(process)
                raise
            if exit_code is None:
                _kill_session(process)
            self._reap()  # the command may have ended what we hold
            return Completed(tuple(argv), exit_code, _text(out), _text(err))

    def hold(self, argv: Sequence[str], *, token: str) -> None:
        """Start `argv` in a session of its own, marked with `token`.

        Raises:
            OSError: the program cannot be started.
        """
        self._reap()
        self._held.append(processes.spawn(argv, token=token))

    def _reap(self) -> None:
        # They are our children: one that has ended stays a zombie until somebody asks.
        self._held = [process for process in self._held if process.poll() is None]


def _wait(process: subprocess.Popen[bytes], deadline: float, watch: Callable[[], None]) -> int | None:
    while time.monotonic() < deadline:
        try:
            return process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            watch()
    return None


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    # The command leads its session, hence also its process group, until it is reaped: the pid is its own.
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait()


def _text(file: object) -> str:
    file.seek(0)  # type: ignore[attr-defined]
    return str(file.read()[-20_000:], "utf-8", "replace")  # type: ignore[attr-defined]

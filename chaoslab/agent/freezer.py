"""Freezing a process with all that descend from it, and letting exactly those go on again.

Who was stopped is written down before it is, in a file of the fault's own: a family that loses its head while it is
frozen (a watchdog may kill it) can no longer be found by whose children they are.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from chaoslab.agent import process_table
from chaoslab.agent.patience import comes_about
from chaoslab.agent.processes import Identity

STOPPED: Final = "T"
"""The state of proc(5) that SIGSTOP brings about."""

_FOLDER: Final = Path("/tmp")  # the same for whoever undoes it, whatever TMPDIR says there
_LIMIT: Final = 5.0


class NotFrozen(Exception):
    """A family does not stop as a whole, or does not go on as a whole."""


def safe_token(token: str) -> str:
    """Let only a token pass that can be part of a file's name."""
    if not re.fullmatch(r"[\w.-]+", token):
        raise argparse.ArgumentTypeError(f"{token!r} is not accepted: letters, digits, '-', '_' and '.'")
    return token


def freeze(head: Identity, token: str) -> None:
    """Stop a process, then its descendants, until a look finds none that runs.

    Raises:
        NotFrozen: it is gone, or some still run after 5 s; `thaw` lets go what was stopped.
    """
    ledger = _Ledger(token)

    def all_stopped() -> bool:
        running = [member for member in _family(head) if member.state != STOPPED]
        # The head comes first: stopped, it starts no more children.
        ledger.note(member.identity for member in running)
        for member in running:
            member.identity.send(signal.SIGSTOP)
        return not running

    if not head.alive:
        raise NotFrozen(f"process {head.pid} is gone already: nothing to freeze")
    if not comes_about(all_stopped, seconds=_LIMIT):
        raise NotFrozen(f"process {head.pid} and its descendants do not all stop")


def thaw(head: Identity, token: str) -> None:
    """Let those that `freeze` stopped go on; who is gone, or was never stopped, is no error.

    Raises:
        NotFrozen: some are still stopped after 5 s.
    """
    ledger = _Ledger(token)
    # Without a ledger nobody was stopped, everybody was let go, or it was lost: the family itself tells.
    noted = ledger.read() or [member.identity for member in _family(head)]

    def all_going() -> bool:
        table = process_table.look()
        living = [table[one.pid] for one in reversed(noted) if one.pid in table and table[one.pid].identity == one]
        stopped = [member for member in living if member.state == STOPPED]
        for member in stopped:
            member.identity.send(signal.SIGCONT)
        return not stopped

    if not comes_about(all_going, seconds=_LIMIT):
        raise NotFrozen(f"process {head.pid} and its descendants do not all go on")
    ledger.remove()


def forget(token: str) -> None:
    """Remove the record of a freeze of another boot: whoever was stopped is gone."""
    _Ledger(token).remove()


def _family(head: Identity) -> list[process_table.Process]:
    table = process_table.look()
    return process_table.family(table, head.pid) if head.alive else []


class _Ledger:
    """The file that says who was stopped: "PID START_TICKS" a line, readable by its owner alone."""

    def __init__(self, token: str) -> None:
        self._path = _FOLDER / f"chaoslab-frozen-{token}"

    def note(self, members: Iterable[Identity]) -> None:
        text = "".join(f"{member.pid} {member.start_ticks}\n" for member in members)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise NotFrozen(f"{self._path} cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "w") as file:
            file.write(text)

    def read(self) -> list[Identity]:
        try:
            with self._path.open() as file:
                if os.fstat(file.fileno()).st_uid != os.geteuid():
                    raise NotFrozen(f"{self._path} is another user's")
                return [Identity(*map(int, line.split())) for line in dict.fromkeys(file)]
        except FileNotFoundError:
            return []

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

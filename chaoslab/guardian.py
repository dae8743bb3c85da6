"""The guardian: a second process that undoes everything when the first one is gone.

    python -m chaoslab.guardian JOURNAL

It is started before the first fault, in a session of its own, and holds the read end of a pipe whose write end only
the runner has. A line on the pipe says that all is well; its end without one says that the runner died (a crash,
`kill -9`, a restarted kernel), and then everything that the journal holds open is undone. A step past its deadline is
undone even while the runner lives. Signals do not end the guardian: only its work does.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from chaoslab.agent import processes
from chaoslab.errors import Aborted, ChaoslabError, NotReverted
from chaoslab.hosts import LocalHost
from chaoslab.journal import Journal, OpenStep, now_us
from chaoslab.undo import undo_all

_TICK_SECONDS = 0.25
_READY = b"ready\n"


class Guardian:
    """The runner's handle on its guardian; a context manager.

    Raises:
        ChaoslabError: the guardian does not start: nothing may be injected without one.
    """

    def __init__(self, journal: Journal) -> None:
        argv = [sys.executable, "-m", "chaoslab.guardian", str(journal.path)]
        # A token of its own: the guardian belongs to no fault, so no undo can end it.
        self._process = processes.spawn(
            argv, token=f"guardian-{os.urandom(8).hex()}", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 30.0)
        if not ready or self._process.stdout.readline() != _READY:
            self._process.kill()
            self._process.wait()
            raise ChaoslabError("the guardian process does not start, and nothing is injected without it")

    def check(self) -> None:
        """Raise Aborted when the guardian is gone: without it a crash would leave faults behind."""
        if self._process.poll() is not None:
            raise Aborted("the guardian process was killed; everything was reverted")

    def dismiss(self) -> None:
        """Tell the guardian that everything is undone, and wait until it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(b"done\n")
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.wait()
        self._process.stdout.close()


def _orphaned() -> bool | None:
    """Return True when the runner died, False when it is done, None while it works."""
    ready, _, _ = select.select([sys.stdin], [], [], _TICK_SECONDS)
    if not ready:
        return None
    return os.read(sys.stdin.fileno(), 64) == b""


def watch(journal: Journal) -> int:
    """Stay until the runner is done or dead; undo what it leaves behind.

    Returns 0 when nothing is left, 6 when something could not be undone: the journal then stays for `recover`.
    """
    known = _Known(journal)
    while (orphaned := _orphaned()) is None:
        known.refresh()
        overdue = [found for found in known.steps if now_us() > found.overdue_us]
        # A failure is journalled; the next tick tries again.
        with contextlib.suppress(NotReverted):
            undo_all(journal, LocalHost(), only=overdue)
    if not orphaned:
        return 0
    known.refresh()
    try:
        undo_all(journal, LocalHost(), only=known.steps)
        undo_all(journal, LocalHost())  # and see that nothing else is on record, readable or not
        journal.close()
    except ChaoslabError:
        return NotReverted.exit_code
    return 0


class _Known:
    """What the journal holds open, read anew when the file has changed.

    A step stays known until it is on record as undone: what was read once is not lost with the line that held it.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._size = -1
        self._steps: dict[tuple[str, str], OpenStep] = {}

    @property
    def steps(self) -> list[OpenStep]:
        """The open steps, the last one begun first."""
        return sorted(self._steps.values(), key=lambda found: found.since_us, reverse=True)

    def refresh(self) -> None:
        try:
            size = self._journal.path.stat().st_size
            if size != self._size:
                contents = self._journal.read()
                self._size = size
                self._steps |= contents.open_steps
                self._steps = {key: step for key, step in self._steps.items() if key not in contents.undone}
        except (OSError, ChaoslabError):
            return  # what is known stays known


def main(argv: list[str]) -> int:
    """Run the guardian of the journal that `argv` names."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    processes.protect_from_memory_pressure()
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    return watch(Journal(Path(argv[0])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

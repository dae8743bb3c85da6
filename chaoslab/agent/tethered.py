"""A service that somebody else's command starts, and that lives no longer than whoever had it started.

    python -m chaoslab.agent.tethered run COMMAND                  run a shell command until it ends, or our parent does
    python -m chaoslab.agent.tethered end TOKEN GRACE [COMMAND]    end it, after a command that stops it; idempotent

`run` is started by `processes.spawn`, whose token marks the whole family. It stays beside the command, so that the
family is ended also when the parent is killed together with the guardian. `end` is the undo: exit 0 once all is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Final

from chaoslab.agent import processes

MODULE: Final = (sys.executable, "-m", "chaoslab.agent.tethered")
_SHELL: Final = "/bin/sh"
_GRACE: Final = 5.0
_LEAST_LIMIT: Final = 2.0


class _Orphaned(Exception):
    """The parent is gone."""


def _bear(signum: int, frame: FrameType | None) -> None:
    """Stay: the command, in the same session, is told as well, and its end is ours. A handler is not inherited."""


def _orphan(signum: int, frame: FrameType | None) -> None:
    # A parent of several threads dies thread by thread, and the kernel tells each time.
    signal.signal(signum, _bear)
    raise _Orphaned


def run(command: str) -> int:
    """Run a shell command, and return its exit code as a shell has it; end the family when the parent ends."""
    signal.signal(signal.SIGUSR1, _orphan)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, _bear)
    try:
        processes.die_with_parent(signal.SIGUSR1)
        # No context manager: leaving one would wait for the command, which is to be ended.
        code = subprocess.Popen([_SHELL, "-c", command], stdin=subprocess.DEVNULL).wait()
        return code if code >= 0 else 128 - code
    except _Orphaned:
        _end(os.environ[processes.TOKEN_VARIABLE], _GRACE)
        return 128 + signal.SIGUSR1


def end(token: str, grace: float, command: str = "") -> int:
    """Run the command that stops the service, if there is one, and end what is left of it; return an exit code."""
    problem = _stopped_by(command, grace) if command else ""
    survivors = _end(token, grace)
    for survivor in survivors:
        print(f"process {survivor.pid} survives", file=sys.stderr)
    if problem:
        print(problem, file=sys.stderr)
    return 1 if survivors or problem else 0


def _stopped_by(command: str, limit: float) -> str:
    """Return what went wrong, or an empty string."""
    try:
        done = subprocess.run([_SHELL, "-c", command], stdin=subprocess.DEVNULL, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"the command that stops it has not ended after {limit:g} s"
    return f"the command that stops it ended with {done.returncode}" if done.returncode else ""


def _end(token: str, grace: float) -> list[processes.Identity]:
    return sorted(processes.end_family(token, grace=grace, limit=grace + _LEAST_LIMIT))


def main(argv: Sequence[str]) -> int:
    """Obey a command line."""
    match argv:
        case ["run", command]:
            return run(command)
        case ["end", token, grace, *command]:
            return end(token, float(grace), *command)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

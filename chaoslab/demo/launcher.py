"""Starting a shop from Python, and ending it."""

from __future__ import annotations

import json
import select
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from chaoslab.agent import processes
from chaoslab.demo import builds
from chaoslab.demo.commands import serve_command, stop_command
from chaoslab.demo.premises import Premises
from chaoslab.errors import ChaoslabError, NotReverted, UsageError

_OPENING_LIMIT: Final = 90.0
_ENDING_LIMIT: Final = 3.0


@dataclass(frozen=True, slots=True)
class Launched:
    """A shop that is open; `process` is its supervisor. A context manager that closes it."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def close(self) -> None:
        """End the shop, and see that nothing of it is left; again is fine.

        Raises:
            NotReverted: something of it survives.
        """
        _close(self.process, self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def launch(*, folder: Path, build: str, port: int = 0, token: str) -> Launched:
    """Start a shop in `folder`, new or empty, and return once it is open; port 0 takes a free one.

    Its processes carry `token`. It ends when it is closed, when this process ends, or by `stop_command`, which may be
    noted down before the launch: it undoes a launch cut short at any point.

    Raises:
        UsageError: unknown build, a port that cannot be had, or a folder that cannot be used.
        ChaoslabError: it does not start; the message ends with the logs' last lines.
    """
    builds.find(build)
    # Marked as the shop's before anything runs, the folder can be cleared however early this process dies.
    Premises.at(folder).occupy(token)
    with tempfile.TemporaryFile() as errors:
        process = processes.spawn(
            serve_command(folder=folder, build=build, port=port),
            token=token,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            return Launched(_opened(process, errors), folder, process)
        except BaseException:
            _close(process, folder)
            raise


def _opened(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    """Return the URL once the supervisor says that the shop is open."""
    assert process.stdout is not None
    poller = select.poll()
    poller.register(process.stdout, select.POLLIN)
    if not poller.poll(1000 * _OPENING_LIMIT):
        raise ChaoslabError(f"the embedded shop has not opened for {_OPENING_LIMIT:g} s")
    line = process.stdout.readline()
    if line:
        return str(json.loads(line)["url"])
    exit_code = process.wait()
    errors.seek(0)
    words = errors.read().decode(errors="replace").strip()
    raise (UsageError if exit_code == 2 else ChaoslabError)(words or f"the embedded shop ended with {exit_code}")


def _close(process: subprocess.Popen[bytes], folder: Path) -> None:
    from chaoslab.demo import teardown

    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(_ENDING_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    if survivors := teardown.clear(Premises.at(folder)):
        command = shlex.join(stop_command(folder=folder))
        raise NotReverted(f"of the shop in {folder} survives: {', '.join(survivors)}", commands=[command])

"""Working off the jobs: those that inject one at a time and alone, neighbours that only read side by side."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from chaoslab import store
from chaoslab.batch import page
from chaoslab.batch.plan import Job
from chaoslab.batch.result import Result, skipped
from chaoslab.errors import NotReverted, UsageError
from chaoslab.interrupts import Interrupts
from chaoslab.journal import leftovers

Report = Callable[[Job, Result], None]

_COMMAND: Final = (sys.executable, "-P", "-m", "chaoslab.batch.job")
_TICK: Final = 0.1
_ENDING_SECONDS: Final = 90.0
_REVERTING_SECONDS: Final = 60.0
_BROKEN: Final = 6


def execute(
    jobs: Sequence[Job],
    folder: Path,
    *,
    cwd: Path,
    parallel: int = 2,
    report: Report = lambda _job, _result: None,
    command: Sequence[str] = _COMMAND,
) -> list[Result]:
    """Execute `jobs` in the folder `cwd`; notebooks, pages, `index.html` and `batch.json` go to `folder`.

    Args:
        folder: new or empty.
        parallel: how many that inject nothing may run at once.
        report: called with each job that is over.
        command: what executes one job; takes an order and the place of its result, both JSON files.

    Raises:
        UsageError: `folder` cannot be written, or holds something.
        Interrupted: a signal came; every kernel was interrupted, and what they injected is reverted.
        NotReverted: a signal came, and something is still broken.
    """
    if parallel < 1:
        raise UsageError(f"--parallel is {parallel}; accepted: 1 or more")
    _make(folder)
    results: dict[int, Result] = {}
    with Interrupts() as interrupts:
        try:
            with TemporaryDirectory(prefix="chaoslab-batch-") as scratch:
                for injects, neighbours in itertools.groupby(jobs, key=lambda job: job.injects):
                    broken = any(result.exit_code == _BROKEN for result in results.values())
                    for job, result in (
                        _refused(neighbours)
                        if injects and broken
                        else _side_by_side(
                            neighbours,
                            _Room(folder, cwd, Path(scratch), command),
                            1 if injects else parallel,
                            interrupts,
                        )
                    ):
                        results[job.number] = result
                        report(job, result)
        finally:
            found = [results.get(job.number, skipped("interrupted before its end")) for job in jobs]
            _write(jobs, found, folder)
        interrupts.check_last()
    return found


def _refused(jobs: Iterator[Job]) -> Iterator[tuple[Job, Result]]:
    for job in jobs:
        yield job, skipped("not executed: something is still broken (`chaoslab recover --list`)")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            raise UsageError(f"--output {folder} holds other files; accepted: a new or an empty folder")
    except OSError as error:
        raise UsageError(f"--output {folder} cannot be written: {error.strerror or error}") from error


def _write(jobs: Sequence[Job], results: Sequence[Result], folder: Path) -> None:
    store.write_text(folder / "index.html", page.render(list(zip(jobs, results, strict=True)), folder))
    document = [
        {"number": job.number, "notebook": job.notebook.name, "parameters": dict(job.parameters), **result.as_dict()}
        for job, result in zip(jobs, results, strict=True)
    ]
    store.write_json(folder / "batch.json", {"executions": document})


@dataclass(frozen=True, slots=True)
class _Room:
    """Where jobs are executed, and by what."""

    folder: Path
    cwd: Path
    scratch: Path
    command: Sequence[str]


@dataclass(frozen=True, slots=True)
class _UnderWay:
    job: Job
    process: subprocess.Popen[bytes]
    result: Path
    log: Path

    def outcome(self) -> Result:
        try:
            return Result(**json.loads(self.result.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            reason = f"its process ended with {self.process.returncode}{''.join(f': {line}' for line in last)}"
            return Result(exit_code=2, strict_exit_code=2, error=reason)


def _side_by_side(jobs: Iterator[Job], room: _Room, most: int, interrupts: Interrupts) -> Iterator[tuple[Job, Result]]:
    """Execute jobs, at most so many at once, and yield each that is over; those that are not are ended on the way out.

    After a job of a stage that injects has left something broken, the rest of the stage is not executed.
    """
    waiting = list(jobs)
    with _ended() as under_way:
        broken = False
        while waiting or under_way:
            interrupts.check()
            while waiting and len(under_way) < most:
                job = waiting.pop(0)
                if job.injects and broken:
                    yield from _refused(iter([job]))
                else:
                    under_way.append(_start(job, room))
            for one in [one for one in under_way if one.process.poll() is not None]:
                under_way.remove(one)
                result = one.outcome()
                broken = broken or result.exit_code == _BROKEN
                yield one.job, result
            time.sleep(_TICK)


def _start(job: Job, room: _Room) -> _UnderWay:
    order, result, log = (room.scratch / f"{job.slug}.{kind}" for kind in ("order", "result", "log"))
    document = {
        "notebook": str(job.notebook.resolve()),
        "stem": str(room.folder.resolve() / job.slug),
        "parameters": dict(job.parameters),
        "cwd": str(room.cwd.resolve()),
        "title": f"{job.notebook.stem} · {job.words()}",
    }
    store.write_json(order, document)
    with log.open("wb") as output:
        # A session of its own: what ^C in a terminal means is for us to decide, once.
        process = subprocess.Popen(
            [*room.command, str(order), str(result)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _UnderWay(job, process, result, log)


@contextmanager
def _ended() -> Iterator[list[_UnderWay]]:
    """Give a list of processes; those still in it at the end are interrupted, and waited for.

    Raises:
        NotReverted: something that they injected is still there.
    """
    under_way: list[_UnderWay] = []
    try:
        yield under_way
    finally:
        for one in under_way:
            one.process.send_signal(signal.SIGINT)
        for one in under_way:
            try:
                one.process.wait(_ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                one.process.kill()  # its kernel goes with it, and then the guardian undoes
                one.process.wait()
        if any(one.job.injects for one in under_way):
            _until_reverted()


def _until_reverted() -> None:
    give_up = time.monotonic() + _REVERTING_SECONDS
    while left := [found.step.name for journal in leftovers() for found in journal.open_steps()]:
        if time.monotonic() > give_up:
            raise NotReverted(f"still there after the interrupt: {', '.join(left)}", commands=["chaoslab recover"])
        time.sleep(_TICK)

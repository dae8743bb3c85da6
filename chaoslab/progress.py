"""How a running campaign shows where it stands: a line that moves in a terminal, one that is replaced in a notebook,
and one line a phase where output is neither."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from chaoslab.runner import Progress

Reporter = Callable[[Progress], None]

_REFRESH_SECONDS = 0.5


def line(progress: Progress) -> str:
    """Return one line: run, scenario, repeat, phase, time left.

    >>> line(Progress(scenario="Light CPU Stress", repeat=2, repeats=3, number=5, total=12, phase="injection",
    ...               remaining=83.4, fraction=0.4))
    'run 5/12 · Light CPU Stress · repeat 2/3 · injection · 1:23 left'
    """
    minutes, seconds = divmod(int(progress.remaining), 60)
    return (
        f"run {progress.number}/{progress.total} · {progress.scenario} · repeat {progress.repeat}/{progress.repeats}"
        f" · {progress.phase} · {minutes}:{seconds:02d} left"
    )


def plain(stream: TextIO) -> Reporter:
    """Return a reporter that writes one line whenever a run reaches its injection: a log, not a flood."""
    shown: set[int] = set()

    def report(progress: Progress) -> None:
        if progress.phase == "injection" and progress.number not in shown:
            shown.add(progress.number)
            print(line(progress), file=stream, flush=True)

    return report


def _throttled(show: Callable[[Progress], None]) -> Reporter:
    last: list[Any] = [0.0, ""]

    def report(progress: Progress) -> None:
        moment, phase = time.monotonic(), f"{progress.number} {progress.phase}"
        if moment - last[0] >= _REFRESH_SECONDS or phase != last[1]:
            last[:] = [moment, phase]
            show(progress)

    return report


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


@contextmanager
def reporter(stream: TextIO | None = None) -> Iterator[Reporter]:
    """Give the reporter that fits where output goes; `stream` is standard error by default."""
    stream = stream or sys.stderr
    if _in_notebook():
        yield _notebook()
    elif stream.isatty():
        with _terminal(stream) as report:
            yield report
    else:
        yield plain(stream)


@contextmanager
def _terminal(stream: TextIO) -> Iterator[Reporter]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=24), TextColumn("{task.percentage:3.0f} %"), TextColumn("{task.description}"))
    with Bar(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield _throttled(lambda progress: bar.update(task, completed=progress.fraction, description=line(progress)))


def _notebook() -> Reporter:
    from IPython.display import display

    handle: Any = display({"text/plain": "starting"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
    return _throttled(lambda progress: handle.update({"text/plain": line(progress)}, raw=True))

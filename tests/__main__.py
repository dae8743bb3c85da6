"""The whole suite in four processes: what is timed or measures a dose; beside it what only computes or mostly waits.

    python -m tests [options of pytest]

The others take only what nobody else wants: the workers of a CPU stress have a low priority too, and their dose is
measured. SCHED_IDLE alone does not see to that, since the kernel shares out the processor among sessions first
(sched(7), autogroups), and we start many; where we may, all that they start is in one control group with the least
share there is. `pytest` alone runs the same tests one by one.
Exit code: that of whichever failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from tests.conftest import COMPUTES, SHOWS, WAITS

BESIDE = (COMPUTES, WAITS, SHOWS)
REAL_TIME_US = "400000"
"""Of each second, for the probers of the lanes beside."""


def main(options: Sequence[str]) -> int:
    with _back_seat() as group, ExitStack() as stack:
        others = [stack.enter_context(_beside(marker, options, group)) for marker in BESIDE]
        codes = [subprocess.run([*_pytest(f"not ({' or '.join(BESIDE)})"), *options], check=False).returncode]
        for process, said in others:
            codes.append(process.wait())
            said.seek(0)
            print(said.read())
    return max(codes, key=abs)


@contextmanager
def _back_seat() -> Iterator[Path | None]:
    """A control group with the least share of the processor, or None where we may make none."""
    for controller, setting, least in (("cpu", "cpu.shares", "2"), ("", "cpu.weight", "1")):  # version 1, version 2
        group = Path("/sys/fs/cgroup", controller, f"chaoslab-tests-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / setting).exists():
                (group / setting).write_text(least)
                with suppress(OSError):  # version 1, where the kernel shares out real time too: probers need some
                    (group / "cpu.rt_runtime_us").write_text(REAL_TIME_US)
                yield group
                return
        finally:
            with suppress(OSError):  # what a test has left running holds it
                group.rmdir()
    yield None


@contextmanager
def _beside(
    marker: str, options: Sequence[str], group: Path | None
) -> Iterator[tuple[subprocess.Popen[bytes], IO[str]]]:
    argv = [*_pytest(marker), "-p", "no:cacheprovider", *options]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(argv, stdout=said, stderr=subprocess.STDOUT, preexec_fn=partial(_give_way, group)) as process,
    ):
        yield process, said


def _give_way(group: Path | None) -> None:
    if group is not None:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _pytest(markers: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "--durations=20", "-m", markers]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The whole suite in lanes beside each other, with nobody near the tests whose doses of the processor are measured.

    python -m tests [options of pytest]

First those doses; beside them only what computes, with the least share of the processor there is. Then all others at
once: two lanes of tests that are timed, and with a smaller share those that are not. Priorities do not see to that,
since the kernel shares out the processor among sessions first (sched(7), autogroups), and we start many: where we may,
all that the lanes beside start is in one control group. `pytest` alone runs the same tests one by one.
Exit code: that of whichever failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.conftest import COMPUTES, DOSES, LANES, SERVICES, SHOWS, WAITS

_CONTROLLERS: Final = (("cpu", "cpu.shares", 2, 256), ("", "cpu.weight", 1, 25))  # version 1, version 2
"""Each with the least share that there is, and with a quarter of everybody's."""
_REAL_TIME_US: Final = "400000"
"""Of each second, for the probers of the lanes beside."""

_PATIENCE: Final = ("--timeout=600",)
"""For a test that gives way; a timed one has what pyproject.toml says."""


def main(options: Sequence[str]) -> int:
    with _back_seat() as seat, ExitStack() as stack:

        def beside(marker: str, prepare: Callable[[], None] | None = None) -> tuple[subprocess.Popen[bytes], IO[str]]:
            return stack.enter_context(_beside(marker, options, prepare))

        def here(markers: str) -> int:
            return subprocess.run([*_pytest(markers), *options], check=False).returncode

        others = [beside(COMPUTES, seat.take)]
        codes = [here(DOSES)]
        seat.share_more()
        others += [beside(SERVICES), beside(WAITS, seat.take), beside(SHOWS, seat.take)]
        codes.append(here(f"not ({' or '.join(LANES)})"))
        for process, said in others:
            codes.append(process.wait())
            said.seek(0)
            print(said.read())
    return max(codes, key=abs)


@dataclass(frozen=True)
class _Seat:
    """A control group, or None where we may make none; the file that says its share, and a larger share."""

    group: Path | None = None
    setting: str = ""
    more: int = 0

    def take(self) -> None:
        """Have the calling process sit there, or at the lowest priority where there is no seat."""
        if self.group is None:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        else:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def share_more(self) -> None:
        """Let it have more than the least."""
        if self.group is not None:
            (self.group / self.setting).write_text(str(self.more))


@contextmanager
def _back_seat() -> Iterator[_Seat]:
    for controller, setting, least, more in _CONTROLLERS:
        group = Path("/sys/fs/cgroup", controller, f"chaoslab-tests-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / setting).exists():
                (group / setting).write_text(str(least))
                with suppress(OSError):  # version 1, where the kernel shares out real time too: probers need some
                    (group / "cpu.rt_runtime_us").write_text(_REAL_TIME_US)
                yield _Seat(group, setting, more)
                return
        finally:
            with suppress(OSError):  # what a test has left running holds it
                group.rmdir()
    yield _Seat()


@contextmanager
def _beside(
    marker: str, options: Sequence[str], prepare: Callable[[], None] | None
) -> Iterator[tuple[subprocess.Popen[bytes], IO[str]]]:
    argv = [*_pytest(marker), "-p", "no:cacheprovider", *(() if prepare is None else _PATIENCE), *options]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(argv, stdout=said, stderr=subprocess.STDOUT, preexec_fn=prepare) as process,
    ):
        yield process, said


def _pytest(markers: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "--durations=20", "-m", markers]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

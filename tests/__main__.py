"""The whole suite in four processes: what is timed or measures a dose; beside it what only computes or mostly waits.

    python -m tests [options of pytest]

The others take only what nobody else wants (SCHED_IDLE): the workers of a CPU stress have a low priority too, and
their dose is measured. `pytest` alone runs the same tests one by one.
Exit code: that of whichever failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO

from tests.conftest import COMPUTES, SHOWS, WAITS

BESIDE = (COMPUTES, WAITS, SHOWS)


def main(options: Sequence[str]) -> int:
    with ExitStack() as stack:
        others = [stack.enter_context(_beside(marker, options)) for marker in BESIDE]
        codes = [subprocess.run([*_pytest(f"not ({' or '.join(BESIDE)})"), *options], check=False).returncode]
        for process, said in others:
            codes.append(process.wait())
            said.seek(0)
            print(said.read())
    return max(codes, key=abs)


@contextmanager
def _beside(marker: str, options: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[str]]]:
    argv = [*_pytest(marker), "-p", "no:cacheprovider", *options]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(argv, stdout=said, stderr=subprocess.STDOUT, preexec_fn=_give_way) as process,
    ):
        yield process, said


def _give_way() -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _pytest(markers: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "--durations=20", "-m", markers]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

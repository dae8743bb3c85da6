"""The whole suite in two processes: what acts on the machine and is timed, and beside it what only computes.

    python -m tests [options of pytest]

The second takes only what nobody else wants (SCHED_IDLE): the workers of a CPU stress have a low priority too, and
their dose is measured. `pytest` alone runs the same tests one by one.
Exit code: that of whichever failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from tests.conftest import COMPUTES


def main(options: list[str]) -> int:
    with tempfile.TemporaryFile("w+") as said:
        beside = subprocess.Popen(
            [*_pytest(COMPUTES), "-p", "no:cacheprovider", *options],
            stdout=said,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)),
        )
        with beside:
            first = subprocess.run([*_pytest(f"not {COMPUTES}"), *options], check=False).returncode
            second = beside.wait()
        said.seek(0)
        print(said.read())
    return first or second


def _pytest(marker: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-m", marker]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

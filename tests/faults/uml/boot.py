"""A User Mode Linux under way: `inside.py` takes its kernel's netem through its paces while other tests run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import chaoslab

REPOSITORY = Path(chaoslab.__file__).parents[1]
NEEDED = {"linux.uml": "user-mode-linux", "busybox": "busybox-static", "tc": "iproute2"}
_KERNEL = ["linux.uml", "root=/dev/root", "rootfstype=hostfs", "rw", "mem=1G", "con=null", "con0=null,fd:1", "quiet"]
_LIMIT = 180.0


def lacking() -> str:
    """What would have to be installed, or an empty string."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [program for program in NEEDED if shutil.which(program, path=path) is None]
    return "".join(f"{program} is missing: apt-get install {NEEDED[program]}" for program in absent[:1])


class BootUnderWay:
    """One boot, that answers all questions."""

    def __init__(self, folder: Path) -> None:
        self._results, self._console = folder / "results.json", folder / "console"
        lab = {"LAB_PYTHON": sys.executable, "LAB_REPOSITORY": REPOSITORY, "LAB_RESULTS": self._results}
        init = f"init={REPOSITORY / 'tests/faults/uml/init.sh'}"
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                [*_KERNEL, init, *(f"{key}={value}" for key, value in lab.items())],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def answers(self) -> dict[str, Any]:
        """Wait until it has halted, and return what was found inside."""
        self._process.wait(timeout=_LIMIT)
        assert self._results.exists(), self._console.read_text(errors="replace")[-2000:]
        found: dict[str, Any] = json.loads(self._results.read_text())
        return found

    def stop(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

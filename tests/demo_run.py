"""The part of the machine that a `chaoslab demo` may use, and one that is under way while other tests run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from chaoslab import targets
from chaoslab.journal import Journal

CHAOSLAB = [sys.executable, "-m", "chaoslab"]
_LIMIT = 300.0


@dataclass(frozen=True)
class Machine:
    """The part of the machine that one test's commands may use: a state folder and a folder for temporary files."""

    state: Path
    temporary: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {targets.STATE_VARIABLE: str(self.state), "TMPDIR": str(self.temporary)}

    def traces(self) -> set[str]:
        """All that chaoslab has left there: shops, processes, ports, published targets, steps not undone."""
        found = {str(path) for path in self.temporary.iterdir()}
        found |= {str(path) for path in (self.state / "targets").glob("*")}
        for path in (self.state / "journals").glob("*.jsonl"):
            found |= {f"not undone: {left.step.name}" for left in Journal(path).open_steps()}
        return found | set(self._processes())

    def _processes(self) -> Iterator[str]:
        # PostgreSQL overwrites its environment; its command line names the shop's folder.
        for process in psutil.process_iter(["pid", "cmdline", "status"]):
            try:
                marked = process.environ().get(targets.STATE_VARIABLE) == str(self.state)
            except psutil.Error:
                continue
            ours = marked or str(self.temporary) in " ".join(process.info["cmdline"] or ())
            if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
                yield f"process {process.info['pid']}: {process.info['cmdline']}"


def new_machine(state: Path) -> Machine:
    # Short, and open to others: PostgreSQL runs as nobody where we are root, and its socket's path is limited.
    temporary = Path(tempfile.mkdtemp(prefix="cl-", dir="/tmp"))
    temporary.chmod(0o755)
    return Machine(state, temporary)


class DemoUnderWay:
    """A whole `chaoslab demo`, in the background: it mostly waits, and other tests need not wait for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "campaign"
        self.machine = new_machine(folder / "state")
        self._out, self._err = folder / "out", folder / "err"
        argv = [*CHAOSLAB, "demo", "--seed", "7", "--output", str(self.folder)]
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(argv, stdout=out, stderr=err, env=self.machine.environment)

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Wait until it has ended, and return what it printed."""
        code = self._process.wait(timeout=_LIMIT)
        return subprocess.CompletedProcess(self._process.args, code, self._out.read_text(), self._err.read_text())

    def stop(self) -> None:
        """End it as a user would, if it still runs."""
        self._process.terminate()
        self._process.wait(timeout=30)
        self.machine.temporary.rmdir()

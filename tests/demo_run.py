"""Commands that are under way while other tests run, and the part of the machine that a `chaoslab demo` may use."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from chaoslab import targets
from chaoslab.journal import Journal

CHAOSLAB = [sys.executable, "-m", "chaoslab"]


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


class UnderWay:
    """A command of ours, in the background: it mostly waits, and other tests need not wait for it.

    Args:
        place: the folder that it is started in; its output goes there, and its state, unless `environment` says where.
        argv: a module with its arguments.
        limit: seconds within which it must end, and `grace` once it has been asked to.
    """

    def __init__(
        self,
        place: Path,
        *argv: str,
        environment: Mapping[str, str] | None = None,
        limit: float = 110.0,
        grace: float = 60.0,
    ) -> None:
        self.place, self.state = place, place / "state"
        self._limit, self._grace = limit, grace
        environment = environment or os.environ | {targets.STATE_VARIABLE: str(self.state)}
        self._out, self._err = place / "stdout", place / "stderr"
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *argv], cwd=place, env=environment, stdout=out, stderr=err
            )

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Wait until it has ended, and return what it printed."""
        code = self._process.wait(timeout=self._limit)
        return subprocess.CompletedProcess(self._process.args, code, self._out.read_text(), self._err.read_text())

    def stop(self) -> None:
        """End it as a user would, if it still runs."""
        self._process.terminate()
        self._process.wait(timeout=self._grace)


class DemoUnderWay(UnderWay):
    """A whole `chaoslab demo`, on a machine of its own."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "campaign"
        self.machine = new_machine(place / "state")
        argv = ["chaoslab", "demo", "--seed", "7", "--output", str(self.folder)]
        super().__init__(place, *argv, environment=self.machine.environment, limit=300.0, grace=30.0)

    def stop(self) -> None:
        """End it, and see that it left nothing."""
        super().stop()
        self.machine.temporary.rmdir()

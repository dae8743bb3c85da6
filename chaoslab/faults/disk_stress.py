"""disk_stress: workers that write and sync, over and over, in a bounded amount of space.

Dose: the workers whose writes reached the block layer between effect and undo; how many bytes a second they wrote is
stated beside it, because that is the disk's answer and not ours to ask. A folder in memory (tmpfs) is refused: nothing
there reaches a disk. So is one whose disk has too little room.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal

import psutil
from pydantic import Field

from chaoslab.faults.base import FailureType, Injection, Obstacle, Reading, Surroundings
from chaoslab.faults.stress import Stressor
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Parameters, Scenario

WORKER_BYTES = 64 * 1024**2
"""Space that each worker writes to, over and over."""

_LEAST_LEFT = 512 * 1024**2
_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


class DiskParameters(Parameters):
    """Dose of disk_stress."""

    io_workers: int = Field(gt=0, le=1024, description="how many workers write and sync")
    folder: str | None = Field(default=None, description="where they write; a temporary folder on a disk by default")


class DiskStress(Scenario):
    """Workers that write and sync."""

    type: Literal["disk_stress"]
    parameters: DiskParameters


class _Disk(Stressor):
    """Workers that write and sync in a folder."""

    def shortage(self, scenario: Scenario) -> Obstacle | None:
        folder = _folder(scenario)
        if not folder.is_dir():
            return Obstacle(f"there is no folder {folder}", "name one that exists in parameters.folder")
        if _filesystem(folder) in _IN_MEMORY:
            return Obstacle(f"{folder} lies in memory, not on a disk", "name another one in parameters.folder")
        free = shutil.disk_usage(folder).free
        wanted = _dose(scenario).io_workers * WORKER_BYTES + _LEAST_LEFT
        if free < wanted:
            return Obstacle(f"the disk of {folder} has {free >> 20} MB free; {wanted >> 20} MB are needed")
        return None

    def shows(self, scenario: Scenario, earlier: Reading, later: Reading) -> bool:
        return len(_writers(earlier, later)) >= _dose(scenario).io_workers

    def measure(self, scenario: Scenario, effect: Reading, last: Reading) -> tuple[Dose, ...]:
        asked = float(_dose(scenario).io_workers)
        writers = _writers(effect, last)
        seconds = last.data.get("at", 0.0) - effect.data.get("at", 0.0)
        each_second = sum(writers.values()) / seconds / 1024**2 if seconds > 0 else 0.0
        return (
            Dose(
                quantity="workers writing and syncing",
                unit="workers",
                asked=asked,
                delivered=float(len(writers)),
                low=asked,
                high=asked,
                how=f"bytes written (/proc/PID/io) grew in each; {each_second:.1f} MB/s in all",
                mechanism=self.name,
            ),
        )


def _dose(scenario: Scenario) -> DiskParameters:
    assert isinstance(scenario, DiskStress)
    return scenario.parameters


def _folder(scenario: Scenario) -> Path:
    named = _dose(scenario).folder
    if named is not None:
        return Path(named)
    usual = Path(tempfile.gettempdir())
    return Path("/var/tmp") if _filesystem(usual) in _IN_MEMORY else usual


def _filesystem(folder: Path) -> str:
    """Return the type of the file system that `folder` lies on."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[parent] for parent in (folder.resolve(), *folder.resolve().parents) if parent in mounts), "")


def _writers(earlier: Reading, later: Reading) -> dict[str, int]:
    """Return by how many bytes each process wrote more, for those that did."""
    before = earlier.data.get("written_bytes", {})
    after = later.data.get("written_bytes", {})
    grown = {pid: count - before.get(pid, 0) for pid, count in after.items()}
    return {pid: more for pid, more in grown.items() if more > 0}


class StressNg(_Disk):
    """stress-ng's hdd stressor, in a folder of our own that goes with it."""

    name = program = "stress-ng"

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        injection = super().inject(scenario, where, seconds=seconds, token=token)
        (work,) = injection.steps
        own = str(self._own_folder(scenario, token))
        # stress-ng leaves a folder behind when it is killed: it works in one that our undo removes.
        room = Step(
            name=f"folder for {work.name}",
            do=("mkdir", own),
            undo=("rm", "-rf", own),
            token=f"{token}-folder",
            deadline=work.deadline,
        )
        return Injection(
            mechanism=injection.mechanism,
            steps=(room, work),
            took_effect=injection.took_effect,
            doses=injection.doses,
        )

    @staticmethod
    def _own_folder(scenario: Scenario, token: str) -> Path:
        return _folder(scenario) / f"chaoslab-{token}"

    def argv(self, scenario: Scenario, seconds: float, token: str) -> tuple[str, ...]:
        write = ("--hdd", str(_dose(scenario).io_workers), "--hdd-bytes", str(WORKER_BYTES), "--hdd-opts", "fdatasync")
        place = ("--temp-path", str(self._own_folder(scenario, token)))
        return ("stress-ng", *write, *place, "--timeout", f"{int(seconds + 1)}s", "--quiet")


class OwnWorkers(_Disk):
    """Worker processes of our own; their files have no name, so that nothing is left whoever kills them."""

    name = "python workers"

    def argv(self, scenario: Scenario, seconds: float, token: str) -> tuple[str, ...]:
        workers = ("--workers", str(_dose(scenario).io_workers), "--bytes", str(WORKER_BYTES))
        place = ("--folder", str(_folder(scenario)), "--seconds", f"{seconds:g}")
        return (sys.executable, "-m", "chaoslab.agent.workers", "disk", *workers, *place)


FAULT: Final = FailureType(scenario=DiskStress, mechanisms=(StressNg(), OwnWorkers()))

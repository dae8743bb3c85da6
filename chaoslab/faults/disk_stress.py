"""disk_stress: workers that write and sync, over and over, in a bounded amount of space.

Dose: the workers whose writes reached the block layer between effect and undo. How many bytes a second they wrote,
each write synced before the next, and how many the disk itself took meanwhile, is stated beside it: that is the disk's
answer and not ours to ask. A folder in memory (tmpfs) is refused: nothing there reaches a disk. So is one whose disk
has too little room; a worker of our own also stops when others fill the disk meanwhile.
"""

from __future__ import annotations

import sys
from pathlib import PurePosixPath
from typing import Final, Literal

from pydantic import Field

from chaoslab.agent.facts import Facts
from chaoslab.faults.base import FailureType, Obstacle, Reading
from chaoslab.faults.stress import Stressor, StressParameters, shorthand
from chaoslab.hosts import Host
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Scenario, Size

_MEBIBYTE = 1024**2
_LEAST_LEFT = 512 * _MEBIBYTE
_LEAST_WRITTEN = 64 * 1024


class DiskParameters(StressParameters):
    """Dose of disk_stress."""

    io_workers: int = Field(
        gt=0,
        le=1024,
        validation_alias=shorthand("io_workers", "workers"),
        description="how many workers write and sync",
    )
    worker_size: Size = Field(
        default=64 * _MEBIBYTE,
        ge=_MEBIBYTE,
        le=1024 * _MEBIBYTE,
        description='space that each worker writes to, over and over, "1M" to "1G"',
    )
    folder: str | None = Field(default=None, description="where they write; a temporary folder on a disk by default")


class DiskStress(Scenario):
    """Workers that write and sync."""

    type: Literal["disk_stress"]
    parameters: DiskParameters


class _Disk(Stressor):
    """Workers that write and sync in a folder."""

    def folder(self, scenario: Scenario) -> str:
        return _dose(scenario).folder or ""

    def watched(self, scenario: Scenario) -> tuple[str, ...]:
        return (self.folder(scenario),)

    def settled(self, scenario: Scenario, facts: Facts) -> Scenario:
        dose = _dose(scenario).model_copy(update={"folder": facts.folder.path})
        return scenario.model_copy(update={"parameters": dose})

    def shortage(self, scenario: Scenario, facts: Facts) -> Obstacle | None:
        folder, dose = facts.folder, _dose(scenario)
        if not folder.exists:
            return Obstacle(f"there is no folder {folder.path}", "name one that exists in parameters.folder")
        if folder.in_memory:
            return Obstacle(f"{folder.path} lies in memory, not on a disk", "name another one in parameters.folder")
        wanted = dose.io_workers * dose.worker_size + _LEAST_LEFT
        if folder.free < wanted:
            sizes = f"{folder.free // _MEBIBYTE} MB free; {wanted // _MEBIBYTE} MB are needed"
            return Obstacle(f"the disk of {folder.path} has {sizes}", "ask for fewer workers, or a smaller worker_size")
        return None

    def shows(self, scenario: Scenario, earlier: Reading, later: Reading) -> bool:
        return len(_writers(earlier, later)) >= _dose(scenario).io_workers

    def measure(self, scenario: Scenario, facts: Facts, effect: Reading, last: Reading) -> tuple[Dose, ...]:
        asked = float(_dose(scenario).io_workers)
        writers = _writers(effect, last)
        return (
            Dose(
                quantity="workers writing and syncing",
                unit="workers",
                asked=asked,
                delivered=float(len(writers)),
                low=asked,
                high=asked,
                how=f"bytes written (/proc/PID/io) grew in each; {_pace(effect, last, sum(writers.values()))}",
                mechanism=self.name,
            ),
        )


def _pace(effect: Reading, last: Reading, written: int) -> str:
    """Return in words how many MB a second the workers wrote, and the disk took."""
    seconds = last.data.get("at", 0.0) - effect.data.get("at", 0.0)
    if seconds <= 0:
        return "for no time"
    words = f"{written / seconds / _MEBIBYTE:.1f} MB/s in all, each write synced before the next"
    before, after = effect.data.get("disk_bytes"), last.data.get("disk_bytes")
    if before is None or after is None:
        return words
    return f"{words}; {(after - before) / seconds / _MEBIBYTE:.1f} MB/s reached the disk, by whomever"


def _dose(scenario: Scenario) -> DiskParameters:
    assert isinstance(scenario, DiskStress)
    return scenario.parameters


def _writers(earlier: Reading, later: Reading) -> dict[str, int]:
    """Return by how many bytes each worker wrote more, for those that did; other processes write next to nothing."""
    before = earlier.data.get("written_bytes", {})
    after = later.data.get("written_bytes", {})
    grown = {pid: count - before.get(pid, 0) for pid, count in after.items()}
    return {pid: more for pid, more in grown.items() if more >= _LEAST_WRITTEN}


class StressNg(_Disk):
    """stress-ng's hdd stressor, in a folder of our own that goes with it."""

    name = program = "stress-ng"

    def preparations(self, scenario: Scenario, machine: Host, *, limit: float, token: str) -> tuple[Step, ...]:
        own = self._own_folder(scenario, token)
        # stress-ng leaves a folder behind when it is killed: it works in one that our undo removes.
        return (
            Step(
                name=f"folder for {scenario.type} by {self.name}",
                do=machine.reach(("mkdir", own), token=f"{token}-folder"),
                undo=machine.reach(("rm", "-rf", own), undo=True),
                token=f"{token}-folder",
                deadline=limit,
                touches={"host": machine.name, "folder": own},
            ),
        )

    @staticmethod
    def _own_folder(scenario: Scenario, token: str) -> str:
        return str(PurePosixPath(_dose(scenario).folder or "") / f"chaoslab-{token}")

    def argv(self, scenario: Scenario, seconds: float, token: str) -> tuple[str, ...]:
        dose = _dose(scenario)
        write = ("--hdd", str(dose.io_workers), "--hdd-bytes", str(dose.worker_size), "--hdd-opts", "fdatasync")
        place = ("--temp-path", self._own_folder(scenario, token))
        return ("stress-ng", *write, *place, "--timeout", f"{int(seconds + 1)}s", "--quiet")


class OwnWorkers(_Disk):
    """Worker processes of our own; their files have no name, so that nothing is left whoever kills them."""

    name = "python workers"

    def argv(self, scenario: Scenario, seconds: float, token: str) -> tuple[str, ...]:
        dose = _dose(scenario)
        workers = ("--workers", str(dose.io_workers), "--bytes", str(dose.worker_size))
        place = ("--folder", dose.folder or "", "--keep-free", str(_LEAST_LEFT), "--seconds", f"{seconds:g}")
        return (sys.executable, "-m", "chaoslab.agent.workers", "disk", *workers, *place)


FAULT: Final = FailureType(scenario=DiskStress, mechanisms=(StressNg(), OwnWorkers()))

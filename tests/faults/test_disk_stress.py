"""disk_stress: writes really reach the block layer, and no file or folder is left."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaoslab.agent.facts import collect
from chaoslab.agent.workers import DiskAlmostFull, write
from chaoslab.faults import Mechanism, failure_types
from chaoslab.faults.disk_stress import StressNg
from tests.conftest import missing
from tests.faults.kit import deliver, scenario, surroundings


@pytest.fixture(params=failure_types()["disk_stress"].mechanisms, ids=lambda mechanism: mechanism.name)
def mechanism(request: pytest.FixtureRequest, need: Callable[[str, str], None]) -> Mechanism:
    if isinstance(request.param, StressNg):
        need("stress-ng", "apt-get install stress-ng")
    assert isinstance(request.param, Mechanism)
    return request.param


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder on a disk: the usual temporary one may lie in memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        if (kind := collect(name).folder.filesystem) in ("tmpfs", "overlay"):
            missing(f"{name} lies on {kind}: a folder on a disk is needed")
        yield Path(name)


def test_every_worker_that_was_asked_writes_and_nothing_is_left_in_the_folder(
    mechanism: Mechanism, folder: Path
) -> None:
    asked = scenario("disk_stress", io_workers=2, folder=str(folder))
    (dose,) = deliver(mechanism, asked, surroundings(), seconds=1.0)
    assert (dose.asked, dose.delivered, dose.ok) == (2, 2, True)
    assert "MB/s" in dose.how
    assert list(folder.iterdir()) == []


def test_a_folder_in_memory_is_refused_because_nothing_there_reaches_a_disk(mechanism: Mechanism) -> None:
    asked = scenario("disk_stress", io_workers=1, folder="/dev/shm")
    assert "lies in memory" in str(mechanism.obstacle(asked, surroundings()))


def test_a_folder_that_does_not_exist_is_refused(mechanism: Mechanism) -> None:
    asked = scenario("disk_stress", io_workers=1, folder="/nonexistent")
    assert "there is no folder" in str(mechanism.obstacle(asked, surroundings()))


def test_a_disk_with_too_little_room_is_refused(mechanism: Mechanism, folder: Path) -> None:
    workers = shutil.disk_usage(folder).free // 2**30 + 1
    asked = scenario("disk_stress", io_workers=workers, worker_size="1G", folder=str(folder))
    assert f"{1024 * workers + 512} MB are needed" in str(mechanism.obstacle(asked, surroundings()))


def test_own_workers_give_the_room_back_and_stop_when_somebody_else_fills_the_disk(folder: Path) -> None:
    everything = shutil.disk_usage(folder).total
    with pytest.raises(DiskAlmostFull):
        write(2**20, str(folder), everything, time.monotonic() + 5)
    assert list(folder.iterdir()) == []

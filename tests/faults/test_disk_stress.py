"""disk_stress: writes really reach the block layer, and no file or folder is left."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaoslab.faults import Mechanism, disk_stress, failure_types
from chaoslab.faults.disk_stress import StressNg, _filesystem
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
        if _filesystem(Path(name)) in ("tmpfs", "overlay"):
            missing(f"{name} lies on {_filesystem(Path(name))}: a folder on a disk is needed")
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


def test_a_disk_with_too_little_room_is_refused(
    mechanism: Mechanism, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_stress, "WORKER_BYTES", 2**50)
    obstacle = mechanism.obstacle(scenario("disk_stress", io_workers=1, folder=str(folder)), surroundings())
    assert f"{2**30 + 512} MB are needed" in str(obstacle)

"""The recorder never makes the instrument wait: a disk that stalls costs waiting rows, then counted ones, no probe."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from chaoslab.instruments.probe import Prober, ProbeSpec
from chaoslab.instruments.recorder import Recorder
from chaoslab.looks import Look
from chaoslab.records import Outcome
from chaoslab.store import PartWriter, RunKey
from tests.conftest import missing
from tests.servers import running
from tests.test_processes import until

KEY = RunKey(campaign="c1", scenario="Light CPU Stress", repeat=1, index=0)
COLUMNS = ("seq", "probe", "scheduled_us", "sent_us", "latency_us", "status", "outcome", "error")


class Disk:
    """A file system of its own, which can be stalled: whoever writes to it then sleeps until it is let go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def stalled(self, *, limit: float = 10.0) -> Iterator[None]:
        # A writer cannot be killed while it sleeps there, so that this must come to an end whatever happens.
        timer = threading.Timer(limit, self._let_go)
        timer.start()
        subprocess.run(["fsfreeze", "--freeze", str(self.folder)], check=True)
        try:
            yield
        finally:
            timer.cancel()
            self._let_go()

    def _let_go(self) -> None:
        subprocess.run(["fsfreeze", "--unfreeze", str(self.folder)], capture_output=True)


@pytest.fixture
def disk(need: Callable[[str, str], None], tmp_path: Path) -> Iterator[Disk]:
    need("mkfs.ext4", "install the package e2fsprogs")
    need("fsfreeze", "install the package util-linux")
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        missing("a disk that stalls takes root and loop devices")
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(32 * 1024**2)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_probes_go_on_while_the_disk_stalls_and_their_rows_follow(disk: Disk) -> None:
    with running() as service:
        look = Look(address=service.url("/ok"), rate_hz=200.0)
        spec = ProbeSpec(folder=disk.folder, key=KEY, anchor_ns=time.monotonic_ns(), looks=(look,))
        with Prober.start(spec) as prober:
            prober.wait_ready()
            until(lambda: prober.live is not None and prober.live.scheduled >= 100)
            with disk.stalled():
                before = prober.live
                until(lambda: prober.live is not None and before is not None and prober.live.at_us - before.at_us > 2e6)
                after = prober.live
            summary = prober.stop()
    assert before is not None
    assert after is not None
    assert (after.scheduled - before.scheduled) / ((after.at_us - before.at_us) / 1e6) == pytest.approx(200, rel=0.1)
    assert summary.dropped == summary.failures == summary.unsent == 0
    assert summary.recorded == summary.scheduled


def test_rows_beyond_the_limit_are_dropped_and_counted(disk: Disk) -> None:
    recorder = Recorder(PartWriter(disk.folder, "probes", KEY), COLUMNS, complain=print, period=0.02, limit=100)
    with disk.stalled():
        for seq in range(1000):
            recorder.add((seq, "health", seq, 50, 200, 200, Outcome.SUCCESS, None))
            if seq < 50:
                time.sleep(0.005)  # the recorder has its hands full by then, and does not come back
        dropped = recorder.dropped
        assert 800 <= dropped <= 900
    assert recorder.close(patience=10.0, compact=True)
    assert recorder.dropped == dropped
    assert recorder.recorded == 1000 - dropped
    [file] = (disk.folder / "probes").glob("*.parquet")
    assert pq.read_metadata(file).num_rows == recorder.recorded


def test_a_steady_http_probe_takes_at_most_16_bytes_a_row(tmp_path: Path) -> None:
    with running() as service:
        look = Look(address=service.url("/ok"), rate_hz=500.0)
        with Prober.start(ProbeSpec(folder=tmp_path, key=KEY, anchor_ns=time.monotonic_ns(), looks=(look,))) as prober:
            prober.wait_ready()
            until(lambda: prober.live is not None and prober.live.scheduled >= 1000)
            summary = prober.stop()
    [file] = (tmp_path / "probes").glob("*.parquet")
    assert file.stat().st_size / summary.recorded <= 16

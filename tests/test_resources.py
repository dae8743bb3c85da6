"""The sampler records what the machine did, and ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from chaoslab.agent import processes
from chaoslab.errors import ChaoslabError, UsageError
from chaoslab.instruments.resources import COLUMNS, ResourceSampler, Sampler, SamplerSpec
from chaoslab.records import RESOURCES
from chaoslab.store import RunKey
from tests.test_processes import until

KEY = RunKey(campaign="c1", scenario="Control (no fault)", repeat=1, index=0)


def spec(folder: Path, **changes: Any) -> SamplerSpec:
    return SamplerSpec(folder=folder, key=KEY, anchor_ns=time.monotonic_ns(), **({"interval_s": 0.05} | changes))


def rows(folder: Path) -> pd.DataFrame:
    files = sorted((folder / "resources").rglob("*.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True) if files else pd.DataFrame()


def test_samples_come_at_their_interval_and_add_up(tmp_path: Path) -> None:
    with ResourceSampler.start(spec(tmp_path)) as sampler:
        sampler.wait_ready()
        until(lambda: len(rows(tmp_path)) > 0)
        summary = sampler.stop()
    table = rows(tmp_path)
    assert summary.recorded == len(table) >= 10
    assert summary.dropped == 0
    assert [file.name for file in (tmp_path / "resources").iterdir()] == [f"{KEY.slug}.parquet"]
    assert list(table.columns) == RESOURCES.names
    assert table["at_us"].is_monotonic_increasing
    assert table["at_us"].diff().median() == pytest.approx(50_000, rel=0.2)
    assert table["cpu_percent"].between(0, 100).all()
    share = table["cpu_cores"] * 100 / (psutil.cpu_count() or 1)
    assert share.to_numpy() == pytest.approx(table["cpu_percent"].to_numpy(), abs=0.01)
    total = psutil.virtual_memory().total
    assert table["memory_used_bytes"].between(1, total).all()
    assert table["memory_available_bytes"].between(1, total).all()
    assert table["network_received_bytes"].is_monotonic_increasing


def test_a_busy_core_shows(tmp_path: Path) -> None:
    with ResourceSampler.start(spec(tmp_path)) as sampler:
        sampler.wait_ready()
        begun = time.monotonic()
        while time.monotonic() - begun < 0.5:
            sum(range(1000))
        sampler.stop()
    assert rows(tmp_path)["cpu_cores"].quantile(0.7) > 0.7


def test_an_instrument_that_cannot_be_started_says_so_and_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = psutil.Process().num_fds()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ChaoslabError, match="the resource sampler cannot be started: No such file or directory"):
        ResourceSampler.start(spec(tmp_path))
    assert psutil.Process().num_fds() == before


def test_a_machine_without_disk_counters_is_sampled_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    sampler = Sampler(anchor_ns=0)
    row = dict(zip(COLUMNS, sampler.sample(), strict=True))
    assert (row["disk_read_bytes"], row["disk_written_bytes"]) == (0, 0)
    assert sampler.missing == {"disk"}


PARENT = """
import sys, time
from pathlib import Path
from chaoslab.instruments.resources import ResourceSampler, SamplerSpec
from chaoslab.store import RunKey
key = RunKey(campaign="c1", scenario="Control (no fault)", repeat=1, index=0)
sampler = ResourceSampler.start(SamplerSpec(folder=Path(sys.argv[1]), key=key, anchor_ns=0, interval_s=0.05))
sampler.wait_ready()
print(sampler.pid, flush=True)
time.sleep(60)
"""


def test_a_sampler_whose_parent_is_killed_ends_by_itself_and_leaves_its_rows(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = processes.identify(int(parent.stdout.readline()))
        assert child is not None
        time.sleep(0.3)
        parent.kill()
        killed_us = time.monotonic_ns() // 1000
        until(lambda: not child.alive, seconds=1.0)
    assert killed_us - rows(tmp_path)["at_us"].max() < 300_000


def test_a_sampler_that_is_killed_is_noticed(tmp_path: Path) -> None:
    with ResourceSampler.start(spec(tmp_path)) as sampler:
        sampler.wait_ready()
        sampler.check()
        os.kill(sampler.pid, signal.SIGKILL)
        until(lambda: not sampler.alive)
        with pytest.raises(ChaoslabError, match="the resource sampler ended before it was told to"):
            sampler.check()


def test_the_sampler_stops_at_its_own_limit(tmp_path: Path) -> None:
    with ResourceSampler.start(spec(tmp_path, max_duration_s=0.2)) as sampler:
        sampler.wait_ready()
        until(lambda: not sampler.alive)
        with pytest.raises(ChaoslabError, match=r"own limit of 0\.2 s"):
            sampler.check()
    assert len(rows(tmp_path)) >= 2


def test_an_interval_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="interval_s is 0; accepted: a number above 0"):
        spec(tmp_path, interval_s=0.0)

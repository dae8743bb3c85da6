"""The soak sees what an hour is to show: memory and descriptors that grow, and every kind of lost row."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chaoslab import store
from tests.soak import growth, rows

HOUR = np.arange(0.0, 3600.0, 5.0)
WARM_UP = 600.0
_LIMIT = 300.0


def samples(*, megabytes: Any = 100.0, descriptors: Any = 8, threads: Any = 4) -> pd.DataFrame:
    noise = np.random.default_rng(1).normal(0, 0.05, len(HOUR))
    memory = {"resident_mb": megabytes + noise, "unique_mb": megabytes + noise}
    return pd.DataFrame({"seconds": HOUR, **memory, "descriptors": descriptors, "threads": threads, "zombies": 0})


def judged(series: pd.DataFrame) -> growth.Grown:
    return growth.judge("tool", series, warm_up=WARM_UP)


def test_memory_that_is_flat_but_for_noise_and_one_step_passes() -> None:
    assert judged(samples()).verdict == "pass"
    assert judged(samples(megabytes=100 + 3.0 * (HOUR > 3300))).verdict == "pass"
    assert judged(samples(megabytes=100 - 90 * np.exp(-HOUR / 60))).verdict == "pass"


@pytest.mark.parametrize("each_hour", [2.0, 50.0])
def test_memory_that_grows_fails_by_its_slope(each_hour: float) -> None:
    found = judged(samples(megabytes=100 + each_hour * HOUR / 3600))
    assert found.verdict == "fail"
    assert found.resident is not None
    assert found.resident.low < each_hour < found.resident.high or found.resident.value == pytest.approx(
        each_hour, 0.02
    )
    assert found.resident.minutes == 50


def test_memory_that_swings_too_widely_is_inconclusive() -> None:
    swings = np.repeat(np.random.default_rng(3).normal(0, 20, 60), 12)
    assert judged(samples(megabytes=100 + swings)).verdict == "inconclusive"


def test_a_soak_that_is_too_short_has_no_slope() -> None:
    found = judged(samples().query("seconds < 1000"))
    assert (found.resident, found.verdict) == (None, "pass")


def test_descriptors_that_come_and_go_pass_and_one_leaked_each_run_fails() -> None:
    come_and_go = 8 + (HOUR % 20 > 10) * 5
    assert judged(samples(descriptors=come_and_go)).grown == ()
    (line,) = judged(samples(descriptors=come_and_go + (HOUR // 20).astype(int))).grown
    assert line.startswith("descriptors: at least 38, ")
    assert judged(samples(descriptors=come_and_go + (HOUR > 1800))).verdict == "fail"


def test_threads_that_become_more_fail() -> None:
    assert judged(samples(threads=4 + (HOUR // 1200).astype(int))).verdict == "fail"


@dataclass(frozen=True)
class Soaked:
    folder: Path
    ended: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Soaked:
    folder = tmp_path_factory.mktemp("soak") / "out"
    argv = [sys.executable, "-m", "tests.soak", "--minutes", "0.35", "--seed", "1", "--output", str(folder)]
    return Soaked(folder, subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT))


@pytest.mark.timeout(330)
def test_a_short_soak_loses_no_row_and_leaves_nothing(soaked: Soaked) -> None:
    assert soaked.ended.returncode == 0, soaked.ended.stdout + soaked.ended.stderr
    counts = {name: rows.count(store.Campaign.open(soaked.folder / name)) for name in ("faults", "watch")}
    assert {name: (found.runs, found.problems) for name, found in counts.items()} == {
        "faults": (2, ()),
        "watch": (1, ()),
    }
    assert counts["faults"].failures > 0


def test_a_short_soak_has_watched_every_process(soaked: Soaked) -> None:
    series = pd.read_parquet(soaked.folder / "series.parquet")
    tools = {f"{tool}: {role}" for tool in ("faults", "watch") for role in ("tool", "guardian", "prober", "sampler")}
    assert set(series["process"]) == tools | {"shop: tool", "shop: guardian", "shop: supervisor"}
    assert (series[["resident_mb", "unique_mb", "descriptors", "threads"]] > 0).all(axis=None)
    assert (soaked.folder / "soak.png").stat().st_size > 10_000


def change(path: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(edit(pq.read_table(path)), path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda table: pa.concat_tables([table.slice(0, 500), table.slice(501)]), "1 missing, 0 twice"),
        (lambda table: pa.concat_tables([table, table.slice(7, 1)]), "0 missing, 1 twice"),
        (lambda table: table.slice(0, len(table) - 1), "recorded: {fewer} by its rows, {whole} by its prober"),
        (lambda table: table.slice(0, len(table) - 300), "before the recovery's end"),
        (lambda table: table.slice(100), "after the baseline's start"),
        (lambda table: table.slice(0, 0), "it has no probes"),
    ],
)
def test_a_lost_row_is_found(soaked: Soaked, tmp_path: Path, edit: Callable[[pa.Table], pa.Table], words: str) -> None:
    folder = tmp_path / "watch"
    shutil.copytree(soaked.folder / "watch", folder)
    (file,) = (folder / "probes").iterdir()
    whole = len(pq.read_table(file))
    change(file, edit)
    problems = rows.count(store.Campaign.open(folder)).problems
    assert any(words.format(whole=whole, fewer=whole - 1) in problem for problem in problems)


def test_lost_events_a_lost_sample_and_parts_that_were_not_joined_are_found(soaked: Soaked, tmp_path: Path) -> None:
    folder = tmp_path / "faults"
    shutil.copytree(soaked.folder / "faults", folder)
    first, second = sorted((folder / "events").iterdir())
    second.unlink()
    change(folder / "resources" / first.name, lambda table: table.slice(1))
    (folder / "probes" / first.stem).mkdir()
    problems = "\n".join(rows.count(store.Campaign.open(folder)).problems)
    assert "Crash 1: its events are in no file" in problems
    assert "Crash 1: its instruments say nothing" in problems
    assert "rows of resources, but the sampler recorded" in problems
    assert "not in one file" in problems


def test_a_run_that_is_not_there_at_all_is_found(soaked: Soaked, tmp_path: Path) -> None:
    folder = tmp_path / "faults"
    shutil.copytree(soaked.folder / "faults", folder)
    for table in ("probes", "resources", "events"):
        sorted((folder / table).iterdir())[1].unlink()
    problems = rows.count(store.Campaign.open(folder)).problems
    assert problems == ("2 runs were planned, 1 are recorded, or in another order",)

"""How often the interval that is printed holds the truth."""

from __future__ import annotations

import math
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from chaoslab import store
from chaoslab.analysis import analyse, estimate
from chaoslab.metrics import RunMetrics
from chaoslab.records import SCHEMA_VERSION
from chaoslab.study.truths import RATE_HZ, Truth

REPEATS: Final = (3, 5, 10, 20)
GOAL: Final = (93.0, 97.0)
"""Percent of intervals that should hold the truth where 95 are asked for."""
COLUMNS: Final = (
    "family",
    "truth",
    "metric",
    "repeats",
    "trials",
    "with_interval",
    "trusted",
    "coverage",
    "too_low",
    "too_high",
    "width",
    "reading",
    "frontier",
)
_BATCH: Final = 100
_SCENARIO: Final = "Known truth"


def study(
    truths: Sequence[Truth],
    *,
    trials: int,
    runs: int,
    seed: int,
    repeats: Sequence[int] = REPEATS,
    workers: int | None = None,
) -> pd.DataFrame:
    """Return one row for each truth × metric × number of repeats; columns as in `COLUMNS`.

    Of each truth `runs` runs are drawn, recorded and measured; a trial takes some of them at random. Trials of one
    truth share runs, which leaves coverage unbiased and is far quicker than to draw new ones.

    Percentages: `with_interval` of the trials; of those, `trusted`; of the trusted (of all, where none is), `coverage`
    and how many lay wholly below (`too_low`) or above the truth. `width` is the median width as a multiple of the
    truth. `reading` is "covers", "wide", "short", or what is said of the interval where it is short.

    Args:
        trials: for each cell.
        runs: drawn of each truth; at least as many as the largest of `repeats`.
        workers: processes; one for each core by default.
    """
    jobs = [(truth, trials, runs, seed, tuple(repeats)) for truth in truths]
    with ProcessPoolExecutor(workers) as pool:
        rows = [row for found in pool.map(_examine, jobs) for row in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def record(truth: Truth, runs: int, generator: np.random.Generator, folder: Path) -> Iterator[store.Campaign]:
    """Write `runs` runs of `truth` as campaigns below `folder` and open them."""
    for first in range(0, runs, _BATCH):
        path = folder / f"{first:06d}"
        count = min(_BATCH, runs - first)
        store.create(path, _meta(count))
        start_us = 0
        for number in range(count):
            recording = truth.draw(generator)
            key = store.RunKey(campaign=path.name, scenario=_SCENARIO, repeat=number + 1, index=number)
            for table, columns in (("probes", recording.probes), ("events", recording.events)):
                instant = "scheduled_us" if table == "probes" else "at_us"
                shifted: dict[str, Any] = {**columns, instant: np.asarray(columns[instant]) + start_us}
                writer = store.PartWriter(path, table, key)
                writer.write(shifted)
                writer.compact()
            start_us += math.ceil(recording.seconds + 1) * 1_000_000
        yield store.Campaign.open(path)


def measured(truth: Truth, runs: int, generator: np.random.Generator) -> list[RunMetrics]:
    """Return `runs` runs of `truth`, written as Parquet, read back and measured as those of any campaign.

    Raises:
        RuntimeError: a run does not count, which is a mistake in the truth.
    """
    found: list[RunMetrics] = []
    with tempfile.TemporaryDirectory(prefix="chaoslab-study-") as folder:
        for campaign in record(truth, runs, generator, Path(folder)):
            (scenario,) = analyse(campaign, slos=()).scenarios
            if scenario.excluded:
                raise RuntimeError(f"{truth.name}: {scenario.excluded[0].reason}")
            found += scenario.runs
    return found


def _examine(job: tuple[Truth, int, int, int, tuple[int, ...]]) -> list[dict[str, Any]]:
    truth, trials, runs, seed, repeats = job
    generator = np.random.default_rng([seed, zlib.crc32(truth.name.encode())])
    pool = measured(truth, runs, generator)
    known = truth.values
    rows = []
    for n in repeats:
        found: dict[str, list[tuple[float, float, bool]]] = {metric: [] for metric in known}
        for _ in range(trials):
            chosen = [pool[index] for index in generator.choice(len(pool), n, replace=False)]
            for metric, one in estimate(chosen, tuple(known)).items():
                if one.low is not None or one.high is not None:
                    bounds = (-math.inf if one.low is None else one.low, math.inf if one.high is None else one.high)
                    found[metric].append((*bounds, one.trusted))
        rows += [_row(truth, metric, n, trials, found[metric]) for metric in known]
    return rows


def _row(
    truth: Truth, metric: str, repeats: int, trials: int, found: Sequence[tuple[float, float, bool]]
) -> dict[str, Any]:
    head = {"family": truth.family, "truth": truth.name, "metric": metric, "repeats": repeats, "trials": trials}
    frontier = truth.frontier
    if not found:
        nothing = dict.fromkeys(("trusted", "coverage", "too_low", "too_high", "width"))
        return head | {"with_interval": 0.0, **nothing, "reading": "no interval", "frontier": frontier}
    bounds, trusted = np.array([row[:2] for row in found]), np.array([row[2] for row in found])
    mostly = 2 * int(trusted.sum()) >= len(trusted)
    counted = bounds[trusted] if mostly else bounds
    value = truth.values[metric]
    too_low, too_high = (float(100 * np.mean(side)) for side in (counted[:, 1] < value, counted[:, 0] > value))
    coverage = 100 - too_low - too_high
    width = float(np.median(counted[:, 1] - counted[:, 0])) / value if value else None
    return head | {
        "with_interval": 100 * len(found) / trials,
        "trusted": float(100 * trusted.mean()),
        "coverage": coverage,
        "too_low": too_low,
        "too_high": too_high,
        "width": width,
        "reading": _reading(coverage, len(counted), trusted=mostly),
        "frontier": frontier,
    }


def _reading(coverage: float, trials: int, *, trusted: bool) -> str:
    """Say what a coverage means; two standard errors of the study itself are allowed for."""
    low, high = GOAL
    doubt = 2 * 100 * math.sqrt(0.05 * 0.95 / trials)
    if not trusted:
        return "said not to be trusted"
    if coverage < low - doubt:
        return "short"
    return "wide" if coverage > high + doubt else "covers"


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return coverage with one row a truth and metric and one column a number of repeats."""
    wide = table.pivot_table(
        index=["family", "truth", "metric"], columns="repeats", values="coverage", sort=False, observed=True
    )
    return wide.round(1)


def _meta(count: int) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "campaign": "study",
        "dry_run": False,
        "status": "finished",
        "reason": "",
        "probe": {"name": "health", "rate_hz": RATE_HZ},
        "scenarios": [{"name": _SCENARIO, "type": "process_crash", "intensity": ""}],
        "order": [[_SCENARIO, repeat + 1] for repeat in range(count)],
        "slos": [],
        "required_health_checks": 3,
    }

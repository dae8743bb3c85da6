"""Growth: the slope of a process's memory, and whether its descriptors, threads or zombies become more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pandas as pd
from scipy import stats

LIMIT_MB_PER_HOUR: Final = 1.0
COUNTS: Final = ("descriptors", "threads", "zombies")
_FEWEST_MINUTES: Final = 10


@dataclass(frozen=True, slots=True)
class Slope:
    """Megabytes (2**20 bytes) an hour, with the 95 % interval, over medians of so many minutes."""

    value: float
    low: float
    high: float
    minutes: int

    @property
    def verdict(self) -> str:
        """pass, fail or inconclusive against `LIMIT_MB_PER_HOUR`."""
        if self.high < LIMIT_MB_PER_HOUR:
            return "pass"
        return "fail" if self.low > LIMIT_MB_PER_HOUR else "inconclusive"


def slope(seconds: pd.Series[float], megabytes: pd.Series[float]) -> Slope | None:
    """Return the slope by Theil and Sen over the median of each minute; None for fewer than ten minutes.

    Source: Sen (1968), J. Amer. Stat. Assoc. 63, 1379. A single step weighs little, unlike in least squares.
    """
    medians = megabytes.groupby((seconds // 60).astype(int)).median()
    if len(medians) < _FEWEST_MINUTES:
        return None
    found = stats.theilslopes(medians.to_numpy(), medians.index.to_numpy() / 60, 0.95)
    return Slope(float(found.slope), float(found.low_slope), float(found.high_slope), len(medians))


@dataclass(frozen=True, slots=True)
class Grown:
    """One process from the beginning to the end; memory in megabytes, `counts` as (start, end, most) by name."""

    process: str
    started_mb: float
    warm_mb: float
    ended_mb: float
    most_mb: float
    resident: Slope | None
    unique: Slope | None
    counts: dict[str, tuple[int, int, int]]
    grown: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """pass, fail or inconclusive; without a slope the counts alone decide."""
        if self.grown:
            return "fail"
        return self.resident.verdict if self.resident else "pass"


def judge(process: str, series: pd.DataFrame, *, warm_up: float) -> Grown:
    """Judge the samples of one process: `seconds` from the soak's start, `resident_mb`, `unique_mb`, and `COUNTS`.

    Threads are judged where there is a slope only: libraries start theirs when they are first used.
    """
    warm = series[series["seconds"] >= min(warm_up, series["seconds"].median())]
    resident = slope(warm["seconds"], warm["resident_mb"])
    judged = COUNTS if resident else tuple(name for name in COUNTS if name != "threads")
    half = (warm["seconds"].iloc[0] + warm["seconds"].iloc[-1]) / 2
    before, after = warm[warm["seconds"] < half], warm[warm["seconds"] >= half]
    return Grown(
        process=process,
        started_mb=float(series["resident_mb"].iloc[0]),
        warm_mb=float(warm["resident_mb"].iloc[0]),
        ended_mb=float(warm["resident_mb"].iloc[-1]),
        most_mb=float(series["resident_mb"].max()),
        resident=resident,
        unique=slope(warm["seconds"], warm["unique_mb"]),
        counts={name: (int(warm[name].iloc[0]), int(warm[name].iloc[-1]), int(series[name].max())) for name in COUNTS},
        grown=tuple(line for name in judged for line in _grown(name, before[name], after[name])),
    )


def _grown(name: str, before: pd.Series[int], after: pd.Series[int]) -> Iterator[str]:
    """Say it where there are more than there were: a leak lifts the floor of what comes and goes, and its middle."""
    if after.min() > before.min() and after.median() > before.median():
        yield (
            f"{name}: at least {before.min()}, {before.median():g} in the middle, "
            f"then at least {after.min()}, {after.median():g} in the middle"
        )

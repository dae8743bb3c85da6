"""What changed between two sets of runs: effects with intervals, and tests that need no distribution.

Every function takes one value a run, of the baseline and of the candidate; an effect is candidate minus baseline, on
the scale of the values (of logarithms, it is the logarithm of a ratio). A measured value is only known to within the
`resolution` of the instrument: its quantisation variance, resolution² / 12, is part of every standard error, so that
runs which gave the same reading never count as infinitely precise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from chaoslab.intervals import FEWEST_RUNS, LEVEL, Estimate

Floats = NDArray[np.float64]

WELCH: Final = "Welch's t over runs"
RECOVERED_VARIANCE: Final = "difference of shares, variance recovered from their intervals"
MOST_REGROUPINGS: Final = 20_000
"""Regroupings of a scenario's runs that are enumerated; of more, `SAMPLED_REGROUPINGS` are drawn."""
SAMPLED_REGROUPINGS: Final = 20_000
_SEED: Final = 20_240_501


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """An effect with its interval; without an interval, both bounds are None."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Robust:
    """The distribution-free pair: the Hodges–Lehmann shift with its interval, and the exact Mann–Whitney p.

    `level` is what the interval attains, at least what was asked; it is None, like the bounds, where no interval
    attains that with so few runs. `least_p` is the smallest p that so many runs can give.
    """

    shift: float
    low: float | None
    high: float | None
    level: float | None
    p: float
    least_p: float


def welch(baseline: ArrayLike, candidate: ArrayLike, *, resolution: float = 0.0, level: float = LEVEL) -> Bounds:
    """Return the difference of means with Welch's interval (1947, *Biometrika* 34:28), degrees of freedom his too.

    There is no interval with fewer than three runs on a side, or where neither runs nor resolution have any spread.

    >>> found = welch([1.0, 2.0, 3.0], [4.0, 6.0, 8.0])
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (4.0, -0.155, 8.155)
    """
    sides = [np.asarray(side, dtype=float) for side in (baseline, candidate)]
    difference = float(sides[1].mean() - sides[0].mean())
    if min(map(len, sides)) < FEWEST_RUNS:
        return Bounds(value=difference)
    parts = [(float(side.var(ddof=1)) + resolution**2 / 12) / len(side) for side in sides]
    variance = sum(parts)
    if variance <= 1e-24 * max(1.0, difference**2):
        return Bounds(value=difference)
    freedom = variance**2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True))
    reach = float(special.stdtrit(freedom, (1 + level) / 2)) * math.sqrt(variance)
    return Bounds(value=difference, low=difference - reach, high=difference + reach)


def difference_of(baseline: Estimate, candidate: Estimate) -> Bounds:
    """Return the difference of two independent estimates; its interval comes from theirs.

    The variance of each side is recovered from its own interval, at the bound that faces the other side (Newcombe
    1998, *Statistics in Medicine* 17:873, method 10; in general Zou & Donner 2008, *Statistics in Medicine* 27:1693).
    So it keeps what they know: that a share has ends, that no failure at all is not the share 0 ± 0.
    """
    if baseline.value is None or candidate.value is None:
        raise ValueError("a difference needs a value on both sides")
    difference = candidate.value - baseline.value
    if baseline.low is None or baseline.high is None or candidate.low is None or candidate.high is None:
        return Bounds(value=difference)
    return Bounds(
        value=difference,
        low=difference - math.hypot(candidate.value - candidate.low, baseline.high - baseline.value),
        high=difference + math.hypot(candidate.high - candidate.value, baseline.value - baseline.low),
    )


def robust(baseline: ArrayLike, candidate: ArrayLike, *, level: float = LEVEL) -> Robust:
    """Return the Hodges–Lehmann shift, its distribution-free interval, and the two-sided Mann–Whitney p.

    The shift is the median of all differences between a run of the one and a run of the other side; the interval's
    bounds are two of these differences, counted in from the ends by the null distribution of Mann and Whitney's U
    (Hollander, Wolfe & Chicken 2014, *Nonparametric Statistical Methods*, §4.1 to 4.3). The p is exact, with ties
    too, as long as the runs have at most `MOST_REGROUPINGS`.
    """
    before, after = (np.sort(np.asarray(side, dtype=float)) for side in (baseline, candidate))
    m, n = len(before), len(after)
    if not (m and n):
        raise ValueError("a shift needs a run on both sides")
    differences = np.sort(np.subtract.outer(after, before).ravel())
    below = np.cumsum(rank_distribution(m, n))
    tail = int(np.searchsorted(below, (1 - level) / 2, side="right"))  # U < tail on one side: at most (1 − level) / 2
    inside = tail > 0
    return Robust(
        shift=float(np.median(differences)),
        low=float(differences[tail - 1]) if inside else None,
        high=float(differences[m * n - tail]) if inside else None,
        level=1 - 2 * float(below[tail - 1]) if inside else None,
        p=_mann_whitney(before, after),
        least_p=min(1.0, 2 / math.comb(m + n, n)),
    )


def _mann_whitney(before: Floats, after: Floats) -> float:
    from scipy import stats  # takes half a second

    pooled = np.concatenate([before, after])
    if len(np.unique(pooled)) == len(pooled):
        return float(stats.mannwhitneyu(after, before, method="exact").pvalue)
    sums = regroupings(len(before), len(after)) @ stats.rankdata(pooled)  # with ties, scipy's exact p is not
    off = np.abs(sums - len(before) * (len(pooled) + 1) / 2)
    return float((off >= off[0] - 1e-9).mean())


@lru_cache(maxsize=64)
def rank_distribution(m: int, n: int) -> Floats:
    """Return the null distribution of Mann and Whitney's U for m and n values without ties, U = 0 … m n.

    Its generating function is the Gaussian binomial coefficient (Mann & Whitney 1947, *Ann. Math. Stat.* 18:50).

    >>> rank_distribution(3, 3)[:3] * 20
    array([1., 1., 2.])
    """
    counts = np.zeros(m * n + 1)
    counts[0] = 1.0
    for k in range(1, n + 1):
        for place in range(m * n, m + k - 1, -1):  # times 1 − q^(m + k)
            counts[place] -= counts[place - m - k]
        for place in range(k, m * n + 1):  # over 1 − q^k
            counts[place] += counts[place - k]
    shares: Floats = counts / math.comb(m + n, n)
    return shares


# Tests by regrouping


@dataclass(frozen=True, slots=True, kw_only=True)
class Regrouped:
    """Welch's t of several metrics of one scenario, for every way to deal its runs to the two sides.

    `t` has a row for each regrouping, the observed one first, and a column for each metric.
    """

    t: Floats

    @property
    def observed(self) -> Floats:
        """The metrics' t as the runs were."""
        first: Floats = self.t[0]
        return first


def regroup(baseline: ArrayLike, candidate: ArrayLike, *, resolution: ArrayLike = 0.0) -> Regrouped:
    """Return the t of each metric under every regrouping of the runs.

    If the builds do not differ, each regrouping was as likely as the one that was observed; a run is dealt with all its
    metrics, whatever binds them together. That needs no distribution, and t makes it hold for unequal variances too as
    runs get many (Janssen 1997, *Statistics & Probability Letters* 36:9). A metric that fewer than two runs of a
    side have has t = 0 there.

    Args:
        baseline, candidate: a row for each run, a column for each metric; NaN where a run has no value.
        resolution: of each metric, above zero where values can repeat.
    """
    before, after = (np.atleast_2d(np.asarray(side, dtype=float)) for side in (baseline, candidate))
    pooled = np.concatenate([before, after])
    known = np.isfinite(pooled)
    centred = np.where(known, pooled - np.nanmean(np.where(known.any(axis=0), pooled, 0.0), axis=0), 0.0)
    left = regroupings(len(before), len(after))
    sides = []
    for chosen in (left, 1.0 - left):
        count, total, squares = (chosen @ part for part in (known.astype(float), centred, centred**2))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / count
            variance = np.maximum(squares - count * mean**2, 0.0) / (count - 1)
            sides.append((mean, (variance + np.asarray(resolution, dtype=float) ** 2 / 12) / count, count))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (sides[1][0] - sides[0][0]) / np.sqrt(sides[0][1] + sides[1][1])
    enough = np.minimum(sides[0][2], sides[1][2]) >= 2
    return Regrouped(t=np.where(enough, np.nan_to_num(t, nan=0.0, posinf=np.inf, neginf=-np.inf), 0.0))


@lru_cache(maxsize=8)
def regroupings(baseline: int, candidate: int) -> Floats:
    """Return which runs belong to the baseline in each regrouping: rows of ones and zeros, the observed one first.

    All of them up to `MOST_REGROUPINGS`; beyond, the observed one and a fixed draw, which keeps the test valid
    (Phipson & Smyth 2010, *Stat. Appl. Genet. Mol. Biol.* 9:39).
    """
    runs = baseline + candidate
    if math.comb(runs, baseline) <= MOST_REGROUPINGS:
        chosen = np.array(list(combinations(range(runs), baseline)))
    else:
        drawn = np.random.default_rng(_SEED).permuted(np.tile(np.arange(runs), (SAMPLED_REGROUPINGS, 1)), axis=1)
        chosen = np.concatenate([[np.arange(baseline)], drawn[:, :baseline]])
    rows = np.zeros((len(chosen), runs))
    np.put_along_axis(rows, chosen, 1.0, axis=1)
    return rows


def alone(scenario: Regrouped) -> Floats:
    """Return the two-sided p of each metric on its own."""
    sizes = np.abs(scenario.t)
    shares: Floats = (sizes >= _reached(sizes[0])).mean(axis=0)
    return shares


def step_down(scenarios: Sequence[Regrouped]) -> list[Floats]:
    """Return the p of every metric of every scenario, adjusted for all that were looked at together.

    The largest |t| is held against the largest |t| that each regrouping gives anywhere in the family, the next against
    the largest among those that are left, and so on: Westfall and Young's step-down maxT (1993, *Resampling-Based
    Multiple Testing*, §4.1; Ge, Dudoit & Speed 2003, *Test* 12:1, box 2). Scenarios have runs of their own, so they are
    regrouped independently, and the chance that none of them reaches a size is the product of each one's.
    It keeps the chance of any false alarm at or below the level, and metrics that move together cost nothing extra.
    """
    sizes = [np.abs(scenario.t) for scenario in scenarios]
    cells = [(size[0, column], place, column) for place, size in enumerate(sizes) for column in range(size.shape[1])]
    largest = [np.zeros(len(size)) for size in sizes]
    adjusted = [np.ones(size.shape[1]) for size in sizes]
    order = sorted(cells)
    for observed, place, column in order:  # from the smallest: what is left grows
        largest[place] = np.maximum(largest[place], sizes[place][:, column])
        quiet = math.prod(1 - float((most >= _reached(observed)).mean()) for most in largest)
        adjusted[place][column] = 1 - quiet
    highest = 0.0
    for _, place, column in reversed(order):  # no hypothesis goes before one with a larger |t|
        highest = max(highest, float(adjusted[place][column]))
        adjusted[place][column] = highest
    return adjusted


def least_adjusted_p(groups: Sequence[tuple[int, int]]) -> float:
    """Return the adjusted p that stands when every scenario's runs are told apart completely.

    `groups` are the runs of baseline and candidate of each scenario: the regrouping that was observed and its mirror
    image are then the only ones that reach it.

    >>> round(least_adjusted_p([(5, 5)] * 3), 4), round(least_adjusted_p([(3, 3)]), 4)
    (0.0236, 0.1)
    """
    return 1 - math.prod(1 - min(1.0, 2 / math.comb(before + after, after)) for before, after in groups)


def _reached(sizes: ArrayLike) -> Floats:
    """Return `sizes` less rounding, so that a mirror image counts as reaching what it equals."""
    return np.asarray(sizes, dtype=float) * (1 - 1e-9)

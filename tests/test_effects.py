"""Effects and tests are those of the books: published examples, scipy, statsmodels."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from chaoslab.comparison import effects
from chaoslab.intervals import Estimate

BEFORE, AFTER = [4.1, 5.0, 4.6, 5.3, 4.4], [4.9, 4.7, 5.6, 5.1, 4.8, 5.2]
AT_TERM = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
EARLY = [1.15, 0.88, 0.90, 0.74, 1.21]
"""Permeability of the human chorioamnion: Hollander & Wolfe 1999, Nonparametric Statistical Methods, table 4.1."""


# Intervals


def test_welchs_interval_is_scipys() -> None:
    found = effects.welch(BEFORE, AFTER)
    reference = stats.ttest_ind(AFTER, BEFORE, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))


def test_the_narrower_interval_touches_the_margin_where_two_one_sided_tests_reach_five_percent() -> None:
    # statsmodels 0.15, CompareMeans.tconfint_diff(alpha=0.1, usevar="unequal") and ttost_ind(…, usevar="unequal")
    found = effects.welch(BEFORE, AFTER, level=0.90)
    assert (found.low, found.high) == pytest.approx((-0.10738170939824332, 0.8473817093982435))
    for margin, p in ((0.95, 0.027477444735330127), (1.0, 0.02055659214079551)):
        assert (found.high <= margin) == (p <= 0.05)


def test_the_difference_of_shares_is_newcombes_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II (a): 56/70 − 48/80, method 10
    wilson = {(48, 80): (0.4904546500516038, 0.7003817240412906), (56, 70): (0.6918335550374695, 0.8769526075163705)}
    sides = [
        Estimate(value=part / whole, low=low, high=high, method="Wilson", n=whole, unit="")
        for (part, whole), (low, high) in wilson.items()
    ]
    found = effects.difference_of(*sides)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_runs_that_gave_one_reading_are_known_to_the_resolution_only() -> None:
    assert effects.welch([2.0] * 3, [2.0] * 3).low is None
    found = effects.welch([2.0] * 3, [2.0] * 3, resolution=0.1)
    assert found.high == pytest.approx(stats.t.ppf(0.975, 4) * 0.1 / math.sqrt(12) * math.sqrt(2 / 3))


def test_two_runs_have_a_difference_but_no_interval() -> None:
    assert effects.welch([1.0, 2.0], [3.0, 4.0]) == effects.Bounds(value=2.0)


# The distribution-free pair


def test_the_shift_and_its_interval_are_hollander_and_wolfes() -> None:
    # example 4.1 ff., and R's coin: p = 0.2544, shift −0.305, 95 % interval (−0.76, 0.15)
    found = effects.robust(AT_TERM, EARLY)
    assert found.p == pytest.approx(0.2544, abs=5e-5)
    assert (found.shift, found.low, found.high) == pytest.approx((-0.305, -0.76, 0.15))
    assert found.level == pytest.approx(0.96, abs=5e-4)


def test_three_against_three_runs_cannot_go_below_a_tenth_and_have_no_interval() -> None:
    found = effects.robust([1.0, 2.0, 3.0], [14.0, 15.0, 16.0])
    assert (found.p, found.least_p) == pytest.approx((0.1, 0.1))
    assert (found.low, found.high, found.level) == (None, None, None)


@pytest.mark.parametrize(("m", "n"), [(3, 4), (5, 5), (2, 6)])
def test_the_rank_distribution_is_that_of_every_regrouping(m: int, n: int) -> None:
    counts = np.zeros(m * n + 1)
    for chosen in combinations(range(m + n), n):
        counts[sum(chosen) - n * (n - 1) // 2] += 1
    assert effects.rank_distribution(m, n) == pytest.approx(counts / counts.sum())


def test_with_ties_the_rank_p_is_exact() -> None:
    before, after = [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 2.0, 2.0]
    reference = stats.mannwhitneyu(
        after, before, use_continuity=False, method=stats.PermutationMethod(n_resamples=1000)
    )
    assert effects.robust(before, after).p == pytest.approx(reference.pvalue)


# Regrouping


def test_the_own_p_is_scipys_permutation_of_the_studentised_difference() -> None:
    def t(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return stats.ttest_ind(x, y, axis=axis, equal_var=False).statistic

    reference = stats.permutation_test((AFTER, BEFORE), t, vectorized=True, n_resamples=1000)
    null = np.abs(reference.null_distribution)
    found = effects.regroup(np.array(BEFORE)[:, None], np.array(AFTER)[:, None])
    assert found.observed[0] == pytest.approx(reference.statistic)
    assert effects.alone(found)[0] == pytest.approx((null >= abs(reference.statistic) * (1 - 1e-9)).mean())


def test_metrics_that_move_together_cost_nothing_and_others_do() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.normal(0, 1, (5, 1)), rng.normal(40, 1, (5, 1))
    alone = effects.step_down([effects.regroup(before, after)])[0][0]
    twins = effects.step_down([effects.regroup(np.repeat(before, 4, axis=1), np.repeat(after, 4, axis=1))])[0]
    scenario = effects.regroup(before, after)
    three = np.concatenate(effects.step_down([scenario] * 3))
    assert alone == pytest.approx(2 / 252)
    assert twins == pytest.approx([2 / 252] * 4)
    assert three == pytest.approx([effects.least_adjusted_p([(5, 5)] * 3)] * 3)
    assert three[0] > alone


def test_the_adjusted_p_is_that_of_all_regroupings_of_all_scenarios_taken_together() -> None:
    rng = np.random.default_rng(5)
    first, second = (effects.regroup(rng.normal(size=(3, 2)), rng.normal(1, 1, size=(3, 2))) for _ in range(2))
    sizes = np.concatenate(
        [np.repeat(np.abs(first.t), len(second.t), axis=0), np.tile(np.abs(second.t), (len(first.t), 1))], axis=1
    )
    order = np.argsort(-sizes[0])
    expected, highest = np.zeros(4), 0.0
    for place, column in enumerate(order):
        most = sizes[:, order[place:]].max(axis=1)
        highest = max(highest, float((most >= sizes[0, column] * (1 - 1e-9)).mean()))
        expected[column] = highest
    assert np.concatenate(effects.step_down([first, second])) == pytest.approx(expected)


@pytest.mark.parametrize("shape", ["bimodal", "rare", "skewed"])
def test_of_all_ways_to_deal_one_set_of_runs_at_most_one_in_twenty_is_an_alarm(shape: str) -> None:
    """Exact, not by simulation: whatever the runs were, this is the false-alarm rate given them."""
    rng = np.random.default_rng(11)
    latent = {
        "bimodal": np.where(rng.random(10) < 0.5, 3.0, 8.0),
        "rare": np.where(rng.random(10) < 0.3, 1.0, 0.0),
        "skewed": rng.lognormal(0, 1.5, 10),
    }[shape]
    runs = latent[:, None] * rng.lognormal(0, 0.02, (10, 3))
    alarms = []
    for left in combinations(range(10), 5):
        chosen = np.isin(np.arange(10), left)
        found = effects.step_down([effects.regroup(runs[chosen], runs[~chosen], resolution=0.01)])[0]
        alarms.append(found.min() <= 0.05)
    assert np.mean(alarms) <= 0.05
    assert shape == "rare" or any(alarms)  # not by never saying anything


def test_a_run_without_a_value_is_dealt_like_any_other() -> None:
    before, after = np.array([[1.0], [2.0], [np.nan], [3.0]]), np.array([[5.0], [6.0], [7.0], [np.nan]])
    found = effects.regroup(before, after)
    assert found.observed[0] == pytest.approx(stats.ttest_ind([5, 6, 7], [1, 2, 3], equal_var=False).statistic)
    assert np.isfinite(found.t).all()


def test_many_runs_are_sampled_and_the_observed_grouping_counts() -> None:
    rng = np.random.default_rng(1)
    found = effects.regroup(rng.normal(0, 1, (12, 1)), rng.normal(9, 1, (12, 1)))
    assert len(found.t) == effects.SAMPLED_REGROUPINGS + 1
    assert effects.alone(found)[0] == pytest.approx(1 / len(found.t))

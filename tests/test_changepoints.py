"""A change is claimed where there is one, and hardly ever where there is none."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from chaoslab import changepoints
from chaoslab.changepoints import best_split, fewest_values, find_changes, find_in_family

QUICK = 499
SERIES = 600
NOISE = 0.02
"""Twice the standard error of a share of 5 % in 600 series, and a little."""


def unchanged(length: int, *, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(SERIES, length))


def claimed(series: np.ndarray) -> float:
    return float(np.mean([len(find_changes(values, resamples=QUICK)) > 0 for values in series]))


@pytest.mark.parametrize("length", [8, 12, 20])
def test_false_alarms_are_at_most_one_history_in_twenty(length: int) -> None:
    assert claimed(unchanged(length)) <= 0.05 + NOISE


def test_neither_skewed_nor_tied_values_give_more_false_alarms() -> None:
    skewed = np.exp(1.5 * unchanged(12, seed=2))
    tied = np.round(unchanged(12, seed=3))
    assert claimed(skewed) <= 0.05 + NOISE
    assert claimed(tied) <= 0.05 + NOISE


def test_a_family_of_histories_gives_as_few_false_alarms_as_one() -> None:
    families = unchanged(12, seed=4).reshape(-1, 5, 12)
    alarms = [any(find_in_family(list(family), resamples=QUICK)) for family in families]
    assert np.mean(alarms) <= 0.05 + 2 * NOISE


@pytest.mark.parametrize(("length", "shift", "power"), [(12, 3.0, 0.85), (20, 2.0, 0.85), (30, 1.5, 0.8)])
def test_a_change_in_the_middle_is_found_where_it_is(length: int, shift: float, power: float) -> None:
    series = unchanged(length, seed=5)[:200]
    series[:, length // 2 :] += shift
    found = [find_changes(values, resamples=QUICK) for values in series]
    assert np.mean([len(splits) > 0 for splits in found]) >= power
    near = [abs(splits[0].at - length // 2) <= 2 for splits in found if splits]
    assert np.mean(near) >= 0.8  # least squares on the normal values themselves does no better


def test_one_change_is_rarely_taken_for_several() -> None:
    series = unchanged(20, seed=6)[:300]
    series[:, 10:] += 5.0
    assert np.mean([len(find_changes(values, resamples=QUICK)) > 1 for values in series]) <= 0.05 + NOISE


def test_several_changes_are_found_in_order() -> None:
    series = np.random.default_rng(7).normal(size=36)
    series[12:24] += 8.0
    splits = find_changes(series)
    assert [split.at for split in splits] == [12, 24]
    assert all(split.p <= 0.05 for split in splits)


def test_the_p_value_is_that_of_all_orders() -> None:
    """All orders of 8 values that split 4 | 4 are equally rare: 2 of 70 choices put the smallest four at one end."""
    assert len(list(combinations(range(8), 4))) == 70
    found = best_split([1, 2, 3, 4, 11, 12, 13, 14], resamples=99_999)
    assert found is not None
    assert (found.at, found.p) == (4, pytest.approx(2 / 70, rel=0.1))


@pytest.mark.parametrize(("family", "fewest"), [(1, 8), (5, 10)])
def test_a_series_just_long_enough_can_show_a_change_and_a_shorter_one_cannot(family: int, fewest: int) -> None:
    assert fewest_values(family) == fewest
    for length, shows in ((fewest, True), (fewest - 1, False)):
        clearest = [float(value > length // 2 - 1) * 100 + value for value in range(length)]
        assert bool(find_changes(clearest, family=family)) is shows


@pytest.mark.parametrize("at", [4, 9, 13])
def test_the_scale_does_not_matter_and_neither_does_an_outlier(at: int) -> None:
    values = np.random.default_rng(2).normal(5.0, 0.3, size=16)
    values[at:] += 3.0
    splits = find_changes(values)
    assert [split.at for split in splits] == [at]
    assert [split.p for split in find_changes(np.exp(values))] == [split.p for split in splits]
    values[1] = -1e9
    assert [found.at for found in find_changes(values)] == [at]


def test_what_is_always_the_same_has_not_changed() -> None:
    assert find_changes([100.0] * 20) == ()


def test_the_surest_series_is_held_against_all_and_the_next_against_the_rest() -> None:
    """Eight values can show a change only where they are alone, so it takes the surer one to be done with."""
    sure, clear = np.arange(20.0), np.arange(8.0)
    assert [bool(splits) for splits in find_in_family([clear, sure])] == [True, True]
    assert not find_changes(clear, family=2)


def test_the_same_history_gives_the_same_answer() -> None:
    values = np.random.default_rng(10).normal(size=15)
    assert best_split(values) == best_split(values)


def test_too_few_values_have_no_split() -> None:
    assert best_split([1.0] * (2 * changepoints.LEAST_SEGMENT - 1)) is None

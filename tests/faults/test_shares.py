"""What chance allows, held against the kernel's own rules played through: shares, and how much counts of them vary."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

from chaoslab.faults.impairment import FourStates, GilbertElliott
from chaoslab.faults.shares import Share, chance, correlated, four_states, gilbert_elliott

ELLIOTT = GilbertElliott(p_percent=4, r_percent=20, bad_loss_percent=80, good_loss_percent=2)
STATES = FourStates(p13_percent=4, p31_percent=30, p32_percent=20, p23_percent=60, p14_percent=3)


def mixed_draws(dice: random.Random) -> Iterator[bool]:
    """get_crandom of sch_netem.c, with a correlation of 40 % and a share of 30 %."""
    last = dice.random()
    while True:
        last = 0.6 * dice.random() + 0.4 * last
        yield last <= 0.3


def two_states(dice: random.Random) -> Iterator[bool]:
    """loss_gilb_ell of sch_netem.c."""
    bad = False
    while True:
        lost = dice.random() < (0.8 if bad else 0.02)
        bad = dice.random() >= 0.2 if bad else dice.random() < 0.04
        yield lost


def all_four_states(dice: random.Random) -> Iterator[bool]:
    """loss_4state of sch_netem.c."""
    state = 1
    while True:
        draw = dice.random()
        match state:
            case 1:
                state = 4 if draw < 0.03 else 3 if draw < 0.07 else 1
            case 2:
                state = 3 if draw < 0.6 else 2
            case 3:
                state = 2 if draw < 0.2 else 1 if draw < 0.5 else 3
            case 4:
                state = 1
        yield state in (3, 4)


@pytest.mark.parametrize(
    ("share", "play"),
    [
        (correlated(30, 40), mixed_draws),
        (gilbert_elliott(ELLIOTT), two_states),
        (four_states(STATES), all_four_states),
    ],
    ids=["correlated", "gemodel", "state"],
)
def test_the_chain_says_what_the_kernels_rules_do(
    share: Share, play: Callable[[random.Random], Iterator[bool]]
) -> None:
    hits, packets = play(random.Random(1)), 500
    rounds = [statistics.fmean(islice(hits, packets)) for _ in range(600)]
    independent = share.value * (1 - share.value) / packets
    assert statistics.fmean(rounds) == pytest.approx(share.value, rel=0.04)
    assert statistics.variance(rounds) / independent == pytest.approx(share.effect, rel=0.2)
    covered = sum(share.interval(packets)[0] <= found <= share.interval(packets)[1] for found in rounds)
    assert 0.97 <= covered / len(rounds) <= 1


def test_losses_that_follow_each_other_are_worth_fewer_trials() -> None:
    share = gilbert_elliott(ELLIOTT)
    assert share.trials(2000) < 500
    low, high = share.interval(2000)
    narrow_low, narrow_high = chance(share.value, 2000)
    assert low < narrow_low < share.value < narrow_high < high


def test_independent_draws_are_worth_all_of_them() -> None:
    assert correlated(5, 0).trials(2000) == 2000
    assert correlated(5, 0).trials(0) == 0


def test_correlation_makes_small_shares_smaller_still() -> None:
    assert correlated(5, 50).value < 0.01
    assert correlated(50, 50).value == pytest.approx(0.5)

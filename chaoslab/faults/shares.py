"""How many packets of a number are hit when chance decides, as the kernel lets it decide, packet after packet.

Each of netem's generators is a Markov chain: of the states of its loss models, or of its last draw where draws are
correlated. From the chain follow the share of packets that is hit in the long run, and by how much a count of them
varies more than one of independent draws: the *design effect* (Kish, Survey Sampling, 1965, 8.2). The binomial interval
is then that of n / effect independent trials, the effective number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from chaoslab.faults.impairment import FourStates, GilbertElliott, Impairment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LEVEL: Final = 0.99
_CELLS: Final = 400


@dataclass(frozen=True, slots=True)
class Share:
    """A share of packets, 0 to 1, that is hit in the long run, and the design effect of counting them."""

    value: float
    effect: float = 1.0

    def trials(self, count: int) -> int:
        """Return how many independent trials `count` packets are worth; never more than they are."""
        return min(count, max(1, round(count / self.effect))) if count else 0

    def interval(self, count: int) -> tuple[float, float]:
        """Return what chance allows of the share that `count` packets show, 99 % of the time."""
        return chance(self.value, self.trials(count))


def chance(share: float, count: int, level: float = _LEVEL) -> tuple[float, float]:
    """Return the central interval of a binomial share: `count` trials, each a success with probability `share`.

    >>> chance(0.5, 100)
    (0.37, 0.63)
    >>> chance(1.0, 7), chance(0.3, 0)
    ((1.0, 1.0), (0.0, 1.0))
    """
    if not count:
        return 0.0, 1.0
    from scipy.stats import binom  # takes half a second, and only a dose needs it

    tail = (1 - level) / 2
    return float(binom.ppf(tail, count, share)) / count, float(binom.ppf(1 - tail, count, share)) / count


def loss(asked: Impairment) -> Share:
    """Return the share of packets that netem's loss drops of those that it looks at."""
    if asked.loss_gemodel is not None:
        return gilbert_elliott(asked.loss_gemodel)
    if asked.loss_state is not None:
        return four_states(asked.loss_state)
    return correlated(asked.loss_percent, asked.loss_correlation_percent)


def dropped(asked: Impairment) -> Share:
    """Return the share of all packets at the emulator that is dropped: with duplication, of the copies too.

    A packet that is to be both lost and duplicated is neither (netem_enqueue); a copy may be lost, not duplicated.

    >>> dropped(Impairment(loss_percent=100, duplicate_percent=50)).value
    0.5
    """
    lost = loss(asked)
    twice = correlated(asked.duplicate_percent, asked.duplicate_correlation_percent).value
    copies = twice * (1 - lost.value)
    return replace(lost, value=(lost.value * (1 - twice) + copies * lost.value) / (1 + copies))


def doubled(asked: Impairment) -> Share:
    """Return the share of packets that arrive twice: the copy must not be lost either.

    Both draws count as independent, also where losses come in bursts: those make it up to a tenth more.

    >>> doubled(Impairment(duplicate_percent=10)).value
    0.1
    """
    twice = correlated(asked.duplicate_percent, asked.duplicate_correlation_percent)
    return replace(twice, value=twice.value * (1 - loss(asked).value) ** 2)


def corrupted(asked: Impairment) -> Share:
    """Return the share of the packets that arrive which has a bit changed."""
    return correlated(asked.corrupt_percent, asked.corrupt_correlation_percent)


def reordered(asked: Impairment) -> Share:
    """Return the share of packets that skips the delay: of each round gap - 1 never do, then each may.

    >>> reordered(Impairment(delay_ms=10, reorder_percent=100, reorder_gap=5)).value
    0.2
    """
    each = correlated(asked.reorder_percent, asked.reorder_correlation_percent)
    return replace(each, value=each.value / (1 + each.value * (asked.reorder_gap - 1)))


def correlated(percent: float, correlation: float) -> Share:
    """Return the share of draws below `percent` where each draw is mixed with the last one, as netem's are.

    A mixed draw is not uniform any more: it keeps to the middle, so that small shares become smaller still, which
    tc-netem(8) calls "noticed bad behaviour".

    >>> correlated(15, 0)
    Share(value=0.15, effect=1.0)
    >>> round(correlated(15, 25).value, 3)
    0.051
    """
    if not correlation or percent in (0, 100):
        return Share(percent / 100)
    import numpy as np

    memory = correlation / 100
    edges = np.linspace(0, 1, _CELLS + 1)
    lowest = memory * (edges[:-1] + edges[1:]) / 2
    reached = np.clip(edges[None, :] - lowest[:, None], 0, 1 - memory)
    return _long_run(np.diff(reached, axis=1) / (1 - memory), np.clip((percent / 100 - edges[:-1]) * _CELLS, 0, 1))


def gilbert_elliott(model: GilbertElliott) -> Share:
    """Return the share that the Gilbert-Elliott model drops.

    >>> round(gilbert_elliott(GilbertElliott(p_percent=1, r_percent=9)).value, 9)
    0.1
    """
    p, r = model.p_percent / 100, model.r_percent / 100
    return _long_run([[1 - p, p], [r, 1 - r]], [model.good_loss_percent / 100, model.bad_loss_percent / 100])


def four_states(model: FourStates) -> Share:
    """Return the share that the model of four states drops.

    >>> round(four_states(FourStates(p13_percent=1, p31_percent=9)).value, 9)
    0.1
    """
    p13, p31, p32, p23, p14 = (value / 100 for value in model.model_dump().values())
    states = [[1 - p13 - p14, 0, p13, p14], [0, 1 - p23, p23, 0], [p31, p32, 1 - p31 - p32, 0], [1, 0, 0, 0]]
    return _long_run(states, [0, 0, 1, 1])


def _long_run(
    transitions: NDArray[np.float64] | Sequence[Sequence[float]], hits: NDArray[np.float64] | Sequence[float]
) -> Share:
    """Return the share of a chain whose state i hits a packet with probability hits[i].

    Covariances at all lags are summed by the chain's fundamental matrix (Kemeny and Snell, Finite Markov Chains, 4.3).
    """
    import numpy as np

    matrix, hit = np.asarray(transitions, dtype=float), np.asarray(hits, dtype=float)
    here = np.eye(len(hit)) - matrix
    stationary = np.linalg.solve((here + 1).T, np.ones(len(hit)))
    share = float(stationary @ hit)
    if not 0 < share < 1:
        return Share(min(1.0, max(0.0, share)))
    later = np.linalg.solve(here + stationary, matrix @ (hit - share))
    return Share(share, max(1.0, 1 + 2 * float((stationary * hit) @ later) / (share * (1 - share))))

"""Better, same, worse or inconclusive: a change held against its margin, and against chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import special

from chaoslab.comparison.changes import Change, Pair, too_few
from chaoslab.intervals import FEWEST_RUNS
from chaoslab.wording import plural

Answer = Literal["better", "same", "worse", "inconclusive"]

MOST_REPEATS: Final = 1000
"""Repeats beyond which nobody would wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The answer with its reason, and how many repeats on each side would settle what is open."""

    answer: Answer
    reason: str
    repeats_needed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What chance could do.

    Attributes:
        t: the statistic; its sign is the direction of the change.
        p: adjusted for all that is judged together; `least_p` is the smallest that so many runs allow.
        alpha: what p is held against.
        least_p_with: the smallest p with so many runs on each side.
    """

    t: float
    p: float
    least_p: float
    alpha: float
    least_p_with: Callable[[int], float]


def judge(found: Pair, change: Change, chance: Chance, *, margin: float) -> Judgement:
    """Return whether the candidate is better, the same or worse.

    - same: the narrower interval lies within the margin, whether or not there is a change;
    - worse, better: the change is told from chance (adjusted p and interval agree), and is estimated beyond the margin;
    - inconclusive: anything else, with what would settle it.

    A time that was not seen to end is a lower bound: it can show a change, but never that there is none.
    """
    for side, name in ((found.baseline, "baseline"), (found.candidate, "candidate")):
        if not side.runs:
            return Judgement(answer="inconclusive", reason=f"the {name} has no usable run")
    if found.baseline.quiet or found.candidate.quiet:
        return _one_is_quiet(found, chance)
    if change.difference is None or change.wide is None or change.narrow is None:
        return Judgement(answer="inconclusive", reason=change.effect.reason)
    told = chance.p <= chance.alpha and not change.wide[0] <= 0 <= change.wide[1] and chance.t * change.difference > 0
    open_ended = found.baseline.censored + found.candidate.censored
    if not open_ended and max(map(abs, change.narrow)) <= margin:
        also = f"changed (p = {_p(chance.p)}), but" if told else "any change is"
        return Judgement(answer="same", reason=f"{also} within the margin")
    if told and abs(change.difference) > margin:
        return Judgement(
            answer=_direction(found, change.difference),
            reason=f"p = {_p(chance.p)}, and beyond the margin{_open_words(found)}",
        )
    return _open(found, change, chance, margin, told=told)


def _one_is_quiet(found: Pair, chance: Chance) -> Judgement:
    """Without an outage there is nothing to time: that needs no margin, but it must not be chance."""
    if not found.compared.quiet_is_best:
        side = "baseline" if found.baseline.quiet else "candidate"
        return Judgement(answer="inconclusive", reason=f"no run of the {side} has a value")
    counts = [len(side.runs) for side in (found.baseline, found.candidate)]
    if min(counts) < FEWEST_RUNS:
        return Judgement(answer="inconclusive", reason=too_few((counts[0], counts[1])))
    if found.baseline.quiet and found.candidate.quiet:
        return Judgement(answer="same", reason="no outage on either side: there was nothing to repair")
    hit, name = (found.baseline, "baseline") if found.candidate.quiet else (found.candidate, "candidate")
    words = f"an outage in {len(hit.known)} of {plural(len(hit.runs), 'run')} of the {name}, none on the other side"
    if chance.p <= chance.alpha:
        answer: Answer = "better" if found.candidate.quiet else "worse"
        return Judgement(answer=answer, reason=f"{words} (p = {_p(chance.p)})")
    return Judgement(answer="inconclusive", reason=f"{words}: it may be chance (p = {_p(chance.p)})")


def _open(found: Pair, change: Change, chance: Chance, margin: float, *, told: bool) -> Judgement:
    """Say why there is no answer yet."""
    beyond = abs(change.difference or 0.0) > margin
    repeats = _repeats(found, change, chance, margin)
    if beyond and chance.least_p > chance.alpha:
        before, after = found.runs
        why = (
            f"{before} against {plural(after, 'run')} cannot tell a change from chance "
            f"(smallest p {_p(chance.least_p)})"
        )
    elif beyond and chance.p <= chance.alpha:
        why = f"p = {_p(chance.p)}, but the interval holds no change"
    elif beyond:
        why = "beyond the margin, but it may be chance"
    elif told:
        why = f"changed (p = {_p(chance.p)}), perhaps by more than the margin"
    else:
        why = "neither a change is shown, nor that there is none"
    outlook = f"; about {plural(repeats, 'run')} on each side would settle it" if repeats else ""
    return Judgement(answer="inconclusive", reason=f"{why}{_open_words(found)}{outlook}", repeats_needed=repeats)


def _repeats(found: Pair, change: Change, chance: Chance, margin: float) -> int | None:
    """Return how many runs on each side would settle it if centres and spreads stay as they are; None if too many."""
    if change.difference is None or change.wide is None or change.narrow is None:
        return None
    size, now = abs(change.difference), min(found.runs)
    beyond = size > margin
    if not beyond and found.baseline.censored + found.candidate.censored:
        return None
    bounds, room = (change.wide, size) if beyond else (change.narrow, margin - size)
    half = max(bounds[1] - change.difference, change.difference - bounds[0])
    counts = np.arange(now + 1, MOST_REPEATS + 1)
    reach = special.stdtrit(counts - 1, 0.975) / np.sqrt(counts) / (special.stdtrit(now - 1, 0.975) / math.sqrt(now))
    for count in counts[half * reach < room]:
        if not beyond or chance.least_p_with(int(count)) <= chance.alpha:
            return int(count)
    return None


def _direction(found: Pair, difference: float) -> Answer:
    return "worse" if (difference > 0) == found.compared.more_is_worse else "better"


def _open_words(found: Pair) -> str:
    cut = [(side.censored, name) for side, name in ((found.baseline, "baseline"), (found.candidate, "candidate"))]
    words = [f"{plural(count, 'run')} of the {name}" for count, name in cut if count]
    return f"; not seen to end in {' and '.join(words)}" if words else ""


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= 0.001 else f"{p:.0e}".replace("e-0", "e-")

"""How often a comparison cries wolf, and how often it misses one.

    python -m tests.false_alarms [--trials N] [--seed N]

Two campaigns of the same build are drawn run by run, and compared: any "worse" or "better" in the gate is a false
alarm. Within a run all metrics hang on one outage. Beside the method that the comparison uses stand two others on the
same data: Welch's t with Holm, and each cell's own permutation p with Holm. Then the candidate's outages are made
longer, and what is counted is how often "worse" is found. Intervals are counted by whether they hold the truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from chaoslab import comparison
from chaoslab.comparison import Cell, Scenario, changes, effects
from chaoslab.intervals import LEVEL
from chaoslab.metrics import RunMetrics, Span
from chaoslab.wording import METRIC_NAMES

RATE_HZ = 20.0
WINDOW = 30.0
WATCHED = 30.0
SCENARIOS = 3

Rng = np.random.Generator
Lengths = Callable[[Rng, int], np.ndarray]
"""Draws the seconds of outage of so many runs."""


def _bimodal(rng: Rng, n: int) -> np.ndarray:
    return np.where(rng.random(n) < 0.5, 3.0, 8.0) * rng.lognormal(0.0, 0.03, n)


def _rare(rng: Rng, n: int) -> np.ndarray:
    return np.where(rng.random(n) < 0.3, rng.uniform(0.1, 0.6, n), 0.0)


WORLDS: dict[str, Lengths] = {
    "exponential": lambda rng, n: rng.exponential(4.0, n),
    "lognormal, σ 0.3": lambda rng, n: 4.0 * rng.lognormal(0.0, 0.3, n),
    "lognormal, σ 1": lambda rng, n: 4.0 * rng.lognormal(0.0, 1.0, n),
    "bimodal": _bimodal,
    "rare failures": _rare,
    "no failure": lambda _, n: np.zeros(n),
}


def draw(lengths: np.ndarray, rng: Rng, *, factor: float = 1.0) -> list[RunMetrics]:
    """Return a run for each length of outage: during the injection, and as long again to recover from it."""
    return [_run(place, factor * length, rng) for place, length in enumerate(lengths, start=1)]


def _run(repeat: int, outage: float, rng: Rng) -> RunMetrics:
    requests = int(WINDOW * RATE_HZ)
    down = min(outage, WINDOW)
    recovery = outage * rng.lognormal(0.0, 0.1) + rng.uniform(0.0, 1 / RATE_HZ)
    p95 = rng.lognormal(np.log(20.0), 0.1) + 2 * outage
    span = Span(seconds=outage, at_least=outage, censored=False)
    return RunMetrics(
        scenario="",
        repeat=repeat,
        requests=requests,
        failed=int(rng.binomial(requests, min(1.0, down / WINDOW))),
        unsent=0,
        failures_by_kind={},
        health_check_failures=0,
        window_seconds=WINDOW,
        down_seconds=down,
        watched=1.0,
        outages=(),
        mttr=span if outage > 0 else None,
        longest_outage=span,
        longest_good_streak=0,
        envelope_ms=30.0,
        recovery=Span(seconds=min(recovery, WATCHED), at_least=0.0, censored=recovery > WATCHED),
        first_success=span,
        latency={},
        latency_degradation_ms=p95 - rng.lognormal(np.log(20.0), 0.1),
        host={},
        independent={},
    )


def draw_all(
    lengths: Sequence[Lengths], runs: tuple[int, int], rng: Rng, *, factors: Sequence[float] = ()
) -> list[Scenario]:
    """Draw a scenario for each of `lengths` on both sides, the candidate's outages `factors` times as long."""
    gate = [changes.COMPARED[metric] for metric in METRIC_NAMES]
    scenarios = []
    for place, length in enumerate(lengths):
        before = draw(length(rng, runs[0]), rng)
        after = draw(length(rng, runs[1]), rng, factor=factors[place] if factors else 1.0)
        pairs = tuple(changes.pair(compared, before, after, rate_hz=RATE_HZ) for compared in gate)
        scenarios.append(Scenario(name=f"scenario {place}", control=False, pairs=pairs))
    return scenarios


def judged(scenarios: Sequence[Scenario]) -> tuple[Cell, ...]:
    """Judge what was drawn with the default margins."""
    return comparison.judge(scenarios, METRIC_NAMES, changes.margins())


@dataclass
class Alarms:
    """Comparisons with at least one false alarm, by method."""

    trials: int = 0
    ours: int = 0
    welch_holm: int = 0
    permutation_holm: int = 0

    def count(self, scenarios: Sequence[Scenario]) -> None:
        """Count one comparison."""
        regrouped = [comparison.regroup(scenario.pairs) for scenario in scenarios]
        self.trials += 1
        self.ours += _any_told(regrouped) and any(cell.answer in ("worse", "better") for cell in judged(scenarios))
        self.welch_holm += rejects_any_by_holm([_welch_p(pair) for scenario in scenarios for pair in scenario.pairs])
        self.permutation_holm += rejects_any_by_holm(np.concatenate([effects.alone(found) for found in regrouped]))


def _any_told(regrouped: Sequence[effects.Regrouped]) -> bool:
    """Whether any p is small enough for an answer; where none is, the rest need not be worked out."""
    return bool(np.concatenate(effects.step_down(regrouped)).min() <= 0.05)


def rejects_any_by_holm(ps: ArrayLike, alpha: float = 0.05) -> bool:
    """Whether Holm's first step rejects: if that does not, none does."""
    return bool(np.min(ps) <= alpha / np.size(ps))


def _welch_p(pair: changes.Pair) -> float:
    """Return the two-sided p of Welch's t, written out: scipy's own is slow to call a million times."""
    sides = [pair.scores(side) for side in (pair.baseline, pair.candidate)]
    known = [side[np.isfinite(side)] for side in sides]
    parts = [side.var(ddof=1) / len(side) for side in known]
    difference, variance = known[1].mean() - known[0].mean(), sum(parts)
    if variance < 1e-24:
        return float(abs(difference) < 1e-12)
    freedom = variance**2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, known, strict=True))
    return float(2 * special.stdtr(freedom, -abs(difference) / variance**0.5))


def false_alarms(world: str, runs: tuple[int, int], trials: int, seed: int) -> Alarms:
    """Compare campaigns of one build `trials` times."""
    rng, found = np.random.default_rng(seed), Alarms()
    for _ in range(trials):
        found.count(draw_all([WORLDS[world]] * SCENARIOS, runs, rng))
    return found


def found_worse(world: str, runs: tuple[int, int], trials: int, seed: int, *, factor: float, where: int) -> float:
    """Return how often a candidate whose outages are `factor` times as long in `where` scenarios is found worse."""
    rng = np.random.default_rng(seed)
    factors = [factor] * where + [1.0] * (SCENARIOS - where)
    hits = 0
    for _ in range(trials):
        drawn = draw_all([WORLDS[world]] * SCENARIOS, runs, rng, factors=factors)
        if _any_told([comparison.regroup(scenario.pairs) for scenario in drawn]):
            hits += any(cell.answer == "worse" and int(cell.scenario[-1]) < where for cell in judged(drawn))
    return hits / trials


def covered(world: str, runs: tuple[int, int], trials: int, seed: int, *, factor: float) -> dict[str, float]:
    """Return how often the interval of each metric's effect holds the truth."""
    rng = np.random.default_rng(seed)
    truth = _truth(world, factor)
    hits = dict.fromkeys(truth, 0)
    seen = dict.fromkeys(truth, 0)
    for _ in range(trials):
        [scenario] = draw_all([WORLDS[world]], runs, rng, factors=[factor])
        for pair in scenario.pairs:
            metric, effect = pair.compared.metric, changes.estimate(pair, level=LEVEL).effect
            if metric in truth and effect.low is not None and effect.high is not None:
                seen[metric] += 1
                hits[metric] += effect.low <= truth[metric] <= effect.high
    return {metric: hits[metric] / seen[metric] for metric in truth if seen[metric]}


def _truth(world: str, factor: float) -> dict[str, float]:
    """Return the true effects, from two million runs."""
    outages = WORLDS[world](np.random.default_rng(0), 2_000_000)
    before, after = (100 * np.minimum(f * outages, WINDOW).mean() / WINDOW for f in (1.0, factor))
    times = {"mttr_seconds": factor} if outages.min() > 0 else {}
    return times | {"error_rate_percent": after - before, "availability_percent": before - after}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sizes = [(3, 3), (5, 5), (5, 10), (3, 10)]
    print(f"{given.trials} trials a line, {SCENARIOS} scenarios × {len(METRIC_NAMES)} metrics, seed {given.seed}\n")
    print("same build: comparisons with a false alarm, % (asked: at most 5)")
    print(f"{'':20}{'runs':>10}{'compare':>10}{'Welch+Holm':>12}{'permutation+Holm':>18}")
    for world in WORLDS:
        for runs in sizes:
            found = false_alarms(world, runs, given.trials, given.seed)
            shares = [100 * n / found.trials for n in (found.ours, found.welch_holm, found.permutation_holm)]
            print(f"{world:20}{_versus(runs):>10}{shares[0]:>10.2f}{shares[1]:>12.2f}{shares[2]:>18.2f}", flush=True)
    print("\nlonger outages in the candidate: found worse, %; and intervals that hold the truth, %")
    print(
        f"{'':20}{'runs':>10}{'factor':>8}{'in 1 of 3':>11}{'in 3 of 3':>11}   MTTR ratio / error points / availability"
    )
    for world in ("exponential", "lognormal, σ 0.3", "lognormal, σ 1", "bimodal"):
        for runs in ((5, 5), (3, 10)):
            for factor in (1.5, 3.0):
                power = [
                    100 * found_worse(world, runs, given.trials // 4, given.seed, factor=factor, where=where)
                    for where in (1, SCENARIOS)
                ]
                held = covered(world, runs, given.trials, given.seed, factor=factor)
                said = " / ".join(f"{100 * share:.1f}" for share in held.values())
                print(
                    f"{world:20}{_versus(runs):>10}{factor:>8g}{power[0]:>11.1f}{power[1]:>11.1f}   {said}", flush=True
                )


def _versus(runs: tuple[int, int]) -> str:
    return f"{runs[0]} v {runs[1]}"


if __name__ == "__main__":
    sys.exit(main())

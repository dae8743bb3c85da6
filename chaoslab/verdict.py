"""Verdicts: an estimate held against a threshold, with three possible answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from chaoslab import display, wording
from chaoslab.intervals import FEWEST_RUNS, Estimate, repeats_to_clear
from chaoslab.scenario import Slo
from chaoslab.wording import METRIC_NAMES, interval, plural, quantity

Answer = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One SLO judged for one scenario.

    `repeats_needed` is the number of runs after which, with the spread seen so far, the interval would clear the
    threshold; None when that cannot be said.
    """

    scenario: str
    slo: Slo
    estimate: Estimate
    outcome: Answer
    reason: str
    repeats_needed: int | None = None

    @property
    def metric(self) -> str:
        """Name of the metric that was judged."""
        return self.slo.metric

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {
            "scenario": self.scenario,
            **asdict(self.slo),
            "outcome": self.outcome,
            "reason": self.reason,
            "repeats_needed": self.repeats_needed,
            "estimate": self.estimate.as_dict(),
        }

    def _repr_html_(self) -> str:
        fields = {
            "metric": METRIC_NAMES[self.metric],
            "estimate": wording.estimate(self.estimate),
            "objective": wording.objective(self.slo.comparison, self.slo.threshold, self.slo.unit),
            "outcome": self.outcome,
            "why": self.reason,
        }
        return display.card(self.scenario, fields)


def judge(scenario: str, slo: Slo, estimate: Estimate, *, nothing_to_see: str = "") -> Verdict:
    """Hold `estimate` against `slo`.

    Pass when the whole interval is on the right side of the threshold, fail when it is on the wrong side, else
    inconclusive: between, or without an interval, for the reason that the estimate gives. Three cases have no
    ordinary interval and are decided from what was seen in every one of at least three runs:

    - what the SLO limits did not happen in any run, as `nothing_to_see` says (no outage, so nothing to repair): pass;
    - what the SLO times did not end in any run, and every run was watched for longer than the threshold: fail;
    - it did not end in some runs: the estimate is a lower bound, which can fail but never pass.
    """

    def answer(outcome: Answer, reason: str, repeats: int | None = None) -> Verdict:
        return Verdict(
            scenario=scenario, slo=slo, estimate=estimate, outcome=outcome, reason=reason, repeats_needed=repeats
        )

    limit = quantity(slo.threshold, slo.unit)
    if nothing_to_see and estimate.n >= FEWEST_RUNS:
        return answer("pass", nothing_to_see)
    if _never_ended(slo, estimate):
        return answer("fail", f"{estimate.reason}; the threshold is {limit}")
    if estimate.low is None or estimate.high is None:
        return answer("inconclusive", estimate.reason or "no interval")
    bounds = f"{interval(estimate)} {estimate.unit}"
    doubt = "" if estimate.trusted else f" ({estimate.reason})"
    right, wrong = _sides(slo, estimate.low, estimate.high)
    if estimate.censored and not wrong:
        return answer("inconclusive", f"{estimate.reason}, and its interval {bounds} does not lie above {limit}")
    if right:
        return answer("pass", f"the whole interval {bounds} is {_side(slo)} {limit}{doubt}")
    if wrong:
        return answer("fail", f"the whole interval {bounds} is {_other_side(slo)} {limit}{doubt}")
    repeats = repeats_to_clear(estimate, slo.threshold)
    outlook = (
        f"{plural(repeats, 'run')} would settle it if centre and spread stay as they are"
        if repeats
        else "the estimate is too near to the threshold for more runs to settle it"
    )
    return answer("inconclusive", f"the interval {bounds} holds the threshold {limit}; {outlook}", repeats)


def overall(verdicts: Iterable[Verdict]) -> Answer:
    """Return fail if a blocking verdict failed, else inconclusive if one is, or if there is none, else pass."""
    outcomes = {verdict.outcome for verdict in verdicts if verdict.slo.severity == "blocking"}
    if "fail" in outcomes:
        return "fail"
    return "pass" if outcomes == {"pass"} else "inconclusive"


def _never_ended(slo: Slo, estimate: Estimate) -> bool:
    return (
        estimate.value is None
        and FEWEST_RUNS <= estimate.n == estimate.censored
        and estimate.horizon is not None
        and slo.comparison == "<="
        and estimate.horizon > slo.threshold
    )


def _sides(slo: Slo, low: float, high: float) -> tuple[bool, bool]:
    """Return whether the whole interval is on the right side, and whether it is on the wrong one."""
    if slo.comparison == "<=":
        return high <= slo.threshold, low > slo.threshold
    return low >= slo.threshold, high < slo.threshold


def _side(slo: Slo) -> str:
    return "at most" if slo.comparison == "<=" else "at least"


def _other_side(slo: Slo) -> str:
    return "above" if slo.comparison == "<=" else "below"

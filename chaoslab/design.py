"""How many repeats the next campaign needs, and what a given number of them can show.

Everything rests on the spread between the runs of a campaign that was already recorded, on the scale of each metric. A
spread that is known from n runs is itself an estimate: from 3 runs, its 95 % interval reaches from 0.52 to 6.3 times
the value. Every number of repeats therefore comes three times: for the spread as it was seen, and for either end of
that interval.

- *Width*: repeats for which the interval's half-width is at most w with a probability of `power`, since the next
  campaign will find another spread (Kupper & Hafner 1989, *The American Statistician* 43:101).
- *Change*: repeats for which Welch's t test of two campaigns, two-sided at 5 %, finds a change with a probability of
  `power` (`detection_power`). A change is always one for the worse.
- *Objective*: repeats after which the interval would lie on one side of the threshold, centre and spread unchanged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special, stats

from chaoslab.analysis import ESTIMATES, Analysis, ScenarioResult, analyse, import_warning
from chaoslab.errors import UsageError, recognised
from chaoslab.intervals import FEWEST_RUNS, LEVEL, MOST_REPEATS, Estimate, back, forward, repeats_to_clear, with_repeats
from chaoslab.scenario import Slo
from chaoslab.store import Campaign
from chaoslab.wording import METRIC_NAMES, listed, objective, quantity, short_name
from chaoslab.wording import estimate as estimate_words

POWER: Final = 0.8
SHOWN_REPEATS: Final = (3, 5, 10, 20)
"""Numbers of repeats for which the smallest detectable change is given."""
BETTER_HIGH: Final = frozenset({"availability_percent"})
"""Metrics of which more is better."""
_CURVE_REPEATS: Final = tuple(range(FEWEST_RUNS, 31))


@dataclass(frozen=True, slots=True)
class Amount:
    """A width or a change: in the metric's own unit, or `relative`, in percent of the metric's value."""

    size: float
    relative: bool = False

    @classmethod
    def parse(cls, text: str, what: str) -> Amount:
        """Return the amount that `text` names: "2" or "20%"; `what` names it in the message.

        Raises:
            UsageError: not a number above zero.

        >>> Amount.parse("20 %", "--detect")
        Amount(size=20.0, relative=True)
        """
        match = re.fullmatch(r"\s*\+?(\d+\.?\d*|\.\d+)\s*(%?)\s*", text)
        if match is None or float(match[1]) <= 0:
            raise UsageError(
                f"{what} is {text!r}; accepted: a number above zero, in the metric's unit ('2') or in percent of its "
                "value ('20%')"
            )
        return cls(float(match[1]), bool(match[2]))

    def of(self, value: float) -> float:
        """Return the amount in the unit of `value`."""
        return abs(value) * self.size / 100 if self.relative else self.size

    def __str__(self) -> str:
        return f"{self.size:g} %" if self.relative else f"{self.size:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """A number of repeats for the spread that was seen, and for either end of its interval.

    None stands for more than `intervals.MOST_REPEATS`, or for what no number of repeats can do.
    """

    expected: int | None
    optimistic: int | None
    pessimistic: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The repeats that would bring an estimate clear of the threshold of `slo`."""

    slo: Slo
    repeats: Repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPlan:
    """One metric of one scenario.

    Attributes:
        estimate: of the recorded campaign, with its spread between runs.
        spread_low, spread_high: 95 % interval of the spread; None where no spread is known, as `reason` then says.
        width: repeats for the wanted half-width; None if none was asked for, or no spread is known.
        detect: repeats of each of two campaigns for the wanted change.
        against: repeats of a new campaign that is compared with the recorded one as it is.
        objectives: repeats for each SLO of the metric.
        detectable: the smallest change that two campaigns of so many repeats find, in the metric's unit.
    """

    scenario: str
    metric: str
    estimate: Estimate
    spread_low: float | None = None
    spread_high: float | None = None
    width: Repeats | None = None
    detect: Repeats | None = None
    against: Repeats | None = None
    objectives: tuple[Objective, ...] = ()
    detectable: Mapping[int, float | None]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What a recorded campaign says about the next one.

    `seconds` is how long one repeat of each scenario takes, pauses included, as recorded; `warning` is what an imported
    recording does not tell.
    """

    campaign: str
    power: float
    width: Amount | None
    change: Amount | None
    seconds: Mapping[str, float]
    plans: tuple[MetricPlan, ...]
    warning: str = ""

    def duration(self, repeats: int) -> float:
        """Return the seconds that a campaign of `repeats` of every scenario takes."""
        return repeats * sum(self.seconds.values())

    def table(self) -> pd.DataFrame:
        """Return one row a scenario and metric: estimate, spread, detectable changes and numbers of repeats.

        Numbers of repeats are whole or missing; changes are in the metric's unit, seconds per repeat.
        """
        rows = pd.DataFrame([_row(plan, self.seconds) for plan in self.plans])
        counts = [name for name in rows.columns if name.endswith("_repeats")]
        return rows.astype(dict.fromkeys(counts, "Int64"))

    def words(self) -> pd.DataFrame:
        """Return the table as readers see it: a row a scenario and metric, numbers of repeats as "14 (5–494)".

        In brackets stand the repeats for either end of the spread's interval. Columns that nobody asked for are left
        out.
        """
        return pd.DataFrame([_words(plan, self) for plan in self.plans])

    def cost(self) -> str:
        """Say how long campaigns of all scenarios of the design take, after the warning, if there is one."""
        return f"{self.warning}\n{self._cost()}".lstrip()

    def _cost(self) -> str:
        if not self.seconds:
            return "no run is on record whose length could be used"
        times = [f"{count} repeats take {duration(self.duration(count))}" for count in SHOWN_REPEATS]
        return f"Together the scenarios take {duration(self.duration(1))} a repeat: {listed(times)}."

    def curve(self, repeats: Sequence[int] = _CURVE_REPEATS) -> pd.DataFrame:
        """Return the smallest detectable change by number of repeats, for every metric with a known spread.

        Columns: scenario, metric, unit, repeats, change, low, high, now (the value); `low` and `high` are the change
        for the ends of the spread's interval.
        """
        rows = [
            (plan.scenario, plan.metric, plan.estimate.unit, count, *_changes(plan, count, self.power), _value(plan))
            for plan in self.plans
            if plan.spread_low is not None
            for count in repeats
        ]
        return pd.DataFrame(
            rows, columns=["scenario", "metric", "unit", "repeats", "change", "low", "high", "now"]
        ).astype({"change": float, "low": float, "high": float})

    def as_dict(self) -> dict[str, Any]:
        """Return the design as a JSON object."""
        return {
            "campaign": self.campaign,
            "warning": self.warning,
            "power": self.power,
            "level": LEVEL,
            "width": self.width and str(self.width),
            "change": self.change and str(self.change),
            "seconds_per_repeat": dict(self.seconds),
            "plans": [
                asdict(plan) | {"detectable": {str(n): change for n, change in plan.detectable.items()}}
                for plan in self.plans
            ],
        }


def design(
    campaign: Campaign,
    *,
    scenarios: Sequence[str] = (),
    metrics: Sequence[str] = (),
    width: str | None = None,
    detect: str | None = None,
    power: float = POWER,
    slos: Sequence[Slo] | None = None,
) -> Design:
    """Plan the next campaign from a recorded one.

    Args:
        campaign: the recording whose spread is used.
        scenarios: names; all of its scenarios if empty.
        metrics: names in `analysis.ESTIMATES`; those that an SLO can name if empty.
        width: wanted half-width of the intervals, in the metric's unit ("2") or in percent of its value ("20%").
        detect: change for the worse to be found, written like `width`.
        power: probability with which the width is kept, or the change found.
        slos: objectives; those that the campaign ran with if None.

    Raises:
        UsageError: an option that cannot be used, or a name that is not there.
        CampaignFolderError: the folder is damaged.
    """
    if not 0 < power < 1:
        raise UsageError(f"power is {power:g}; accepted: a probability above 0 and below 1, such as 0.8")
    analysis = analyse(campaign, slos=slos)
    wanted = recognised(metrics, ESTIMATES, "metric") or tuple(METRIC_NAMES)
    results = _results(analysis, scenarios)
    amounts = [Amount.parse(text, option) if text else None for text, option in ((width, "width"), (detect, "detect"))]
    for amount, option in zip(amounts, ("width", "detect"), strict=True):
        _check_unit(amount, option, [result.estimates[name].unit for result in results for name in wanted])
    plans = [
        plan(
            result.name,
            name,
            result.estimates[name],
            slos=analysis.slos,
            width=amounts[0],
            change=amounts[1],
            power=power,
        )
        for result in results
        for name in wanted
    ]
    seconds = seconds_per_repeat(campaign)
    return Design(
        campaign=campaign.name,
        power=power,
        width=amounts[0],
        change=amounts[1],
        seconds={result.name: seconds[result.name] for result in results if result.name in seconds},
        plans=tuple(plans),
        warning=import_warning(campaign.meta),
    )


def plan(
    scenario: str,
    metric: str,
    estimate: Estimate,
    *,
    slos: Sequence[Slo] = (),
    width: Amount | None = None,
    change: Amount | None = None,
    power: float = POWER,
) -> MetricPlan:
    """Return what the spread of one estimate says about the repeats that are needed."""
    low, high = spread_interval(estimate)
    unknown = _no_spread(estimate)
    found = MetricPlan(
        scenario=scenario,
        metric=metric,
        estimate=estimate,
        spread_low=low,
        spread_high=high,
        objectives=tuple(
            Objective(slo=slo, repeats=_thrice(estimate, partial(repeats_to_clear, threshold=slo.threshold)))
            for slo in slos
            if slo.metric == metric
        ),
        detectable=dict.fromkeys(SHOWN_REPEATS),
        reason=unknown,
    )
    if unknown:
        return found
    found = replace(found, detectable={count: _changes(found, count, power)[0] for count in SHOWN_REPEATS})
    if width is not None:
        reach = width.of(_value(found))
        found = replace(found, width=_thrice(estimate, lambda one: repeats_for_width(one, reach, power=power)))
    if change is None:
        return found
    if _effect(estimate, change, metric) is None:
        return replace(found, reason=f"a change by {change} would leave what {METRIC_NAMES.get(metric, metric)} can be")

    def detected(one: Estimate, against: int | None = None) -> int | None:
        effect = _effect(one, change, metric)
        return None if effect is None else repeats_to_detect(effect, power=power, against=against)

    return replace(
        found,
        detect=_thrice(estimate, detected),
        against=_thrice(estimate, lambda one: detected(one, estimate.n)),
    )


def spread_interval(estimate: Estimate, level: float = LEVEL) -> tuple[float | None, float | None]:
    """Return the interval of the spread between runs: chi-square with n − 1 degrees of freedom.

    It takes the runs as normal on the metric's scale. None and None without a spread.

    >>> estimate = Estimate(value=4.0, method="t", n=3, unit="s", spread=1.0)
    >>> [round(bound, 2) for bound in spread_interval(estimate)]
    [0.52, 6.28]
    """
    if not estimate.spread or estimate.n < 2:
        return None, None
    freedom = estimate.n - 1
    tail = (1 - level) / 2
    low, high = (estimate.spread * math.sqrt(freedom / stats.chi2.ppf(p, freedom)) for p in (1 - tail, tail))
    return float(low), float(high)


def repeats_for_width(estimate: Estimate, half_width: float, *, power: float = POWER) -> int | None:
    """Return after how many runs the interval's half-width is at most `half_width` with a probability of `power`.

    The half-width is half of what lies between the bounds, which on the scales "log" and "logit" are not as far from
    the value on either side. None beyond `intervals.MOST_REPEATS`.

    >>> repeats_for_width(Estimate(value=50.0, method="t", n=5, unit="ms", spread=10.0), 5.0, power=0.5)
    18
    """

    def narrow(count: int) -> bool:
        likely = math.sqrt(stats.chi2.ppf(power, count - 1) / (count - 1))
        planned = with_repeats(replace(estimate, spread=(estimate.spread or 0.0) * likely), count)
        assert planned.low is not None
        assert planned.high is not None
        return (planned.high - planned.low) / 2 <= half_width

    return _fewest(narrow)


def detection_power(effect: float, first: int, second: int, *, level: float = LEVEL) -> float:
    """Return the probability with which Welch's test finds a difference of `effect` spreads, two-sided.

    It is exact for equal spreads: given how the sum of squares is shared between the campaigns, which is a beta
    variable and independent of the sum, Welch's statistic is noncentral t up to a factor, and its degrees of freedom
    are known (Moser, Stevens & Watts 1989, *Communications in Statistics: Theory and Methods* 18:3963). Noncentral t
    alone, which is that of the pooled test, would promise 80 % where Welch's test of 3 against 3 runs has 69 %.

    Args:
        effect: difference of the means in standard deviations between runs.
        first, second: runs of the two campaigns, two or more.

    >>> round(detection_power(0.5, 64, 64), 2), round(detection_power(0.0, 5, 5), 2)
    (0.8, 0.04)
    """
    nodes, weights = _NODES
    free = np.array([first - 1.0, second - 1.0])
    share = stats.beta.ppf(nodes, *free / 2)
    parts = np.stack([share, 1 - share]) / (free * [first, second])[:, None]
    freedom = parts.sum(axis=0) ** 2 / (parts**2 / free[:, None]).sum(axis=0)
    unit = 1 / first + 1 / second
    beyond = stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(free.sum() * parts.sum(axis=0) / unit)
    away = abs(effect) / math.sqrt(unit)
    if away > 30:  # the noncentral distribution runs out of digits, and Student's t with its centre there is near
        return float(weights @ stats.t.sf(beyond - away, free.sum()))
    right_way, wrong_way = stats.nct.sf(beyond, free.sum(), away), stats.nct.cdf(-beyond, free.sum(), away)
    # Far out in either tail scipy has no answer; there it is certain, or next to impossible.
    found = np.where(np.isnan(right_way), beyond < away, right_way) + np.nan_to_num(wrong_way)
    return float(weights @ found)


def _quadrature(points: int = 32) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return nodes and weights of Gauss and Legendre on [0, 1]."""
    nodes, weights = special.roots_legendre(points)
    return (nodes + 1) / 2, weights / 2


_NODES: Final = _quadrature()


def repeats_to_detect(
    effect: float, *, power: float = POWER, against: int | None = None, level: float = LEVEL
) -> int | None:
    """Return the runs with which a difference of `effect` spreads is found with a probability of `power`.

    With `against` runs in the other campaign; as many in both if None. None beyond `intervals.MOST_REPEATS`: the few
    runs of a baseline may be what limits the power, however many runs the new campaign has.

    >>> repeats_to_detect(0.5), repeats_to_detect(0.8)  # Cohen 1988, table 2.4.1
    (64, 26)
    """
    return _fewest(lambda count: detection_power(effect, against or count, count, level=level) >= power)


@cache
def smallest_effect(repeats: int, power: float = POWER, level: float = LEVEL) -> float:
    """Return the difference, in spreads, that two campaigns of `repeats` find with a probability of `power`.

    >>> round(smallest_effect(64), 2)
    0.5
    """
    return float(optimize.brentq(lambda d: detection_power(d, repeats, repeats, level=level) - power, 0.0, 30.0))


def duration(seconds: float) -> str:
    """Return a length of time as readers think of it.

    >>> duration(42.3), duration(722), duration(9000)
    ('42 s', '12 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def seconds_per_repeat(campaign: Campaign) -> dict[str, float]:
    """Return how long one repeat of each scenario took, with the usual pause until the next, from the record."""
    runs = sorted(campaign.runs, key=lambda run: run.baseline_us)
    pauses = [max(0, after.baseline_us - before.finished_us) / 1e6 for before, after in pairwise(runs)]
    pause = float(np.median(pauses)) if pauses else float(campaign.meta.get("cooldown_seconds", 0.0))
    lengths = pd.DataFrame(
        [(run.scenario, (run.finished_us - run.baseline_us) / 1e6) for run in runs if run.recovery_us is not None],
        columns=["scenario", "seconds"],
    )
    return {
        str(name): float(seconds) + pause for name, seconds in lengths.groupby("scenario")["seconds"].median().items()
    }


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number of runs that is enough, given that more are enough too; None if none is."""
    below, above = FEWEST_RUNS - 1, FEWEST_RUNS
    while not enough(above):
        if above >= MOST_REPEATS:
            return None
        below, above = above, min(2 * above, MOST_REPEATS)
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if enough(middle) else (middle, above)
    return above


def _thrice(estimate: Estimate, count: Callable[[Estimate], int | None]) -> Repeats:
    low, high = spread_interval(estimate)
    expected = count(estimate)
    if low is None:
        return Repeats(expected=expected, optimistic=expected, pessimistic=expected)
    return Repeats(
        expected=expected,
        optimistic=count(replace(estimate, spread=low)),
        pessimistic=count(replace(estimate, spread=high)),
    )


def _effect(estimate: Estimate, change: Amount, metric: str) -> float | None:
    """Return the change for the worse in spreads; None if no such change is possible."""
    value = estimate.value or 0.0
    sign = -1 if metric in BETTER_HIGH else 1
    target = value + sign * change.of(value)
    if not estimate.spread or target == value or (estimate.scale == "logit" and not 0 < target < 100):
        return None
    return abs(forward(target, estimate.scale) - forward(value, estimate.scale)) / estimate.spread


def _changes(plan: MetricPlan, repeats: int, power: float) -> tuple[float, float, float]:
    """Return the smallest detectable change in the metric's unit, for the spread and for both ends of its interval."""
    estimate = plan.estimate
    centre, sign = forward(_value(plan), estimate.scale), -1 if plan.metric in BETTER_HIGH else 1
    effect = smallest_effect(repeats, power)
    spreads = (estimate.spread or 0.0, plan.spread_low or 0.0, plan.spread_high or 0.0)
    here, low, high = (abs(back(centre + sign * effect * s, estimate.scale) - _value(plan)) for s in spreads)
    return here, low, high


def _value(plan: MetricPlan) -> float:
    return plan.estimate.value or 0.0


def _no_spread(estimate: Estimate) -> str:
    """Return why nothing can be planned from `estimate`, or an empty string."""
    if estimate.spread:
        return ""
    if estimate.value is not None and estimate.n >= FEWEST_RUNS and not estimate.reason:
        return "no spread between runs is known for this metric"
    return f"no spread is known: {estimate.reason or 'nothing was measured'}"


def _results(analysis: Analysis, names: Sequence[str]) -> list[ScenarioResult]:
    there = [result.name for result in analysis.scenarios]
    wanted = recognised(names, there, "scenario of the campaign", any_case=True)
    return [result for result in analysis.scenarios if not wanted or result.name in wanted]


def _check_unit(amount: Amount | None, option: str, units: Sequence[str]) -> None:
    different = sorted(set(units))
    if amount is not None and not amount.relative and len(different) > 1:
        raise UsageError(
            f"{option} is {amount}, but the metrics are in {', '.join(different)}; accepted: a percentage of the value "
            f"('{amount}%'), or metrics of one unit"
        )


def _row(plan: MetricPlan, seconds: Mapping[str, float]) -> dict[str, Any]:
    estimate = plan.estimate
    first = plan.objectives[0] if plan.objectives else None
    return {
        "scenario": plan.scenario,
        "metric": plan.metric,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "unit": estimate.unit,
        "n": estimate.n,
        "scale": estimate.scale,
        "spread": estimate.spread,
        "spread_low": plan.spread_low,
        "spread_high": plan.spread_high,
        **{f"detectable_at_{count}": change for count, change in plan.detectable.items()},
        **_columns("width", plan.width),
        **_columns("detect", plan.detect),
        **_columns("against", plan.against),
        "threshold": first.slo.threshold if first else None,
        **_columns("slo", first.repeats if first else None),
        "seconds_per_repeat": seconds.get(plan.scenario),
        "reason": plan.reason,
    }


def _columns(name: str, repeats: Repeats | None) -> dict[str, int | None]:
    kinds = ("expected", "optimistic", "pessimistic")
    return {f"{name}_{kind}_repeats": getattr(repeats, kind) if repeats else None for kind in kinds}


def _words(plan: MetricPlan, whole: Design) -> dict[str, str]:
    estimate, seconds = plan.estimate, whole.seconds.get(plan.scenario)
    cells = {
        "scenario": plan.scenario,
        "metric": short_name(plan.metric),
        "now": estimate_words(estimate),
    }
    for count, change in plan.detectable.items():
        cells[f"found by {count}"] = "" if change is None else quantity(change, estimate.unit)
    if whole.width is not None:
        cells[f"for ± {whole.width}"] = _repeats_words(plan.width)
    if whole.change is not None:
        cells[f"to find {whole.change}"] = _repeats_words(plan.detect)
        cells["against this one"] = _repeats_words(plan.against)
    cells["to clear the SLO"] = "; ".join(
        f"{objective(one.slo.comparison, one.slo.threshold, one.slo.unit)}: {_repeats_words(one.repeats)}"
        for one in plan.objectives
        if one.repeats.expected is not None or estimate.spread
    )
    return cells | {"a repeat takes": "" if seconds is None else duration(seconds), "note": plan.reason}


def _repeats_words(repeats: Repeats | None) -> str:
    if repeats is None:
        return ""
    expected, low, high = (
        "never" if count is None else f"{count:,}"
        for count in (repeats.expected, repeats.optimistic, repeats.pessimistic)
    )
    return expected if expected == low == high else f"{expected} ({low}–{high})"

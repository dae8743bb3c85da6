"""What one event like those that were injected costs of a month's error budget.

An availability objective of 99.9 % leaves 43.2 minutes of downtime in 30 days. An event spends of it what the service
was down from its start until it had come back, or until the recording ended: the downtime within the injection, and
what of an outage reached beyond it. A slow answer spends nothing here; the objective is on being up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import pandas as pd

from chaoslab import intervals, wording
from chaoslab.analysis import Analysis, ScenarioResult, import_warning
from chaoslab.errors import UsageError
from chaoslab.intervals import Estimate, not_measured
from chaoslab.metrics import RunMetrics
from chaoslab.store import Campaign, Run

DAYS: Final = 30.0
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one event of a scenario costs.

    Attributes:
        objective: availability in percent that the budget is for.
        days: length of the period.
        seconds: the budget: downtime that the objective leaves in the period.
        downtime: of one event, in seconds.
        share: `downtime` in percent of the budget.
        events: how many such events the budget affords in the period; no value where no downtime was seen.
        warning: what an imported recording does not tell.
    """

    scenario: str
    objective: float
    days: float
    seconds: float
    downtime: Estimate
    share: Estimate
    events: Estimate
    warning: str = ""


def costs(
    campaign: Campaign,
    analysis: Analysis,
    *,
    objective: float | None = None,
    days: float = DAYS,
    scenarios: Sequence[str] = (),
) -> tuple[Cost, ...]:
    """Return what one event of each scenario costs.

    Args:
        campaign, analysis: a recording, and what was made of it.
        objective: availability in percent; that of the analysis' own objectives if None.
        days: length of the period that the objective is for.
        scenarios: names of those that are wanted; all of the campaign if empty.

    Raises:
        UsageError: no such objective, or one that leaves no budget.
    """
    objective = availability_objective(analysis) if objective is None else objective
    seconds = budget_seconds(objective, days)
    runs = {(run.scenario, run.repeat): run for run in campaign.runs}
    warning = import_warning(campaign.meta)
    return tuple(
        cost(
            result.name,
            event_downtime(result, [runs[run.scenario, run.repeat] for run in result.runs]),
            objective=objective,
            days=days,
            seconds=seconds,
            warning=warning,
        )
        for result in analysis.scenarios
        if not scenarios or result.name in scenarios
    )


def cost(
    scenario: str, downtime: Estimate, *, objective: float, days: float, seconds: float, warning: str = ""
) -> Cost:
    """Return what an event with this `downtime` costs of a budget of `seconds`."""
    share = _times(downtime, 100 / seconds, "%")
    value, low, high = (
        None if not bound else seconds / bound for bound in (downtime.value, downtime.high, downtime.low)
    )
    events = replace(
        share, value=value, low=low, high=high, unit="", spread=None, scale="identity", censored=0, horizon=None
    )
    return Cost(
        scenario=scenario,
        objective=objective,
        days=days,
        seconds=seconds,
        downtime=downtime,
        share=share,
        events=events,
        warning=warning,
    )


def budget_seconds(objective: float, days: float = DAYS) -> float:
    """Return the downtime in seconds that an availability of `objective` percent leaves in `days`.

    Raises:
        UsageError: an objective that is no percentage, or leaves no budget; no days.

    >>> round(budget_seconds(99.9) / 60, 1)
    43.2
    """
    if not 0 < objective < 100:
        raise UsageError(f"budget is {objective:g}; accepted: an availability in percent, above 0 and below 100")
    if not 0 < days <= 366:
        raise UsageError(f"days is {days:g}; accepted: above 0, up to 366")
    return round(100 - objective, 9) / 100 * days * _DAY


def availability_objective(analysis: Analysis) -> float:
    """Return the availability in percent that the analysis was judged by, the blocking one first.

    Raises:
        UsageError: it has none.
    """
    found = analysis.objective("availability_percent")
    if found is None:
        raise UsageError("the campaign has no objective for availability; accepted: one of your own, such as 99.9")
    return found.threshold


def event_downtime(result: ScenarioResult, runs: Sequence[Run]) -> Estimate:
    """Return the downtime in seconds of one event of a scenario, until the service had come back.

    Where no run was down there is no spread to work with: the bound is then that of the downtime during the injection,
    which takes probes as independent.

    Args:
        result: the scenario, analysed.
        runs: the records of its usable runs, in the same order.
    """
    if not result.runs:
        return not_measured(result.reason, unit="s")
    spent = [run.down_seconds + _beyond(run, record) for run, record in zip(result.runs, runs, strict=True)]
    if not any(spent):
        return result.estimates["downtime_seconds"]
    unfinished = [any(outage.censored for outage in run.outages) for run in result.runs]
    return intervals.restricted_mean(spent, unfinished, event="end of the outage")


def table(found: Sequence[Cost]) -> pd.DataFrame:
    """Return one row an event: scenario, objective, days, budget_seconds, downtime, share and events with intervals."""
    rows = [
        {
            "scenario": one.scenario,
            "objective": one.objective,
            "days": one.days,
            "budget_seconds": one.seconds,
            **_columns("downtime_seconds", one.downtime),
            **_columns("share_percent", one.share),
            **_columns("events", one.events),
            "n": one.downtime.n,
            "at_least": one.downtime.censored > 0,
            "reason": one.downtime.reason,
        }
        for one in found
    ]
    return pd.DataFrame(rows)


def words(found: Sequence[Cost]) -> pd.DataFrame:
    """Return the same as readers see it."""
    return pd.DataFrame(
        [
            {
                "scenario": one.scenario,
                "down, each event": wording.estimate(one.downtime),
                "of the budget": wording.estimate(one.share),
                "events it affords": events_words(one),
                "note": one.downtime.reason,
            }
            for one in found
        ]
    )


def headline(one: Cost) -> str:
    """Say what the budget is.

    >>> nothing = not_measured("", unit="s")
    >>> headline(cost("a", nothing, objective=99.9, days=30, seconds=2592))
    '99.9 % in 30 days leaves a budget of 43.2 min'
    """
    minutes = one.seconds / 60
    length = f"{minutes:.1f} min" if minutes < 600 else f"{minutes / 60:.1f} h"
    return f"{one.objective:g} % in {one.days:g} days leaves a budget of {length}"


def events_words(one: Cost) -> str:
    """Say how many events the budget affords, rounded down: a budget that is overdrawn is spent."""
    value, low, high = one.events.value, one.events.low, one.events.high
    if value is None:
        return "" if low is None else f"at least {int(low):,}"
    if one.downtime.censored:
        return f"at most {int(value):,}"
    return f"{int(value):,}" + (f" [{int(low):,}, {int(high):,}]" if low is not None and high is not None else "")


def as_dict(found: Sequence[Cost]) -> list[dict[str, Any]]:
    """Return the costs as JSON objects."""
    return [asdict(one) for one in found]


def _beyond(run: RunMetrics, record: Run) -> float:
    """Return the seconds that outages of a run reached beyond the injection."""
    over = record.finished_us if record.recovery_us is None else record.recovery_us
    return (
        sum(
            max(0, (record.finished_us if outage.ended_us is None else outage.ended_us) - max(outage.began_us, over))
            for outage in run.outages
        )
        / 1e6
    )


def _times(estimate: Estimate, factor: float, unit: str) -> Estimate:
    def scaled(value: float | None) -> float | None:
        return None if value is None else value * factor

    return replace(
        estimate,
        value=scaled(estimate.value),
        low=scaled(estimate.low),
        high=scaled(estimate.high),
        horizon=scaled(estimate.horizon),
        unit=unit,
    )


def _columns(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}

"""From a campaign folder to estimates and verdicts.

The same folder gives the same analysis, to the byte: no clock is read and no order is left to chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Final, get_args

import numpy as np
import pandas as pd

from chaoslab import display, intervals, metrics, wording
from chaoslab.drift import Drift, drifts
from chaoslab.errors import CampaignFolderError, UsageError, nearest
from chaoslab.intervals import LEVEL, Estimate, not_measured
from chaoslab.metrics import LEAST_PROBES, RunMetrics, Span
from chaoslab.records import Dose, Event, RunState
from chaoslab.scenario import Slo
from chaoslab.store import CAMPAIGN_FILE, Campaign, Run
from chaoslab.verdict import Answer, Verdict, judge, overall
from chaoslab.wording import plural

RESULTS_VERSION: Final = 1
NEVER_STARTED: Final = "never_started"
REPEATED: Final = "repeated"
_BEYOND_PER_RUN: Final = 0.15
"""How many independent latencies beyond the quantile a run needs for each run; found by the coverage study."""
_BURSTS: Final = 1.0
"""Seconds over which the requests of a load generator may come together: its users start as one, and wait as one."""
_UNJUDGED: Final = "no dose was measured in an imported recording, so nothing shows that a fault was delivered"
_UNITS: Final = {"percent": "%", "seconds": "s", "ms": "ms"}
_LATENCIES: Final = tuple(
    f"{prefix}_{phase}_{name}_ms"
    for prefix in ("latency", "failure_latency")
    for phase in metrics.PHASES
    for name in metrics.QUANTILES
)
ESTIMATES: Final = (
    "mttr_seconds",
    "error_rate_percent",
    "availability_percent",
    "latency_degradation_ms",
    "recovery_time_seconds",
    "mttr_median_seconds",
    "recovery_time_median_seconds",
    "first_success_seconds",
    "longest_outage_seconds",
    "downtime_seconds",
    *_LATENCIES,
)
"""Keys of `ScenarioResult.estimates`, in order."""

Method = Callable[..., Estimate]
"""From durations, and which of them are censored, to an estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    """A run that is not analysed, and why; `state` is how it ended, "never_started", or "repeated".

    A campaign that was resumed has repeated its broken runs; they stay on record, and stop nothing any more.
    """

    scenario: str
    repeat: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Residue:
    """Something that could not be reverted, and the command that undoes it; `repeat` is None if no run is known."""

    scenario: str
    repeat: int | None
    step: str
    reason: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioResult:
    """One scenario over its usable runs.

    Attributes:
        planned: its entry in `campaign.json`: duration, parameters, mechanism.
        runs: the usable runs, measured; `excluded` are the others.
        doses: what was asked and delivered, of all runs in order.
        estimates: by the names in `ESTIMATES`, all of them always; what was not measured has no value and a reason.
        verdicts: one for each SLO.
        reason: why there is no usable run, or empty.
    """

    name: str
    type: str
    intensity: str
    planned: Mapping[str, Any]
    runs: tuple[RunMetrics, ...]
    excluded: tuple[Excluded, ...]
    doses: tuple[Dose, ...]
    estimates: Mapping[str, Estimate]
    verdicts: tuple[Verdict, ...]
    reason: str = ""

    @property
    def outcome(self) -> Answer:
        """Fail if a blocking verdict failed, else inconclusive if one is or there is none, else pass."""
        return overall(self.verdicts)

    def _repr_html_(self) -> str:
        rows = [(run.repeat, run.state, run.reason) for run in self.excluded]
        excluded = display.table(["repeat", "ended", "not analysed, because"], rows) if rows else ""
        return _verdicts_html(self.verdicts, caption=f"{self.name}: {self.outcome}") + excluded


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """A campaign, analysed. `campaign` is its `campaign.json`; `scenarios` are in its order.

    `drift` says whether what no fault touches changed while the campaign ran.
    """

    campaign: Mapping[str, Any]
    slos: tuple[Slo, ...]
    scenarios: tuple[ScenarioResult, ...]
    residue: tuple[Residue, ...]
    drift: tuple[Drift, ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All verdicts, scenario by scenario."""
        return tuple(verdict for scenario in self.scenarios for verdict in scenario.verdicts)

    @property
    def excluded(self) -> tuple[Excluded, ...]:
        """All runs that are not analysed."""
        return tuple(run for scenario in self.scenarios for run in scenario.excluded)

    @property
    def outcome(self) -> Answer:
        """Fail if a blocking verdict failed, else inconclusive if one is or there is none, else pass."""
        return overall(self.verdicts)

    def objective(self, metric: str) -> Slo | None:
        """Return the objective for `metric`, the blocking one first, or None."""
        found = [slo for slo in self.slos if slo.metric == metric]
        return min(found, key=lambda slo: slo.severity != "blocking", default=None)

    def table(self) -> pd.DataFrame:
        """Return one row a verdict: what was judged, estimate with interval, threshold, outcome and reason."""
        rows = [_verdict_row(scenario, verdict) for scenario in self.scenarios for verdict in scenario.verdicts]
        return pd.DataFrame(rows, columns=list(_VERDICT_COLUMNS))

    def run_table(self) -> pd.DataFrame:
        """Return one row a usable run, with the metrics that are single numbers; not measured is missing."""
        return pd.DataFrame([_run_row(run) for scenario in self.scenarios for run in scenario.runs])

    def as_results(self) -> dict[str, Any]:
        """Return what `chaos_results.json` holds: every estimate, every run, every dose."""
        document = self._head() | {
            "scenarios": [
                _scenario_head(scenario)
                | {
                    "planned": scenario.planned,
                    "estimates": {name: found.as_dict() for name, found in scenario.estimates.items()},
                    "runs": [_run_fields(run) for run in scenario.runs],
                    "doses": [dose.as_dict() for dose in scenario.doses],
                }
                for scenario in self.scenarios
            ],
            "drift": [found.as_dict() for found in self.drift],
        }
        return _plain_object(document)

    def as_validation(self) -> dict[str, Any]:
        """Return what `resilience_validation.json` holds: the outcome and the verdicts it rests on."""
        outcomes = [verdict.outcome for verdict in self.verdicts]
        document = self._head() | {
            "verdicts": {answer: outcomes.count(answer) for answer in get_args(Answer)},
            "scenarios": [
                _scenario_head(scenario) | {"verdicts": [verdict.as_dict() for verdict in scenario.verdicts]}
                for scenario in self.scenarios
            ],
        }
        return _plain_object(document)

    def __getitem__(self, scenario: str) -> ScenarioResult:
        found = {result.name.lower(): result for result in self.scenarios}.get(scenario.lower())
        if found is None:
            names = [result.name for result in self.scenarios]
            raise UsageError(
                f"no scenario is called {scenario!r}{nearest(scenario, names)}; accepted: {', '.join(names)}"
            )
        return found

    def _ipython_key_completions_(self) -> list[str]:
        """Complete `analysis["Li<Tab>`."""
        return [result.name for result in self.scenarios]

    def _repr_html_(self) -> str:
        left = [("not reverted", f"{one.scenario}: {one.step}: {one.reason}", one.command) for one in self.residue]
        residue = display.table(["problem", "what", "undone by"], left) if left else ""
        return residue + _verdicts_html(self.verdicts, caption=f"{self.campaign.get('campaign', '')}: {self.outcome}")

    def exit_code(self, fail_on_violation: bool = False) -> int:
        """Return what a command that analysed this campaign ends with; the most urgent cause comes first.

        6 something is still broken · 5 the campaign was stopped · 4 a fault was not delivered; and only if
        `fail_on_violation`: 1 a blocking SLO is violated · 3 a blocking SLO could not be judged. A violation comes
        before what could not be judged: more runs would not take it back. Otherwise 0.
        """
        states = {run.state for run in self.excluded}
        if self.residue:
            return 6
        if RunState.ABORTED in states:
            return 5
        if RunState.NOT_DELIVERED in states:
            return 4
        return {"pass": 0, "fail": 1, "inconclusive": 3}[self.outcome] if fail_on_violation else 0

    def _head(self) -> dict[str, Any]:
        known = ("campaign", "started_at", "target", "target_build", "environment", "seed", "status", "reason")
        return {
            "results_version": RESULTS_VERSION,
            **{name: self.campaign.get(name) for name in known},
            "outcome": self.outcome,
            "residue": [asdict(item) for item in self.residue],
        }


def _verdicts_html(verdicts: Iterable[Verdict], *, caption: str) -> str:
    rows = [
        (
            one.scenario,
            wording.METRIC_NAMES[one.metric],
            wording.estimate(one.estimate),
            wording.objective(one.slo.comparison, one.slo.threshold, one.slo.unit),
            one.outcome,
            one.reason,
        )
        for one in verdicts
    ]
    return display.table(["scenario", "metric", "estimate", "objective", "verdict", "why"], rows, caption=caption)


def analyse(campaign: Campaign, *, slos: Sequence[Slo] | None = None) -> Analysis:
    """Measure, estimate and judge `campaign`; `slos` default to those it was run with.

    Raises:
        CampaignFolderError: the folder is damaged, or holds what cannot be.
    """
    meta = campaign.meta
    objectives = _slos(meta) if slos is None else tuple(slos)
    planned = _scenarios(meta)
    strangers = sorted({run.scenario for run in campaign.runs} - set(planned))
    if strangers:
        raise CampaignFolderError(f"{campaign.path}: the events name {strangers[0]!r}, which {CAMPAIGN_FILE} does not")
    _refuse_overlaps(campaign)
    scenarios = tuple(_scenario(campaign, entry, objectives) for entry in planned.values())
    return Analysis(
        campaign=meta,
        slos=objectives,
        scenarios=scenarios,
        residue=_residue(campaign),
        drift=_drift(campaign, scenarios),
    )


def _refuse_overlaps(campaign: Campaign) -> None:
    """Two faults at once have one effect, which belongs to neither: whole runs follow one another.

    A run that was cut off has its end from its last rows, and says nothing of when the next one began.
    """
    whole = sorted(
        (run for run in campaign.runs if run.state is RunState.COMPLETED), key=lambda run: (run.baseline_us, run.repeat)
    )
    for one, other in pairwise(whole):
        if other.baseline_us < one.finished_us:
            seconds = (one.finished_us - other.baseline_us) / 1e6
            raise CampaignFolderError(
                f"{campaign.path}: repeat {one.repeat} of {one.scenario!r} and repeat {other.repeat} of "
                f"{other.scenario!r} overlap by {seconds:g} s; runs of one campaign follow one another"
            )


def estimate(runs: Sequence[RunMetrics], names: Sequence[str] = ESTIMATES) -> dict[str, Estimate]:
    """Return the estimates over usable `runs`, of which there is at least one, by `names`."""
    return {name: _ESTIMATORS[name](runs) for name in names}


def _scenario(campaign: Campaign, entry: Mapping[str, Any], slos: Sequence[Slo]) -> ScenarioResult:
    name, type_ = str(entry["name"]), str(entry["type"])
    started = [run for run in campaign.runs if run.scenario == name]
    measured, excluded = [], _never_started(campaign, name, started)
    for run in started:
        found = _measured(campaign, run, control=type_ == "control")
        if isinstance(found, Excluded):
            excluded.append(found)
        else:
            measured.append(found)
    excluded.sort(key=lambda run: run.repeat)
    measured.sort(key=lambda run: run.repeat)
    reason = "" if measured else _why_none(excluded)
    estimates = estimate(measured) if measured else {name: not_measured(reason, unit=_unit(name)) for name in ESTIMATES}
    return ScenarioResult(
        name=name,
        type=type_,
        intensity=str(entry.get("intensity", "")),
        planned=entry,
        runs=tuple(measured),
        excluded=tuple(excluded),
        doses=tuple(dose for run in started for dose in run.doses),
        estimates=estimates,
        verdicts=tuple(
            _withheld(
                campaign.meta, judge(name, slo, estimates[slo.metric], nothing_to_see=_nothing_to_see(slo, measured))
            )
            for slo in slos
        ),
        reason=reason,
    )


def import_warning(meta: Mapping[str, Any]) -> str:
    """Return what numbers that rest on an imported recording do not tell; empty for one of our own.

    >>> import_warning({"imported": {"tool": "k6"}})
    'Imported from k6: nothing shows which fault was delivered, or how much of it; numbers say what its probes saw.'
    """
    if not _is_imported(meta):
        return ""
    tool = meta["imported"].get("tool", "another tool")
    unknown = "nothing shows which fault was delivered, or how much of it"
    return f"Imported from {tool}: {unknown}; numbers say what its probes saw."


def _is_imported(meta: Mapping[str, Any]) -> bool:
    return meta.get("imported") is not None


def _withheld(meta: Mapping[str, Any], verdict: Verdict) -> Verdict:
    """Return the verdict, inconclusive for an imported recording: its probes were seen, and its fault was not."""
    if not _is_imported(meta) or verdict.estimate.n == 0:
        return verdict
    reason = f"{_UNJUDGED}; of the probes alone: {verdict.reason}"
    return replace(verdict, outcome="inconclusive", reason=reason, repeats_needed=None)


def _measured(campaign: Campaign, run: Run, *, control: bool) -> RunMetrics | Excluded:
    def excluded(reason: str, state: str = run.state) -> Excluded:
        return Excluded(scenario=run.scenario, repeat=run.repeat, state=str(state), reason=reason)

    imported = _is_imported(campaign.meta)
    problem = metrics.unusable(run, control=control, imported=imported)
    again = _repetition(campaign.meta, run)
    if again is not None:
        return excluded(f"{problem}; repeated as #{again}", REPEATED)
    if problem:
        missed = run.state is RunState.COMPLETED and any(not dose.ok for dose in run.doses)
        return excluded(problem, RunState.NOT_DELIVERED if missed else run.state)
    found = metrics.measure(
        run,
        campaign.probes_of(run),
        campaign.resources_of(run),
        required=_required(campaign.meta),
        probe=_probe(campaign.meta),
        bursts=_BURSTS if imported else 0.0,
    )
    if found.requests == 0:
        return excluded("no probe was sent during the injection")
    if found.watched < metrics.LEAST_WATCHED:
        return excluded(f"probes watched only {found.watched:.0%} of the injection")
    return found


def _repetition(meta: Mapping[str, Any], run: Run) -> int | None:
    """Return the number under which a broken run was run again, or None."""
    for scenario, repeat, again in meta.get("repeated", ()):
        if (scenario, repeat) == (run.scenario, run.repeat):
            return int(again)
    return None


def _never_started(campaign: Campaign, name: str, started: Iterable[Run]) -> list[Excluded]:
    known = {run.repeat for run in started}
    planned = {int(repeat) for scenario, repeat in campaign.meta.get("order", ()) if scenario == name}
    return [
        Excluded(scenario=name, repeat=repeat, state=NEVER_STARTED, reason="never started")
        for repeat in sorted(planned - known)
    ]


def _why_none(excluded: Sequence[Excluded]) -> str:
    if not excluded:
        return "no run was planned"
    reasons = list(dict.fromkeys(run.reason for run in excluded))
    return f"none of {plural(len(excluded), 'run')} can be used: {'; '.join(reasons)}"


def _nothing_to_see(slo: Slo, runs: Sequence[RunMetrics]) -> str:
    """A fault that was delivered and caused no outage was measured: there was nothing to repair."""
    if slo.metric != "mttr_seconds" or not runs or any(run.outages for run in runs):
        return ""
    return f"no outage in {plural(len(runs), 'run')}: there was nothing to repair"


def _mttr(runs: Sequence[RunMetrics], method: Method = intervals.restricted_mean) -> Estimate:
    spans = [run.mttr for run in runs if run.mttr]
    quiet = len(runs) - len(spans)
    if not spans:
        reason = f"no outage in {plural(quiet, 'run')}"
        if len(runs) < intervals.FEWEST_RUNS:
            reason += f": that needs at least {intervals.FEWEST_RUNS} to mean something"
        return not_measured(reason, unit="s", method=method([], []).method, n=len(runs))
    found = _timed(spans, "recovery", method)
    return _noted(found, f"{quiet} of {len(runs)} runs had no outage" if quiet else "")


def _timed(spans: Sequence[Span], event: str, method: Method = intervals.restricted_mean) -> Estimate:
    return method([span.seconds for span in spans], [span.censored for span in spans], event=event)


def _longest_outage(runs: Sequence[RunMetrics]) -> Estimate:
    found = _timed([run.longest_outage for run in runs], "end of the longest outage")
    return (
        found if any(run.outages for run in runs) else replace(found, reason=f"no outage in {plural(found.n, 'run')}")
    )


def _downtime(availability: Estimate, window: float) -> Estimate:
    """Downtime is the complement of availability, over an injection of `window` seconds (the mean of the runs)."""

    def down(percent: float | None) -> float | None:
        return None if percent is None else window * (100 - percent) / 100

    return replace(
        availability,
        value=down(availability.value),
        low=down(availability.high),
        high=down(availability.low),
        unit="s",
        method=f"{availability.method}, of availability × {window:.3g} s",
        scale="identity",
        spread=None,
    )


def _latency(runs: Sequence[RunMetrics], name: str) -> Estimate:
    what = "failures" if name.startswith("failure") else "successes"
    series, quantile_name, _unit = name.rsplit("_", 2)
    phase = series.rpartition("_")[2]

    def quantile(run: RunMetrics) -> float | None:
        found = run.latency[name]
        return None if found is None else max(found, 0.001)  # the clock's resolution: a logarithm wants no zero

    found = _over(
        runs,
        quantile,
        lambda values: intervals.mean_log(values, unit="ms"),
        lacking=f"the {LEAST_PROBES[quantile_name]} {what} during {phase} that a {quantile_name} takes",
    )
    return _doubted(found, [run for run in runs if quantile(run) is not None], quantile_name, (series,))


def _degradation(runs: Sequence[RunMetrics]) -> Estimate:
    found = _over(
        runs,
        lambda run: run.latency_degradation_ms,
        lambda values: intervals.mean_difference(values, unit="ms"),
        lacking=f"{LEAST_PROBES['p95']} successes in both baseline and injection, which a p95 takes",
    )
    counted = [run for run in runs if run.latency_degradation_ms is not None]
    return _doubted(found, counted, "p95", ("latency_baseline", "latency_injection"))


def _doubted(found: Estimate, runs: Sequence[RunMetrics], quantile: str, series: Sequence[str]) -> Estimate:
    """Mark an interval whose runs hold fewer independent latencies than the quantile takes.

    It is then that of the quantile which runs as long as these show, not of the one that the service would show. The
    bias of a run's own quantile goes with one over its latencies, and the interval's width with one over the root of
    latencies × runs: so the more runs, the more latencies it takes until the one is small beside the other.
    """
    worth = [min(run.independent[name] for name in series) for run in runs]
    beyond = _BEYOND_PER_RUN * len(worth) / (1 - float(quantile[1:]) / 100)
    needed = max(LEAST_PROBES[quantile], round(beyond))
    if found.low is None or not worth or (typical := float(np.median(worth))) >= needed:
        return found
    note = (
        f"the latencies of a run are worth {typical:.0f} independent ones, and a {quantile} over {len(worth)} runs "
        f"takes {needed}: it holds for runs as long as these"
    )
    return replace(_noted(found, note), trusted=False)


def _over(
    runs: Sequence[RunMetrics],
    of: Callable[[RunMetrics], float | None],
    method: Callable[[list[float]], Estimate],
    *,
    lacking: str,
) -> Estimate:
    """Apply `method` to the runs' own values; runs that have none are counted in the reason."""
    values = [value for run in runs if (value := of(run)) is not None]
    if not values:
        return replace(method([]), reason=f"no run had {lacking}")
    lost = len(runs) - len(values)
    return _noted(method(values), f"{lost} of {len(runs)} runs had not {lacking}" if lost else "")


def _noted(found: Estimate, note: str) -> Estimate:
    return replace(found, reason="; ".join(part for part in (found.reason, note) if part))


def _unit(name: str) -> str:
    return _UNITS[name.rpartition("_")[2]]


def error_rate(runs: Sequence[RunMetrics], level: float = LEVEL) -> Estimate:
    """Return the share of probes that failed, in percent."""
    requests = [run.requests for run in runs]
    return intervals.proportion([run.failed for run in runs], requests, trials=sum(requests), level=level)


def availability(runs: Sequence[RunMetrics], level: float = LEVEL) -> Estimate:
    """Return the share of time in which the service was up, in percent."""
    return intervals.proportion(
        [run.up_seconds for run in runs],
        [run.window_seconds for run in runs],
        trials=sum(run.requests for run in runs),
        level=level,
    )


def _recovery(runs: Sequence[RunMetrics], method: Method = intervals.restricted_mean) -> Estimate:
    return _timed([run.recovery for run in runs if run.recovery], "recovery", method)


_ESTIMATORS: Final[Mapping[str, Callable[[Sequence[RunMetrics]], Estimate]]] = {
    "mttr_seconds": _mttr,
    "error_rate_percent": error_rate,
    "availability_percent": availability,
    "latency_degradation_ms": _degradation,
    "recovery_time_seconds": _recovery,
    "mttr_median_seconds": partial(_mttr, method=intervals.median),
    "recovery_time_median_seconds": partial(_recovery, method=intervals.median),
    "first_success_seconds": lambda runs: _timed([run.first_success for run in runs], "success"),
    "longest_outage_seconds": _longest_outage,
    "downtime_seconds": lambda runs: _downtime(availability(runs), sum(run.window_seconds for run in runs) / len(runs)),
    **{name: partial(_latency, name=name) for name in _LATENCIES},
}


def _drift(campaign: Campaign, scenarios: Sequence[ScenarioResult]) -> tuple[Drift, ...]:
    began = {(run.scenario, run.repeat): run.baseline_us for run in campaign.runs}
    runs = [(run, scenario.type == "control") for scenario in scenarios for run in scenario.runs]
    runs.sort(key=lambda pair: began[pair[0].scenario, pair[0].repeat])
    return drifts([run for run, _ in runs], [run for run, control in runs if control])


def _residue(campaign: Campaign) -> tuple[Residue, ...]:
    """What was not undone: steps whose last undo failed, and what the campaign itself says it left behind."""
    left: dict[tuple[str, int, str], Residue] = {}
    for run in campaign.runs:
        for step in run.steps:
            key = (run.scenario, run.repeat, str(step["step"]))
            if step["event"] == Event.UNDO_FAILED:
                detail = step["detail"]
                left[key] = Residue(
                    scenario=run.scenario,
                    repeat=run.repeat,
                    step=key[2],
                    reason=str(detail.get("reason", "")),
                    command=str(detail.get("command", "")),
                )
            elif step["event"] == Event.UNDONE:
                left.pop(key, None)
    if not left and campaign.meta.get("status") == "not_reverted":
        commands = "; ".join(map(str, campaign.meta.get("commands", ())))
        reason = str(campaign.meta.get("reason", ""))
        return (Residue(scenario="", repeat=None, step="", reason=reason, command=commands),)
    return tuple(left.values())


def _scenarios(meta: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(entry["name"]): entry for entry in meta["scenarios"]}


def _slos(meta: Mapping[str, Any]) -> tuple[Slo, ...]:
    return tuple(Slo(**fields) for fields in meta["slos"])


def _required(meta: Mapping[str, Any]) -> int:
    return int(meta.get("required_health_checks", 3))


def _probe(meta: Mapping[str, Any]) -> str:
    probe = meta.get("probe")
    return str(probe["name"]) if isinstance(probe, Mapping) and "name" in probe else metrics.HEALTH


_VERDICT_COLUMNS: Final = (
    "scenario",
    "type",
    "intensity",
    "metric",
    "value",
    "low",
    "high",
    "unit",
    "n",
    "comparison",
    "threshold",
    "severity",
    "outcome",
    "repeats_needed",
    "reason",
    "method",
)


def _verdict_row(scenario: ScenarioResult, verdict: Verdict) -> dict[str, Any]:
    shown = verdict.estimate.as_dict() | verdict.as_dict() | {"type": scenario.type, "intensity": scenario.intensity}
    return {name: shown[name] for name in _VERDICT_COLUMNS}


def _run_row(run: RunMetrics) -> dict[str, Any]:
    mttr, recovery = run.mttr, run.recovery
    return {
        "scenario": run.scenario,
        "repeat": run.repeat,
        "requests": run.requests,
        "failed": run.failed,
        "unsent": run.unsent,
        "late": run.late,
        "lag_max_ms": run.lag_max_ms,
        "outages": len(run.outages),
        "error_rate_percent": run.error_rate_percent,
        "availability_percent": run.availability_percent,
        "downtime_seconds": run.down_seconds,
        "mttr_seconds": mttr.seconds if mttr else None,
        "mttr_censored": mttr.censored if mttr else None,
        "recovery_time_seconds": recovery.seconds if recovery else None,
        "recovery_censored": recovery.censored if recovery else None,
        "first_success_seconds": run.first_success.seconds,
        "first_success_censored": run.first_success.censored,
        "longest_outage_seconds": run.longest_outage.seconds,
        "longest_good_streak": run.longest_good_streak,
        "latency_degradation_ms": run.latency_degradation_ms,
        **run.latency,
    }


def _run_fields(run: RunMetrics) -> dict[str, Any]:
    return asdict(run) | {
        "error_rate_percent": run.error_rate_percent,
        "availability_percent": run.availability_percent,
        "up_seconds": run.up_seconds,
    }


def _scenario_head(scenario: ScenarioResult) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "type": scenario.type,
        "intensity": scenario.intensity,
        "outcome": scenario.outcome,
        "reason": scenario.reason,
        "usable_runs": len(scenario.runs),
        "excluded_runs": [asdict(run) for run in scenario.excluded],
    }


def _plain_object(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): _plain(value) for key, value in fields.items()}


def _plain(value: Any) -> Any:
    """Return `value` as JSON has it: no tuples, no NaN, no infinity."""
    if isinstance(value, Mapping):
        return _plain_object(value)
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

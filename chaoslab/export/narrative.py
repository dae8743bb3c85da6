"""What an analysis says, in sentences and rows: the one source of the words in the report and in Markdown.

Everything returned is plain text; whoever writes markup escapes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chaoslab import wording
from chaoslab.records import LAG_LIMIT_US
from chaoslab.wording import METRIC_NAMES, NOT_MEASURED, listed, plural

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis, Residue, ScenarioResult
    from chaoslab.intervals import Estimate
    from chaoslab.metrics import RunMetrics
    from chaoslab.records import Dose
    from chaoslab.scenario import Severity
    from chaoslab.verdict import Verdict

OUTCOME_MARKS: Final = {"pass": "●", "fail": "✕", "inconclusive": "◇"}
"""The shapes that figures, tables and Markdown share."""

OUTCOME_WORDS: Final = {"pass": "Passed", "fail": "Failed", "inconclusive": "Inconclusive"}

NOT_RECORDED: Final = "not recorded"
_LATE_SHARE: Final = 0.01

ESTIMATE_NAMES: Final = {
    **METRIC_NAMES,
    "mttr_median_seconds": "time to repair, median run",
    "recovery_time_median_seconds": "recovery time, median run",
    "first_success_seconds": "first success after the fault was over",
    "longest_outage_seconds": "longest outage",
    "downtime_seconds": "downtime during injection",
    **{
        f"{kind}latency_{phase}_{quantile}_ms": f"{words} {phase}, {quantile}"
        for kind, words in (("", "latency of successes,"), ("failure_", "latency of failures,"))
        for phase in ("baseline", "injection", "recovery")
        for quantile in ("p50", "p95", "p99")
    },
}
"""Every estimate of a scenario, as readers know it, in the order in which tables show them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something to know before the numbers; `command`, if any, puts it right. `grave`: it needs somebody now."""

    text: str
    command: str = ""
    grave: bool = False


# The answer


def headline(analysis: Analysis) -> str:
    """Return the verdict as one sentence."""
    blocking = [v for v in analysis.verdicts if v.slo.severity == "blocking"]
    if not blocking:
        return "No objective was judged, so nothing is shown to hold."
    count = Counter(verdict.outcome for verdict in blocking)
    of_all = f"of {plural(len(blocking), 'objective')}"
    undecided = f"{count['inconclusive']} cannot be decided yet"
    if count["fail"]:
        verb = "is" if count["fail"] == 1 else "are"
        return f"{count['fail']} {of_all} {verb} missed{f', {undecided}' if count['inconclusive'] else ''}."
    if count["inconclusive"]:
        return f"No objective is shown to be missed, but {undecided.replace(' cannot', f' {of_all} cannot')}."
    return "The one objective holds." if len(blocking) == 1 else f"All {len(blocking)} objectives hold."


def setting(analysis: Analysis) -> str:
    """Return what was run, where and when, as one sentence."""
    meta = analysis.campaign
    build = f" ({', '.join(map(str, parts))})" if (parts := _target_parts(meta)) else ""
    scale = float(meta.get("duration_scale", 1.0))
    scaled = "" if scale == 1 else f" All durations were scaled by {scale:g}."
    return (
        f"{plural(len(analysis.scenarios), 'scenario')}, each run {plural(int(meta.get('repeats', 1)), 'time')}, "
        f"against {meta.get('target', NOT_RECORDED)}{build}, "
        f"held against the objectives of {_environment(meta)}.{scaled}"
    )


def _target_parts(meta: Mapping[str, Any]) -> list[str]:
    name, build = meta.get("target_name"), meta.get("target_build")
    return [part for part in (name, f"build {build}" if build else None) if part]


def _environment(meta: Mapping[str, Any]) -> str:
    return f"the environment {meta['environment']}" if meta.get("environment") else "no particular environment"


def problems(analysis: Analysis) -> list[Problem]:
    """Return what a reader must know before any number: residue first, then what stopped, then what does not count."""
    found = [_left_behind(residue) for residue in analysis.residue]
    status = analysis.campaign.get("status", "finished")
    if status == "running":
        found.append(Problem(text="The campaign has no end: it is still running, or chaoslab was killed.", grave=True))
    elif status != "finished":
        reason = str(analysis.campaign.get("reason", "")).rstrip(".")
        found.append(Problem(text=f"The campaign did not run to its end ({status.replace('_', ' ')}): {reason}."))
    found += [Problem(text=text) for text in (analysis.campaign.get("imported") or {}).get("warnings", ())]
    found += [
        Problem(text=f"{result.name}: no run counts, so nothing is concluded: {result.reason.rstrip('.')}.")
        for result in analysis.scenarios
        if result.reason
    ]
    found += [Problem(text=text) for result in analysis.scenarios if not result.reason for text in _excluded(result)]
    found += [Problem(text=text) for result in analysis.scenarios for text in _instrument(result)]
    found += [
        Problem(text=f"The machine or the target drifted: {drift}. Runs came in random order, so intervals are wider.")
        for drift in analysis.drift
        if drift.warns
    ]
    return found


def _left_behind(residue: Residue) -> Problem:
    run = "" if residue.repeat is None else f", repeat {residue.repeat}"
    step, reason = residue.step or "a step", residue.reason.rstrip(".")
    text = f"Still broken: {step} of {residue.scenario}{run} could not be reverted: {reason}."
    return Problem(text=text, command=residue.command, grave=True)


def _instrument(result: ScenarioResult) -> list[str]:
    """Return what was wrong with the prober itself in the runs that count."""
    late = [run for run in result.runs if run.late_share > _LATE_SHARE]
    unsent = [run for run in result.runs if run.unsent]
    found = []
    if late:
        share, worst = max(run.late_share for run in late), max(run.lag_max_ms for run in late)
        found.append(
            f"{result.name}: the prober itself was late in repeat {listed([str(run.repeat) for run in late])}: up to "
            f"{share:.0%} of a phase's probes left more than {LAG_LIMIT_US / 1e3:g} ms after their instant (at worst "
            f"{worst:.0f} ms). Their latencies count from when they left."
        )
    if unsent:
        found.append(
            f"{result.name}: {plural(sum(run.unsent for run in unsent), 'probe')} never left, since the prober had no "
            f"free connection, in repeat {listed([str(run.repeat) for run in unsent])}; they count nowhere."
        )
    return found


def _excluded(result: ScenarioResult) -> list[str]:
    """Return one sentence a reason, naming the repeats that it excludes."""
    by_reason: dict[str, list[str]] = {}
    for run in result.excluded:
        by_reason.setdefault(run.reason.rstrip("."), []).append(str(run.repeat))
    return [
        f"{result.name}: repeat {listed(repeats)} {'does' if len(repeats) == 1 else 'do'} not count: {reason}."
        for reason, repeats in by_reason.items()
    ]


# Verdicts


def metric_name(verdict: Verdict) -> str:
    """Return the metric's name, marked if missing the objective is only reported."""
    return METRIC_NAMES[verdict.slo.metric] + (" (warning)" if verdict.slo.severity == "warning" else "")


def objective(verdict: Verdict) -> str:
    """Return the threshold with its side: "≤ 5 %"."""
    return wording.objective(verdict.slo.comparison, verdict.slo.threshold, verdict.slo.unit)


def outcome(verdict: Verdict) -> str:
    """Return mark and word: "✕ fail"."""
    return f"{OUTCOME_MARKS[verdict.outcome]} {verdict.outcome}"


def missed(analysis: Analysis, severity: Severity = "blocking") -> list[str]:
    """Return one sentence for each scenario that misses objectives of this severity."""
    sentences = []
    for result in analysis.scenarios:
        failed = [v for v in result.verdicts if v.outcome == "fail" and v.slo.severity == severity]
        said = [f"{METRIC_NAMES[v.slo.metric]} {wording.estimate(v.estimate)} ({objective(v)})" for v in failed]
        if said:
            sentences.append(f"{result.name}: {'; '.join(said)}.")
    return sentences


# One scenario


def story(result: ScenarioResult) -> list[str]:
    """Return what happened in a scenario, a sentence each."""
    if not result.runs:
        return [f"No run counts: {result.reason.rstrip('.') or NOT_RECORDED}.", *_excluded(result)]
    return [
        _counted(result),
        *_excluded(result),
        _lengths(result.planned),
        _requests(result.runs),
        _down(result),
        _back(result),
        _slower(result),
    ]


def _lengths(planned: Mapping[str, Any]) -> str:
    phases, asked = planned.get("phases"), planned.get("duration")
    whole = NOT_RECORDED if asked is None else f"{asked:g} s"
    if not phases:
        return f"Injected for {whole}." if asked is not None else f"The length of the injection is {NOT_RECORDED}."
    scaled = f" (of {whole}, scaled)" if asked is not None and phases["injection"] != asked else ""
    return (
        f"{phases['baseline']:g} s of baseline, {phases['injection']:g} s of injection{scaled}, "
        f"{phases['recovery']:g} s of recovery."
    )


def _counted(result: ScenarioResult) -> str:
    all_runs = len(result.runs) + len(result.excluded)
    if all_runs == len(result.runs):
        return f"{'The one run counts' if all_runs == 1 else f'All {all_runs} runs count'}."
    return f"{len(result.runs)} of {plural(all_runs, 'run')} {'counts' if len(result.runs) == 1 else 'count'}."


def _requests(runs: Iterable[RunMetrics]) -> str:
    runs = list(runs)
    total, failed = sum(run.requests for run in runs), sum(run.failed for run in runs)
    kinds = Counter[str]()
    for run in runs:
        kinds.update(run.failures_by_kind)
    if not failed:
        return f"None of {plural(total, 'probe')} during injection failed."
    named = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items(), key=lambda one: (-one[1], one[0])))
    return f"{failed:,} of {plural(total, 'probe')} during injection failed{f' ({named})' if named else ''}."


def _down(result: ScenarioResult) -> str:
    available = _said(result.estimates["availability_percent"])
    outages = sum(len(run.outages) for run in result.runs)
    if not outages:
        return f"No outage was seen; availability during injection was {available}."
    open_ones = sum(outage.censored for run in result.runs for outage in run.outages)
    never = f", {open_ones} of them still open when the recording ended" if open_ones else ""
    return (
        f"{plural(outages, 'outage')}{never}; availability during injection was {available} "
        f"and MTTR {_said(result.estimates['mttr_seconds'])}."
    )


def _back(result: ScenarioResult) -> str:
    took = f"Full operation took {_said(result.estimates['recovery_time_seconds'])} after the fault was over"
    never = sum(run.recovery is not None and run.recovery.censored for run in result.runs)
    if 0 < never < len(result.runs):
        return f"{took}; in {never} of {plural(len(result.runs), 'run')} it was not back when the recording ended."
    return f"{took}."


def _slower(result: ScenarioResult) -> str:
    quantiles = [result.estimates[f"latency_{phase}_p95_ms"].value for phase in ("baseline", "injection")]
    before, during = (wording.quantity(found, "ms") for found in quantiles)
    degradation = _said(result.estimates["latency_degradation_ms"])
    return f"p95 of latency was {before} before and {during} during injection; degradation {degradation}."


def _said(estimate: Estimate) -> str:
    """Return an estimate for running text; without a value, why."""
    if estimate.value is None:
        why_not = f" ({estimate.reason.rstrip('.')})" if estimate.reason else ""
        return f"{wording.value(estimate)}{why_not}"
    return wording.estimate(estimate)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateRow:
    """One estimate as a table row."""

    name: str
    value: str
    interval: str
    n: int
    method: str
    reason: str


def estimate_rows(result: ScenarioResult) -> list[EstimateRow]:
    """Return every estimate of a scenario that has a value, in the order of `ESTIMATE_NAMES`."""
    return [
        EstimateRow(
            name=ESTIMATE_NAMES[key],
            value=wording.value(found),
            interval=wording.interval(found) or "–",
            n=found.n,
            method=found.method,
            reason=found.reason,
        )
        for key in ESTIMATE_NAMES
        if (found := result.estimates.get(key)) is not None and found.value is not None
    ]


# Doses


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseRow:
    """The doses of one quantity of one scenario."""

    scenario: str
    doses: tuple[Dose, ...]

    @property
    def quantity(self) -> str:
        """What was dosed."""
        return self.doses[0].quantity

    @property
    def asked(self) -> str:
        """What was asked for."""
        return f"{self.doses[0].asked:g} {self.doses[0].unit}"

    @property
    def accepted(self) -> str:
        """The tolerance."""
        one = self.doses[0]
        return f"{wording.number(one.low)} to {wording.number(one.high)} {one.unit}"

    @property
    def measured(self) -> str:
        """The least to the greatest measurement."""
        known = [one.delivered for one in self.doses if one.delivered is not None]
        if not known:
            return NOT_MEASURED
        span = dict.fromkeys(wording.number(value) for value in (min(known), max(known)))
        missing = len(self.doses) - len(known)
        return f"{' to '.join(span)} {self.doses[0].unit}" + (f"; {NOT_MEASURED} in {missing}" if missing else "")

    @property
    def within(self) -> str:
        """In how many runs the dose was delivered."""
        good = sum(one.ok for one in self.doses)
        mark = OUTCOME_MARKS["pass" if good == len(self.doses) else "fail"]
        return f"{mark} {good} of {plural(len(self.doses), 'run')}"

    @property
    def mechanism(self) -> str:
        """What delivered it."""
        return listed(dict.fromkeys(one.mechanism for one in self.doses))

    @property
    def how(self) -> str:
        """How it was measured."""
        return listed(dict.fromkeys(one.how for one in self.doses))


def dose_rows(analysis: Analysis) -> list[DoseRow]:
    """Return one row a scenario and quantity."""
    rows = []
    for result in analysis.scenarios:
        by_quantity: dict[str, list[Dose]] = {}
        for dose in result.doses:
            by_quantity.setdefault(dose.quantity, []).append(dose)
        rows += [DoseRow(scenario=result.name, doses=tuple(doses)) for doses in by_quantity.values()]
    return rows


def undosed(analysis: Analysis) -> list[str]:
    """Return a sentence for each scenario that injects and has no dose on record."""
    return [
        f"{result.name}: no dose was recorded, so nothing shows that the fault was there."
        for result in analysis.scenarios
        if result.type != "control" and not result.doses
    ]


# Method and limits


def omissions(analysis: Analysis) -> list[tuple[str, str, str]]:
    """Return (scenario, metric, why) for each SLO metric without a value or without an interval, unless it passed."""
    rows = []
    for result in analysis.scenarios:
        passed = {verdict.metric for verdict in result.verdicts if verdict.outcome == "pass"}
        for key, name in METRIC_NAMES.items():
            found = result.estimates[key]
            if found.low is None and found.high is None and key not in passed:
                reason = found.reason.rstrip(".") or NOT_RECORDED
                rows.append((result.name, name, reason if found.value is None else f"no interval: {reason}"))
    return rows


def methods(analysis: Analysis) -> list[tuple[str, str]]:
    """Return (metric, methods of its intervals) for the metrics that objectives name."""
    return [
        (name, listed(dict.fromkeys(used)))
        for key, name in METRIC_NAMES.items()
        if (used := [e.method for r in analysis.scenarios if (e := r.estimates[key]).value is not None])
    ]


def mechanisms(analysis: Analysis) -> list[tuple[str, str]]:
    """Return (scenario, mechanism that delivered its fault)."""
    return [(result.name, str(result.planned.get("mechanism", NOT_RECORDED))) for result in analysis.scenarios]


def provenance(analysis: Analysis) -> list[tuple[str, str]]:
    """Return (what, value) of everything that is needed to run the same again."""
    meta = analysis.campaign
    probe, host, configuration = (meta.get(key) or {} for key in ("probe", "host", "configuration"))
    rows = {
        "Campaign": meta.get("campaign"),
        "Started": meta.get("started_at"),
        "Finished": meta.get("finished_at"),
        "Target": " · ".join([str(meta.get("target", NOT_RECORDED)), *_target_parts(meta)]),
        "Probe": _probe(probe),
        "Recovered after": _checks(meta.get("required_health_checks")),
        "Environment": meta.get("environment") or "none given",
        "Seed": meta.get("seed"),
        "Repeats": meta.get("repeats"),
        "Scale of durations": f"× {float(meta.get('duration_scale', 1.0)):g}",
        "Drift": "; ".join(map(str, analysis.drift)),
        "May be unseen": _unseen(analysis),
        "Order of runs": ", ".join(f"{scenario} #{repeat}" for scenario, repeat in meta.get("order", [])),
        "Configuration": configuration.get("file"),
        "SHA-256 of configuration": configuration.get("sha256"),
        "Host": _host(host),
        "Versions": ", ".join(f"{name} {version}" for name, version in sorted((meta.get("versions") or {}).items())),
        "Command line": meta.get("command_line"),
        **_origin(meta.get("imported")),
    }
    return [(name, NOT_RECORDED if value in (None, "") else str(value)) for name, value in rows.items()]


def _origin(imported: Mapping[str, Any] | None) -> dict[str, str]:
    """Say which files of another tool a recording was imported from; nothing for one of our own."""
    if not imported:
        return {}
    files = (f"{file.get('name')} (SHA-256 {file.get('sha256')})" for file in imported.get("files", ()))
    return {"Imported from": f"{imported.get('format')}: {', '.join(files)}"}


def _unseen(analysis: Analysis) -> str:
    """Say what so few runs cannot show, for the scenario with the fewest that count."""
    counted = [result.estimates["error_rate_percent"] for result in analysis.scenarios if result.runs]
    if not counted:
        return ""
    fewest = min(counted, key=lambda estimate: estimate.n)
    return (
        f"what happens in up to {fewest.unseen_percent:.0f} % of runs may not have shown in {plural(fewest.n, 'run')} "
        "(95 % confidence)"
    )


def _probe(probe: Mapping[str, Any]) -> str:
    if not probe:
        return NOT_RECORDED
    rate, timeout = (
        NOT_RECORDED if (value := probe.get(name)) is None else f"{value:g}" for name in ("rate_hz", "timeout_seconds")
    )
    return f"{probe.get('url') or NOT_RECORDED}, {rate} a second, time-out {timeout} s"


def _checks(count: Any) -> str:
    return NOT_RECORDED if count is None else f"{plural(int(count), 'good probe')} in a row"


def _host(host: Mapping[str, Any]) -> str:
    if not host:
        return NOT_RECORDED
    memory = f"{float(host.get('memory_bytes') or 0) / 1024**3:.1f} GiB"
    return f"{host.get('system')}, {host.get('cpus')} CPUs, {memory} memory, Python {host.get('python')}"

"""What one run's probes say: outages, errors, availability, recovery, latency, and what the host did meanwhile.

Instants are microseconds since the campaign's anchor. A probe counts to the phase in which it was *scheduled*, and its
latency runs from there (open loop), so that a stalled service cannot hide its stall by slowing the prober. Its
*completion* is scheduled + latency.

Each edge of an outage lies between two probes, and the middle is its estimate: the service went down after the last
answer before, at the latest at the scheduled instant of the first probe that did not succeed; it came back after the
scheduled instant of the last such probe, at the latest at the first completion among the consecutive good probes that
confirm the recovery. A probe that was kept waiting until then leaves nothing between: a frozen service answers what it
owes when it comes back, and that is when it came back. Counting failed probes × interval would miss up to one time-out;
counting from the first failed probe misses half an interval of every freeze, whose end is exact. (Where probes are
rarer than their time-out, a freeze may end with none waiting, and the middle lies up to half a time-out early.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from chaoslab.errors import CampaignFolderError
from chaoslab.records import LAG_LIMIT_US, PROBES, ErrorKind, Outcome, RunState
from chaoslab.store import Run

Phase = Literal["baseline", "injection", "recovery"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
QUANTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
LEAST_PROBES: Final = {"p50": 2, "p95": 20, "p99": 100}
"""Probes below which a quantile would be no more than the slowest one: 1 / (1 − q); it is then not measured."""
HEALTH: Final = "health"
LEAST_WATCHED: Final = 0.9
"""Share of the injection that probes must have watched for a run to count."""

_ENVELOPE_QUANTILE: Final = 0.99
_ENVELOPE_SLACK_MS: Final = 5.0
_ENVELOPE_SLACK_SHARE: Final = 0.10
_GAP_FACTOR: Final = 5.0
_HELD_SHARE: Final = 0.25  # of an interval: an answer that much slower than usual was waiting for the service
_SHORTEST_SERIES: Final = 8
_LONGEST_SERIES: Final = 4096
_COUNTERS: Final = ("disk_read_bytes", "disk_written_bytes", "network_sent_bytes", "network_received_bytes")

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A time in which the service did not answer; instants are microseconds since the campaign's anchor.

    It began within (`seen_up_us`, `began_us`] and was over within (`seen_down_us`, `ended_us`]; `seconds` counts from
    the middle of one to that of the other. `ended_us` is None for an outage that was open when the run ended; `seconds`
    then counts to there and is `censored`. `seen_up_us` is None when no probe before it succeeded, which leaves
    `began_us`. `noticed_us` is when its first failure was known.
    """

    began_us: int
    ended_us: int | None
    seen_up_us: int | None
    seen_down_us: int
    noticed_us: int
    seconds: float

    @property
    def censored(self) -> bool:
        """Whether its end was not seen."""
        return self.ended_us is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A length of time that ended within (`at_least`, `seconds`]; if `censored`, its end was not seen at all."""

    seconds: float
    at_least: float
    censored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMetrics:
    """One run, measured. Counts and shares are of the injection phase unless they say otherwise.

    Attributes:
        requests: probes that were sent; `failed` of them did not succeed, by kind in `failures_by_kind`.
        unsent: probes of the whole run that never left, by the prober's own fault; they count nowhere else.
        late: probes of the whole run that the prober sent late (`records.LAG_LIMIT_US`), whose latency counts from
            there; `late_share` is the largest share of them in a phase, `lag_max_ms` the worst of the run.
        health_check_failures: failed probes from the start of the injection to the end of the run.
        window_seconds: length of the injection; `down_seconds` of it the service was down, by the edges above with one
            good probe ending a downtime. `watched` is the share of it in which there were probes.
        outages: those that began after the injection did, confirmed over by the required number of good probes.
        mttr: mean length of `outages`, None when there was none; censored when the last one is.
        longest_outage: of `outages`; zero seconds when there was none.
        longest_good_streak: most successes in a row during the injection.
        envelope_ms: latency up to which a probe counts as back to normal (`envelope_ms`).
        recovery: from the end of the fault to the first of the required number of good probes within the envelope.
        first_success: from the end of the fault to the first completed success.
        latency: quantiles by name, `latency_injection_p95_ms` of successes and `failure_latency_…` of failures, ms.
        independent: how many independent latencies those of a phase are worth, by `latency_injection` and so on.
        latency_degradation_ms: p95 of successes in the injection minus that of the baseline.
        host: means and extremes of the host's resources by phase.
    """

    scenario: str
    repeat: int
    requests: int
    failed: int
    unsent: int
    failures_by_kind: Mapping[str, int]
    health_check_failures: int
    window_seconds: float
    down_seconds: float
    watched: float
    outages: tuple[Outage, ...]
    mttr: Span | None
    longest_outage: Span
    longest_good_streak: int
    envelope_ms: float | None
    recovery: Span | None
    first_success: Span
    latency: Mapping[str, float | None]
    independent: Mapping[str, float]
    latency_degradation_ms: float | None
    host: Mapping[Phase, Mapping[str, float]]
    late: int = 0
    late_share: float = 0.0
    lag_max_ms: float = 0.0

    @property
    def error_rate_percent(self) -> float | None:
        """Failed probes per hundred, None without probes."""
        return 100 * self.failed / self.requests if self.requests else None

    @property
    def up_seconds(self) -> float:
        """Seconds of the injection in which the service was up."""
        return self.window_seconds - self.down_seconds

    @property
    def availability_percent(self) -> float:
        """Up seconds per hundred seconds of the injection."""
        return 100 * self.up_seconds / self.window_seconds


def unusable(run: Run, *, control: bool, imported: bool = False) -> str:
    """Return why `run` must not be analysed, or an empty string.

    A run counts if it completed, began in steady state and, unless it is a control, delivered every dose it
    measured, of which there must be one. An imported one has none: what its probes saw is measured, and not judged.
    """
    if run.state is not RunState.COMPLETED:
        named = str(run.state).replace("_", " ")
        return f"{named}: {run.reason}" if run.reason else named
    if not run.steady:
        return f"no steady state before the injection{f': {run.unsteady}' if run.unsteady else ''}"
    if control or imported:
        return ""
    if not run.doses:
        return "no dose was measured: nothing shows that the fault was delivered"
    missed = [dose.quantity for dose in run.doses if not dose.ok]
    return f"the dose was not delivered: {', '.join(missed)}" if missed else ""


def measure(
    run: Run,
    probes: pd.DataFrame,
    resources: pd.DataFrame,
    *,
    required: int = 3,
    probe: str = HEALTH,
    bursts: float = 0.0,
) -> RunMetrics:
    """Return what `probes` and `resources` say about `run`.

    Args:
        run: a completed run.
        probes: its rows, as `store.Campaign.probes_of` gives them: columns of `records.PROBES`, in any order.
        resources: its rows, as `store.Campaign.resources_of` gives them.
        required: consecutive good probes that confirm a recovery.
        probe: name of the probe that is the service's measure; others are not looked at.
        bursts: seconds over which probes may come together with none between; 0 where they come evenly.

    Raises:
        CampaignFolderError: rows that cannot be: missing or mistyped columns, duplicates, a clock that goes
            backwards, a run without its windows.
    """
    where = f"{run.scenario}, repeat {run.repeat}"
    starts, over_us = _windows(run, where)
    check_probes(probes, where)
    mine = _by_sequence(probes, (probes["probe"] == probe).to_numpy())
    sent = _by_sequence(mine, (mine["error"] != ErrorKind.UNSENT).to_numpy())
    seen = _Seen.of(sent, starts, run.finished_us)
    injected, reverted = int(starts[1]), int(starts[2])
    during = seen.in_phase("injection")
    outages = find_outages(seen.scheduled, seen.completed, seen.good, required=required, until_us=run.finished_us)
    found = tuple(since for outage in outages if (since := _since(outage, injected, run.finished_us)))
    envelope = envelope_ms(seen.latency[seen.good & seen.in_phase("baseline")] / 1e3)
    series = _latencies_by_phase(seen)
    latency = _latencies(series)
    return RunMetrics(
        scenario=run.scenario,
        repeat=run.repeat,
        requests=int(during.sum()),
        failed=int((during & ~seen.good).sum()),
        unsent=len(mine) - len(sent),
        failures_by_kind=_kinds(sent.loc[during & ~seen.good, "error"]),
        health_check_failures=int((~seen.good & (seen.phase >= PHASES.index("injection"))).sum()),
        window_seconds=(reverted - injected) / 1e6,
        down_seconds=down_seconds(seen.scheduled, seen.completed, seen.good, window_us=(injected, reverted)),
        watched=_watched(mine["scheduled_us"].to_numpy(dtype=np.int64), injected, reverted, bursts * 1e6),
        outages=found,
        mttr=_mean_outage(found),
        longest_outage=_longest(found),
        longest_good_streak=_longest_streak(seen.good[during]),
        envelope_ms=envelope,
        recovery=_recovery(seen, envelope, required, over_us, run.finished_us),
        first_success=_first_success(seen, envelope, over_us, run.finished_us),
        latency=latency,
        independent={name: effective_size(np.log(chosen + 0.001)) for name, chosen in series.items()},
        latency_degradation_ms=_difference(latency["latency_injection_p95_ms"], latency["latency_baseline_p95_ms"]),
        host=host_by_phase(resources, run),
        late=int(seen.late.sum()),
        late_share=max(_share(seen.late[seen.in_phase(phase)]) for phase in PHASES),
        lag_max_ms=float(seen.lag.max(initial=0)) / 1e3,
    )


def _share(chosen: Bools) -> float:
    return float(chosen.mean()) if len(chosen) else 0.0


def _by_sequence(rows: pd.DataFrame, chosen: Bools) -> pd.DataFrame:
    """Return the chosen rows in order of `seq`; what is whole and in order already is not copied."""
    kept = rows if chosen.all() else rows.loc[chosen]
    return kept if kept["seq"].is_monotonic_increasing else kept.sort_values("seq", kind="stable")


def check_probes(probes: pd.DataFrame, where: str) -> None:
    """Raise CampaignFolderError unless `probes` are rows that one run can have; `where` names it in the message."""
    missing = [name for name in PROBES.names if name not in probes.columns]
    if missing:
        raise CampaignFolderError(f"{where}: probes lack the column {missing[0]!r}")
    for name in ("seq", "scheduled_us", "latency_us"):
        if not pd.api.types.is_integer_dtype(probes[name].dtype) or probes[name].hasnans:
            raise CampaignFolderError(
                f"{where}: the column {name!r} of probes is {probes[name].dtype}; accepted: whole numbers"
            )
    names, seq, scheduled = probes["probe"], probes["seq"].to_numpy(), probes["scheduled_us"].to_numpy()
    codes = names.cat.codes.to_numpy() if isinstance(names.dtype, pd.CategoricalDtype) else pd.factorize(names)[0]
    if len(codes) and (codes.min() != codes.max() or (np.diff(seq) < 0).any()):
        order = np.lexsort((seq, codes))
        codes, seq, scheduled = codes[order], seq[order], scheduled[order]
    same = codes[1:] == codes[:-1]
    good, failed = ((probes["outcome"] == name).to_numpy() for name in (Outcome.SUCCESS, Outcome.FAILURE))
    problems = {
        "a latency below zero": probes["latency_us"].to_numpy() < 0,
        "an outcome that is neither success nor failure": ~(good | failed),
        "a success with an error, or a failure without one": failed != probes["error"].notna().to_numpy(),
        "the same probe twice (seq)": same & (np.diff(seq) == 0),
        "a schedule that goes backwards": same & (np.diff(scheduled) < 0),
    }
    for problem, rows_hit in problems.items():
        if rows_hit.any():
            raise CampaignFolderError(f"{where}: probes hold {problem}, in {int(rows_hit.sum())} of {len(probes)} rows")


def find_outages(scheduled: Ints, completed: Ints, good: Bools, *, required: int, until_us: int) -> tuple[Outage, ...]:
    """Return the outages of a probe series, in order.

    Args:
        scheduled, completed: instants of the probes, in order of schedule.
        good: whether each succeeded.
        required: consecutive good probes that end an outage; fewer of them are part of it.
        until_us: when the run ended.

    >>> at = np.arange(8) * 100
    >>> [outage] = find_outages(at, at + 10, np.array([1, 1, 0, 0, 1, 0, 1, 1], bool), required=2, until_us=800)
    >>> outage.began_us, outage.ended_us, outage.seen_up_us, outage.seen_down_us
    (200, 610, 110, 500)
    >>> outage.seconds
    0.0004
    """
    edges = _Edges.of(scheduled, completed, good, required)
    return tuple(
        Outage(
            began_us=int(began),
            ended_us=None if over == _NEVER else int(over),
            seen_up_us=int(up) if first else None,
            seen_down_us=int(down),
            noticed_us=int(completed[first]),
            seconds=_seconds(_middle(up, began), until_us if over == _NEVER else _middle(down, over)),
        )
        for first, up, began, down, over in zip(
            edges.first, edges.seen_up, edges.began, edges.seen_down, edges.ended, strict=True
        )
    )


def down_seconds(scheduled: Ints, completed: Ints, good: Bools, *, window_us: tuple[int, int]) -> float:
    """Return how long the service was down within `window_us`; here one good probe ends a downtime.

    >>> at = np.arange(5) * 100_000
    >>> down_seconds(at, at + 10_000, np.array([1, 0, 0, 1, 1], bool), window_us=(0, 500_000))
    0.2
    """
    edges = _Edges.of(scheduled, completed, good, 1)
    low, high = window_us
    # What began within the window was not there before the window was.
    began = _middle(np.maximum(edges.seen_up, low), np.maximum(edges.began, low))
    ended = _middle(edges.seen_down, edges.ended)
    # A good probe that was answered late, between two failures, must not count the time twice.
    ended = np.minimum(ended, np.append(began[1:], _NEVER)[: len(ended)])
    return float(np.maximum(0, np.minimum(ended, high) - began).sum()) / 1e6


def envelope_ms(baseline_ms: NDArray[np.float64]) -> float | None:
    """Return the latency up to which a probe counts as back to normal, from the successes of the baseline.

    It is their 99th percentile (one of them, so with fewer than a hundred it is the largest) plus a tenth of it, or
    5 ms if that is more: the noise of the instrument must not pass for a service that has not recovered. One slow
    probe in a hundred is normal, so a healthy service soon has three good ones in a row.

    >>> envelope_ms(np.array([19.0, 20.0, 30.0])), envelope_ms(np.array([100.0])), envelope_ms(np.array([]))
    (35.0, 110.0, None)
    """
    if not len(baseline_ms):
        return None
    usual = float(np.quantile(baseline_ms, _ENVELOPE_QUANTILE, method="inverted_cdf"))
    return usual + max(_ENVELOPE_SLACK_MS, _ENVELOPE_SLACK_SHARE * usual)


def host_by_phase(resources: pd.DataFrame, run: Run) -> dict[Phase, dict[str, float]]:
    """Return means and extremes of the host's resources in each phase that has samples.

    Counters become bytes a second between the first and the last sample of the phase.
    """
    starts, _ = _windows(run, f"{run.scenario}, repeat {run.repeat}")
    within = _phase_of(resources["at_us"].to_numpy(dtype=np.int64), starts, run.finished_us)
    return {
        phase: _host(resources.loc[within == index]) for index, phase in enumerate(PHASES) if (within == index).any()
    }


_NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class _Seen:
    """The sent probes of a run as arrays; `phase` is an index into PHASES, −1 outside of the run.

    `lag` is how late the prober itself sent each. Latency counts from the schedule, but for a probe that was `late`
    from when it was sent: a prober that was held up must not pass for a service that was.
    """

    scheduled: Ints
    completed: Ints
    lag: Ints
    latency: Ints
    good: Bools
    phase: Ints

    @classmethod
    def of(cls, sent: pd.DataFrame, starts: Ints, finished_us: int) -> _Seen:
        scheduled = sent["scheduled_us"].to_numpy(dtype=np.int64)
        latency = sent["latency_us"].to_numpy(dtype=np.int64)
        lag = _whole(sent["sent_us"])
        return cls(
            scheduled=scheduled,
            completed=scheduled + latency,
            lag=lag,
            latency=np.where(lag > LAG_LIMIT_US, np.maximum(latency - lag, 0), latency),
            good=(sent["outcome"] == Outcome.SUCCESS).to_numpy(dtype=bool),
            phase=_phase_of(scheduled, starts, finished_us),
        )

    @property
    def late(self) -> Bools:
        found: Bools = self.lag > LAG_LIMIT_US
        return found

    def in_phase(self, phase: Phase) -> Bools:
        found: Bools = self.phase == PHASES.index(phase)
        return found


def _whole(column: pd.Series[Any]) -> Ints:
    """Return a column of whole numbers, zero where it has none; a recording made elsewhere may know no lag."""
    if pd.api.types.is_integer_dtype(column.dtype) and not column.hasnans:
        return column.to_numpy(dtype=np.int64)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    whole: Ints = np.nan_to_num(numbers).astype(np.int64)
    return whole


def _phase_of(instants: Ints, starts: Ints, finished_us: int) -> Ints:
    """Return the index in PHASES of each instant, −1 outside of the run."""
    place = np.searchsorted(starts, instants, side="right") - 1
    return np.where(instants < finished_us, place, -1)


def _windows(run: Run, where: str) -> tuple[Ints, int]:
    """Return the starts of the three phases, and the instant from which recovery counts."""
    if run.injection_us is None or run.recovery_us is None or run.fault_over_us is None:
        raise CampaignFolderError(f"{where}: the events of the run lack the start or the end of its injection")
    bounds = [run.baseline_us, run.injection_us, run.recovery_us, run.finished_us]
    if bounds != sorted(bounds) or run.injection_us == run.recovery_us or run.fault_over_us > run.finished_us:
        raise CampaignFolderError(f"{where}: the phases of the run are not in order: a clock went backwards")
    return np.array(bounds[:3], dtype=np.int64), run.fault_over_us


@dataclass(frozen=True, slots=True)
class _Edges:
    """Where outages began and ended, as arrays: within (`seen_up`, `began`] and (`seen_down`, `ended`].

    `first` is the index of the first failed probe, `ended` is `_NEVER` while open.
    """

    first: Ints
    seen_up: Ints
    began: Ints
    seen_down: Ints
    ended: Ints

    @classmethod
    def of(cls, scheduled: Ints, completed: Ints, good: Bools, required: int) -> _Edges:
        """Find them; a recovery takes `required` consecutive good probes.

        Probes fall into streaks of equal outcome. A streak is up if it is good and long enough, or the first of all:
        what lies before the first failure needs no confirmation. All between two streaks that are up is one outage.
        """
        nothing = np.array([], dtype=np.int64)
        if good.all():
            return cls(nothing, nothing, nothing, nothing, nothing)
        starts = np.flatnonzero(np.concatenate(([True], good[1:] != good[:-1])))
        lengths = np.diff(np.append(starts, len(good)))
        up = good[starts] & ((lengths >= required) | (starts == 0))
        was_up = np.concatenate(([True], up[:-1]))
        first, confirmed = starts[~up & was_up], starts[up & ~was_up]
        began = scheduled[first]
        answered = np.where(first > 0, completed[first - 1], began)
        last_failed = np.flatnonzero(~good)[-1:]
        open_ones = len(first) - len(confirmed)
        waited = completed[confirmed] - scheduled[confirmed]
        usual = float(np.median((completed - scheduled)[good])) if len(confirmed) else 0.0
        held = waited > usual + _HELD_SHARE * (scheduled[confirmed] - scheduled[confirmed - 1])
        ended = np.minimum.reduceat(completed, starts)[up & ~was_up]
        seen_down = np.where(held, ended, scheduled[confirmed - 1])
        return cls(
            first=first,
            seen_up=np.minimum(answered, began),
            began=began,
            seen_down=np.concatenate((seen_down, scheduled[last_failed[:open_ones]])),
            ended=np.concatenate((ended, np.full(open_ones, _NEVER))),
        )


def _middle(low: Any, high: Any) -> Any:
    return low + (high - low) // 2


def _since(outage: Outage, injected_us: int, finished_us: int) -> Outage | None:
    """Return the outage as far as it can be the fault's, or None.

    A probe that was under way when the fault struck was scheduled before it; the outage was not there yet.
    """
    ended = finished_us if outage.ended_us is None else outage.ended_us
    if outage.noticed_us < injected_us or ended <= injected_us:
        return None
    began = max(outage.began_us, injected_us)
    seen_up = None if outage.seen_up_us is None else max(outage.seen_up_us, injected_us)
    start = began if seen_up is None else _middle(seen_up, began)
    end = ended if outage.ended_us is None else _middle(outage.seen_down_us, ended)
    return replace(outage, began_us=began, seen_up_us=seen_up, seconds=_seconds(start, end))


def _seconds(start_us: int, end_us: int) -> float:
    return float(max(0, end_us - start_us)) / 1e6


def _at_least(outage: Outage) -> float:
    return _seconds(outage.began_us, outage.seen_down_us)


def _mean_outage(outages: tuple[Outage, ...]) -> Span | None:
    if not outages:
        return None
    return Span(
        seconds=sum(outage.seconds for outage in outages) / len(outages),
        at_least=sum(map(_at_least, outages)) / len(outages),
        censored=outages[-1].censored,
    )


def _longest(outages: tuple[Outage, ...]) -> Span:
    if not outages:
        return Span(seconds=0.0, at_least=0.0, censored=False)
    longest = max(outages, key=lambda outage: outage.seconds)
    return Span(seconds=longest.seconds, at_least=_at_least(longest), censored=longest.censored)


def _longest_streak(good: Bools) -> int:
    failures = np.flatnonzero(np.concatenate(([True], ~good, [True])))
    return int(np.diff(failures).max()) - 1


def _recovery(seen: _Seen, envelope: float | None, required: int, over_us: int, finished_us: int) -> Span | None:
    """From the end of the fault to the first of `required` probes in a row that are good and as fast as before."""
    if envelope is None:
        return None
    after = seen.scheduled >= over_us
    completed = seen.completed[after]
    well = (seen.good & (seen.latency / 1e3 <= envelope))[after]
    streaks = np.flatnonzero(_rows_of(well, required))
    if not len(streaks):
        return _open(over_us, finished_us)
    first = int(streaks[0])
    unwell = completed[:first][~well[:first]]
    return _span(over_us, int(completed[first]), unwell)


def _first_success(seen: _Seen, envelope: float | None, over_us: int, finished_us: int) -> Span:
    """From the end of the fault to the first success that tells of it.

    An answer that was under way when the fault ended tells of it only if it was held up: a service that is killed
    owes nothing any more, and what it answered in its last moment may be read after its death.
    """
    completed = seen.completed
    held = np.inf if envelope is None else envelope
    telling = (seen.scheduled >= over_us) | (seen.latency / 1e3 > held)
    answers = completed[seen.good & telling & (completed >= over_us)]
    if not len(answers):
        return _open(over_us, finished_us)
    return _span(over_us, int(answers.min()), completed[~seen.good & (completed >= over_us)])


def _rows_of(well: Bools, length: int) -> Bools:
    """Return where `length` true values in a row begin."""
    total = np.cumsum(np.concatenate(([0], well)))
    return total[length:] - total[:-length] == length if len(well) >= length else np.zeros(0, dtype=bool)


def _open(start_us: int, finished_us: int) -> Span:
    whole = _seconds(start_us, finished_us)
    return Span(seconds=whole, at_least=whole, censored=True)


def _span(start_us: int, end_us: int, seen_before: Ints) -> Span:
    """`seen_before` are instants at which it was seen not to have ended yet; those after the end were late to tell."""
    timely = seen_before[seen_before <= end_us]
    return Span(
        seconds=_seconds(start_us, end_us),
        at_least=_seconds(start_us, int(timely.max())) if len(timely) else 0.0,
        censored=False,
    )


def _watched(scheduled: Ints, start_us: int, end_us: int, bursts_us: float = 0.0) -> float:
    """Return the share of the window that lies in no gap of the schedule; a gap is five usual intervals long.

    The usual interval is the median one, and at least `bursts_us`: of probes in bursts, the median lies within one.
    """
    within = scheduled[(scheduled >= start_us) & (scheduled < end_us)]
    if not len(within):
        return 0.0
    gaps = np.diff(np.concatenate(([start_us], within, [end_us])))
    usual = float(np.median(np.diff(scheduled))) if len(scheduled) > 1 else float(end_us - start_us)
    return 1.0 - float(gaps[gaps > _GAP_FACTOR * max(usual, bursts_us)].sum()) / (end_us - start_us)


def _latencies(series: Mapping[str, NDArray[np.float64]]) -> dict[str, float | None]:
    """Return quantiles of each phase's successes and failures; the estimator of a quantile is median-unbiased.

    Hyndman & Fan 1996, *The American Statistician* 50:361, type 8: the usual interpolation lies too low in the tail,
    by so much that with 200 probes a run the interval of a p99 over ten runs missed the truth one time in four.
    """
    found: dict[str, float | None] = {}
    for name, chosen in series.items():
        known = np.quantile(chosen, list(QUANTILES.values()), method="median_unbiased") if len(chosen) else chosen
        found |= {
            f"{name}_{quantile}_ms": float(known[place]) if len(chosen) >= LEAST_PROBES[quantile] else None
            for place, quantile in enumerate(QUANTILES)
        }
    return found


def _latencies_by_phase(seen: _Seen) -> dict[str, NDArray[np.float64]]:
    """Return latencies in ms, in order of schedule."""
    return {
        f"{prefix}_{phase}": seen.latency[kind & seen.in_phase(phase)] / 1e3
        for prefix, kind in (("latency", seen.good), ("failure_latency", ~seen.good))
        for phase in PHASES
    }


def effective_size(series: NDArray[np.float64]) -> float:
    """Return how many independent values the correlated `series` is worth, when it comes to its mean.

    It is n / τ with the integrated autocorrelation time τ, summed up to the first pair of lags whose sum is negative
    (Geyer 1992, *Statistical Science* 7:473, initial positive sequence), and never more than n. A long series is
    first averaged in blocks, which leaves the variance of its mean as it is.

    >>> bool(effective_size(np.random.default_rng(1).standard_normal(1000)) > 800)
    True
    >>> bool(effective_size(np.random.default_rng(1).standard_normal(1000).cumsum()) < 20)
    True
    """
    n = len(series)
    if n < _SHORTEST_SERIES or np.ptp(series) <= 1e-9:
        return float(n)
    size = -(-n // _LONGEST_SERIES)
    blocks = series[: n - n % size].reshape(-1, size).mean(axis=1)
    count, deviations = len(blocks), blocks - blocks.mean()
    length = next_fast_len(2 * count, real=True)
    products = np.fft.irfft(np.abs(np.fft.rfft(deviations, length)) ** 2, length)[:count]
    pairs = products[: count - count % 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    of_mean = (2 * float(pairs[: negative[0] if len(negative) else None].sum()) - float(products[0])) / count**2
    return min(float(n), float(series.var()) / of_mean) if of_mean > 0 else float(n)


def _difference(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else later - earlier


def _kinds(errors: pd.Series[Any]) -> dict[str, int]:
    counts = errors.astype(str).value_counts()
    return {name: int(counts[name]) for name in sorted(counts.index)}


def _host(samples: pd.DataFrame) -> dict[str, float]:
    seconds = float(samples["at_us"].iloc[-1] - samples["at_us"].iloc[0]) / 1e6
    found = {
        "cpu_percent_mean": samples["cpu_percent"].mean(),
        "cpu_percent_max": samples["cpu_percent"].max(),
        "cpu_cores_mean": samples["cpu_cores"].mean(),
        "cpu_cores_max": samples["cpu_cores"].max(),
        "load_1m_max": samples["load_1m"].max(),
        "memory_used_bytes_mean": samples["memory_used_bytes"].mean(),
        "memory_used_bytes_max": samples["memory_used_bytes"].max(),
        "memory_available_bytes_min": samples["memory_available_bytes"].min(),
    }
    if seconds > 0:
        for name in _COUNTERS:
            grown = samples[name].iloc[-1] - samples[name].iloc[0]
            found[f"{name}_per_second"] = max(0.0, float(grown)) / seconds
    return {name: float(value) for name, value in found.items()}

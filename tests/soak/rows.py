"""Lost rows: whatever a campaign's folder lacks, has twice, or has otherwise than its instruments say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from chaoslab import store
from chaoslab.records import ErrorKind, Event, Outcome, RunState
from chaoslab.store import Run, RunKey

_ROUNDING_US = 1
_FIRST_PROBE_US = 100_000


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted in one campaign; `problems` is empty when no row is missing."""

    runs: int
    delivered: int
    probes: int
    failures: int
    unsent: int
    resources: int
    worst_lag_us: int
    problems: tuple[str, ...]
    reasons: tuple[str, ...]


def count(campaign: store.Campaign) -> Count:
    """Count a campaign's rows, and find what is wrong with them."""
    instruments = [found for run in campaign.runs if (found := _instruments(run))]
    probers = [found["prober"] for found in instruments]
    return Count(
        runs=len(campaign.runs),
        delivered=sum(run.state == RunState.COMPLETED for run in campaign.runs),
        probes=len(campaign.probes),
        failures=int((campaign.probes["outcome"] == Outcome.FAILURE).sum()),
        unsent=sum(prober["unsent"] for prober in probers),
        resources=len(campaign.resources),
        worst_lag_us=max((prober["lag_max_us"] for prober in probers), default=0),
        problems=tuple(_problems(campaign)),
        reasons=tuple(f"{run.scenario} {run.repeat}: {run.state}, {run.reason}" for run in campaign.runs if run.reason),
    )


def _problems(campaign: store.Campaign) -> Iterator[str]:
    planned = [(scenario, repeat) for scenario, repeat in campaign.meta["order"]]
    recorded = [(run.scenario, run.repeat) for run in sorted(campaign.runs, key=lambda run: run.baseline_us)]
    if recorded != planned:
        yield f"{len(planned)} runs were planned, {len(recorded)} are recorded, or in another order"
    for index, run in enumerate(sorted(campaign.runs, key=lambda run: run.baseline_us)):
        name = f"{run.scenario} {run.repeat}"
        key = RunKey(campaign=campaign.name, scenario=run.scenario, repeat=run.repeat, index=index)
        yield from (f"{name}: {problem}" for problem in _of_run(campaign, run, key))


def _of_run(campaign: store.Campaign, run: Run, key: RunKey) -> Iterator[str]:
    if run.state != RunState.COMPLETED and not run.reason:
        yield f"it is {run.state} without a reason"
    for table in ("probes", "resources", "events"):
        found = sorted(path.name for path in (campaign.path / table).glob(f"{key.slug}*"))
        if found != [f"{key.slug}.parquet"]:
            yield f"its {table} are in {found or 'no file'}, not in one file"
    instruments = _instruments(run)
    if not instruments:
        yield "its instruments say nothing"
        return
    yield from _of_probes(campaign, run, instruments["prober"])
    rows, said = len(campaign.resources_of(run)), instruments["resources"]
    if said["recorded"] != rows or said["dropped"]:
        yield f"{rows} rows of resources, but the sampler recorded {said['recorded']} and dropped {said['dropped']}"


def _of_probes(campaign: store.Campaign, run: Run, said: dict[str, Any]) -> Iterator[str]:
    probes = campaign.probes_of(run)
    seq = probes["seq"].to_numpy()
    if not np.array_equal(seq, np.arange(len(seq))):
        missing = sorted(set(range(int(seq.max()) + 1)) - set(seq)) if len(seq) else []
        yield f"its probes do not count 0, 1, 2…: {len(missing)} missing, {len(seq) - len(set(seq))} twice"
    rate, scheduled = campaign.meta["probe"]["rate_hz"], probes["scheduled_us"].to_numpy()
    if len(scheduled) == 0:
        yield "it has no probes"
        return
    off = np.abs(scheduled - scheduled[0] - seq * 1e6 / rate)
    if off.max() > _ROUNDING_US:
        yield f"a probe stands {off.max():.0f} µs from its instant"
    if scheduled[0] > run.baseline_us + _FIRST_PROBE_US:
        yield f"its first probe is {(scheduled[0] - run.baseline_us) / 1e3:.0f} ms after the baseline's start"
    end_us = _end_us(campaign, run)
    if scheduled[-1] < end_us - 1e6 / rate:
        yield f"its last probe is {(end_us - scheduled[-1]) / 1e3:.0f} ms before the recovery's end"
    failed = probes["outcome"] == Outcome.FAILURE
    unsent = int((probes["error"] == ErrorKind.UNSENT).sum())
    counted = {
        "scheduled": len(probes),
        "recorded": len(probes),
        "sent": len(probes) - unsent,
        "failures": int(failed.sum()) - unsent,
        "unsent": unsent,
        "dropped": 0,
    }
    for name, number in counted.items():
        if said[name] != number:
            yield f"{name}: {number} by its rows, {said[name]} by its prober"


def _end_us(campaign: store.Campaign, run: Run) -> float:
    """Return the instant until which a run must have been probed: the end of its last phase."""
    phases = next(found["phases"] for found in campaign.meta["scenarios"] if found["name"] == run.scenario)
    if run.recovery_us is None:
        return run.baseline_us + phases["baseline"] * 1e6
    return run.recovery_us + phases["recovery"] * 1e6


def _instruments(run: Run) -> dict[str, Any]:
    ends = [step["detail"] for step in run.steps if step["event"] == Event.RUN_FINISHED]
    found: dict[str, Any] = ends[0].get("instruments", {}) if ends else {}
    return found


def span_ns(campaign: store.Campaign) -> tuple[int, int]:
    """Return the monotonic instants at which the first run began and the last one ended."""
    anchor_ns: int = campaign.meta["anchor"]["monotonic_ns"]
    begin_us, end_us = (
        min(run.baseline_us for run in campaign.runs),
        max(run.finished_us for run in campaign.runs),
    )
    return anchor_ns + 1000 * begin_us, anchor_ns + 1000 * end_us

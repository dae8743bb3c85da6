"""Small campaign folders for tests, written through the real store.

    from tests.campaigns import make_campaign, make_run

    campaign = make_campaign(
        tmp_path / "campaign",
        runs=[make_run(repeat=repeat, down=[(6.0, 8.0 + repeat / 10)], seed=repeat) for repeat in (1, 2, 3)],
        environment="staging",
    )

`make_run` lays out the rows of one run: phases, probes on a fixed schedule, outages, freezes, a dose. Its times are
seconds since the run's own start. `make_campaign` puts runs one after another on the campaign's clock and writes
them. For rows that `make_run` cannot express, take its result and replace parts of it (`dataclasses.replace`), or
build a `RunRows` by hand: its columns are those of `chaoslab.records`, its times microseconds since the run's start.

Runs that are exactly alike have no spread, so most estimates have no interval: give each run another `seed`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chaoslab import store
from chaoslab.records import SCHEMA_VERSION, Dose, ErrorKind, Event, Outcome, RunState
from chaoslab.scenario import ScenarioFile, resolve_slos

Columns = Mapping[str, Sequence[Any]]
EventRow = tuple[int, Event, str, Mapping[str, Any]]  # at_us, event, step, detail


@dataclass(frozen=True, kw_only=True)
class RunRows:
    """The rows of one run; `scheduled_us` and `at_us` count from the run's start."""

    scenario: str
    repeat: int = 1
    type: str = "cpu_stress"
    intensity: str = "light"
    duration: float = 10.0
    length_us: int
    events: Sequence[EventRow]
    probes: Columns = field(default_factory=dict)
    resources: Columns = field(default_factory=dict)


def make_dose(*, asked: float = 2.0, delivered: float | None = 1.98) -> Dose:
    """Return a CPU dose; it is accepted between 90 and 110 % of `asked`."""
    return Dose(
        quantity="CPU kept busy",
        unit="cores",
        asked=asked,
        delivered=delivered,
        low=0.9 * asked,
        high=1.1 * asked,
        how="CPU time of the workers over wall time",
        mechanism="python workers",
    )


def make_run(
    scenario: str = "Light CPU Stress",
    repeat: int = 1,
    *,
    type: str = "cpu_stress",
    intensity: str = "light",
    baseline: float = 5.0,
    injection: float = 10.0,
    recovery: float = 5.0,
    rate_hz: float = 10.0,
    latency_ms: float | tuple[float, float, float] = 20.0,
    jitter_ms: float = 1.0,
    seed: int = 0,
    down: Sequence[tuple[float, float]] = (),
    error: ErrorKind = ErrorKind.REFUSED,
    error_latency_ms: float = 5.0,
    frozen: Sequence[tuple[float, float]] = (),
    timeout: float = 2.0,
    fault_over: float | None = None,
    state: RunState = RunState.COMPLETED,
    reason: str = "",
    steady: bool = True,
    doses: Sequence[Dose] | None = None,
    undo_failures: Sequence[Mapping[str, Any]] = (),
    resources: bool = True,
) -> RunRows:
    """Return the rows of one run.

    Args:
        latency_ms: of successes; one value, or one for each phase. `jitter_ms` spreads it (uniform, from `seed`).
        down: intervals in which each scheduled probe fails with `error` after `error_latency_ms`.
        frozen: intervals in which the service stands still: probes scheduled there are answered when it is over,
            or time out after `timeout` seconds.
        fault_over: the instant from which recovery counts; the end of the injection by default.
        state, reason, steady, undo_failures: how the run ended; NOT_STEADY never injects, BROKEN has no last event.
        doses: measured doses; by default one that was delivered, and none for a control.
    """
    if doses is None:
        doses = () if type == "control" else (make_dose(),)
    ends = baseline, baseline + injection, baseline + injection + recovery
    return RunRows(
        scenario=scenario,
        repeat=repeat,
        type=type,
        intensity=intensity,
        duration=injection,
        length_us=_us(ends[2]),
        events=_events(ends, fault_over, state, reason, steady, doses, undo_failures),
        probes=_probes(ends, rate_hz, latency_ms, jitter_ms, seed, down, error, error_latency_ms, frozen, timeout),
        resources=_resources(ends[2], seed) if resources else {},
    )


def make_campaign(path: Path, runs: Sequence[RunRows], **meta: Any) -> store.Campaign:
    """Write a campaign of `runs`, one after another with a pause of one second, and open it.

    `meta` replaces or adds keys of `campaign.json`; by default it holds the default SLOs, three required health
    checks, the scenarios and the order of `runs`.
    """
    store.create(path, _meta(runs) | meta)
    offset_us = 0
    for index, run in enumerate(runs):
        key = store.RunKey(campaign="test", scenario=run.scenario, repeat=run.repeat, index=index)
        _write(path, "probes", key, _shifted(run.probes, "scheduled_us", offset_us))
        _write(path, "resources", key, _shifted(run.resources, "at_us", offset_us))
        _write(path, "events", key, _event_columns(run.events, offset_us))
        offset_us += run.length_us + 1_000_000
    return store.Campaign.open(path)


def _meta(runs: Sequence[RunRows]) -> dict[str, Any]:
    scenarios = {
        run.scenario: {
            "name": run.scenario,
            "type": run.type,
            "intensity": run.intensity,
            "duration": run.duration,
            "parameters": {"cpu_workers": 2} if run.type == "cpu_stress" else {},
            "mechanism": "python workers" if run.type != "control" else "no fault",
        }
        for run in runs
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "campaign": "test",
        "dry_run": False,
        "status": "finished",
        "reason": "",
        "started_at": "2024-05-01T12:00:00+00:00",
        "finished_at": "2024-05-01T12:10:00+00:00",
        "anchor": {"monotonic_ns": 0, "wall_ns": 1_714_564_800_000_000_000, "boot_id": "test"},
        "target": "http://127.0.0.1:8080",
        "target_build": None,
        "target_name": None,
        "environment": None,
        "probe": {"name": "health", "url": "http://127.0.0.1:8080/api/health", "rate_hz": 10.0, "timeout_seconds": 2.0},
        "seed": 1,
        "repeats": max((run.repeat for run in runs), default=0),
        "duration_scale": 1.0,
        "scenarios": list(scenarios.values()),
        "order": [[run.scenario, run.repeat] for run in runs],
        "slos": [asdict(slo) for slo in resolve_slos(ScenarioFile(scenarios=()))],
        "required_health_checks": 3,
        "host": {"system": "Linux", "python": "3.12", "cpus": 4, "memory_bytes": 8 * 1024**3, "stress_ng": False},
        "versions": {"chaoslab": "0.1.0"},
        "command_line": "chaoslab run",
        "notes": {},
    }


def _write(path: Path, table: str, key: store.RunKey, columns: Columns) -> None:
    writer = store.PartWriter(path, table, key)
    if columns:
        writer.write(columns)
    writer.compact()


def _shifted(columns: Columns, name: str, offset_us: int) -> Columns:
    return {**columns, name: [value + offset_us for value in columns[name]]} if columns else {}


def _event_columns(events: Sequence[EventRow], offset_us: int) -> Columns:
    if not events:
        return {}
    return {
        "at_us": [at_us + offset_us for at_us, _, _, _ in events],
        "event": [str(event) for _, event, _, _ in events],
        "step": [step for _, _, step, _ in events],
        "detail": [json.dumps(detail) for _, _, _, detail in events],
    }


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _events(
    ends: tuple[float, float, float],
    fault_over: float | None,
    state: RunState,
    reason: str,
    steady: bool,
    doses: Sequence[Dose],
    undo_failures: Sequence[Mapping[str, Any]],
) -> list[EventRow]:
    injected, reverted, finished = map(_us, ends)
    over = reverted if fault_over is None else _us(fault_over)
    rows: list[EventRow] = [
        (0, Event.BASELINE_STARTED, "", {}),
        (injected, Event.STEADY_STATE, "", {"steady": steady, "reason": "" if steady else reason}),
    ]
    if state is not RunState.NOT_STEADY:
        rows += [
            (injected, Event.INJECTION_STARTED, "", {"mechanism": "python workers"}),
            (over, Event.FAULT_OVER, "", {}),
            (reverted, Event.RECOVERY_STARTED, "", {}),
            *((reverted, Event.UNDO_FAILED, "stress", failure) for failure in undo_failures),
            *((finished, Event.DOSE, "", dose.as_dict()) for dose in doses),
        ]
    if state is not RunState.BROKEN:
        rows.append((finished, Event.RUN_FINISHED, "", {"state": str(state), "reason": reason}))
    return rows


def _probes(
    ends: tuple[float, float, float],
    rate_hz: float,
    latency_ms: float | tuple[float, float, float],
    jitter_ms: float,
    seed: int,
    down: Sequence[tuple[float, float]],
    error: ErrorKind,
    error_latency_ms: float,
    frozen: Sequence[tuple[float, float]],
    timeout: float,
) -> Columns:
    count = int(ends[2] * rate_hz)
    at = np.arange(count) / rate_hz
    levels = latency_ms if isinstance(latency_ms, tuple) else (latency_ms,) * 3
    jitter = np.random.default_rng(seed).uniform(0.0, jitter_ms, count)
    latency = (np.asarray(levels)[np.searchsorted(ends[:2], at, side="right")] + jitter) / 1e3
    kind = np.full(count, None, dtype=object)
    for start, end in frozen:
        hit = (at >= start) & (at < end)
        waited = end - at + latency
        latency = np.where(hit, np.minimum(waited, timeout), latency)
        kind[hit & (waited >= timeout)] = str(ErrorKind.TIMEOUT)
    for start, end in down:
        hit = (at >= start) & (at < end)
        latency = np.where(hit, error_latency_ms / 1e3, latency)
        kind[hit] = str(error)
    failed = np.array([name is not None for name in kind])
    return {
        "seq": list(range(count)),
        "probe": ["health"] * count,
        "scheduled_us": [_us(second) for second in at],
        "sent_us": [50] * count,
        "latency_us": [_us(second) for second in latency],
        "status": [None if bad else 200 for bad in failed],
        "outcome": [str(Outcome.FAILURE if bad else Outcome.SUCCESS) for bad in failed],
        "error": list(kind),
    }


def _resources(length: float, seed: int) -> Columns:
    at = np.arange(0, length, 0.5)
    busy = np.random.default_rng(seed).uniform(0.5, 1.0, len(at))
    steps = range(len(at))
    return {
        "at_us": [_us(second) for second in at],
        "cpu_cores": [float(cores) for cores in busy],
        "cpu_percent": [float(25 * cores) for cores in busy],
        "load_1m": [0.5] * len(at),
        "memory_used_bytes": [2 * 1024**3] * len(at),
        "memory_available_bytes": [6 * 1024**3] * len(at),
        "disk_read_bytes": [4096 * step for step in steps],
        "disk_written_bytes": [8192 * step for step in steps],
        "network_sent_bytes": [1000 * step for step in steps],
        "network_received_bytes": [2000 * step for step in steps],
    }

"""The plan of a campaign: which runs, in which order, with which phases. Pure: nothing is touched."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit, urlunsplit

from chaoslab.errors import UsageError
from chaoslab.scenario import Scenario, ScenarioFile

_SHORTEST_BASELINE: Final = 2.0
_SHORTEST_RECOVERY: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One run to come; lengths are seconds, `index` is its place in the order."""

    index: int
    scenario: Scenario
    repeat: int
    baseline: float
    injection: float
    recovery: float

    @property
    def seconds(self) -> float:
        """Planned length of the run."""
        return self.baseline + self.injection + self.recovery


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that is decided before the first probe."""

    runs: tuple[PlannedRun, ...]
    repeats: int
    seed: int
    duration_scale: float
    cooldown: float

    @property
    def seconds(self) -> float:
        """Planned length of the campaign."""
        return sum(run.seconds for run in self.runs) + self.cooldown * max(0, len(self.runs) - 1)


def make_plan(
    file: ScenarioFile, scenarios: Sequence[Scenario], *, repeats: int, seed: int, duration_scale: float = 1.0
) -> Plan:
    """Return the runs of a campaign: within each repeat the scenarios come in an order drawn from `seed`.

    Interleaving keeps a drift of the machine from posing as an effect of the scenario that happened to come last.
    All lengths are scaled alike, but a baseline is never shorter than 2 s, nor a recovery than 4 s.

    Raises:
        UsageError: repeats or scale out of range, or a campaign longer than safety.max_total_duration_seconds.
    """
    if repeats < 1:
        raise UsageError(f"--repeats is {repeats}; accepted: 1 or more (3 or more give intervals)")
    if not 0 < duration_scale <= 10:
        raise UsageError(f"--duration-scale is {duration_scale:g}; accepted: above 0, up to 10")
    baseline = max(_SHORTEST_BASELINE, file.phases.baseline_seconds * duration_scale)
    recovery = max(_SHORTEST_RECOVERY, file.phases.recovery_seconds * duration_scale)
    generator = random.Random(seed)
    order = [
        (scenario, repeat)
        for repeat in range(1, repeats + 1)
        for scenario in generator.sample(list(scenarios), len(scenarios))
    ]
    runs = tuple(
        PlannedRun(
            index=index,
            scenario=scenario,
            repeat=repeat,
            baseline=baseline,
            injection=scenario.duration * duration_scale,
            recovery=recovery,
        )
        for index, (scenario, repeat) in enumerate(order)
    )
    cooldown = file.safety.cooldown_seconds * min(1.0, duration_scale)
    plan = Plan(runs=runs, repeats=repeats, seed=seed, duration_scale=duration_scale, cooldown=cooldown)
    limit = file.safety.max_total_duration_seconds
    if plan.seconds > limit:
        raise UsageError(
            f"the campaign would take {plan.seconds:.0f} s, more than safety.max_total_duration_seconds allows "
            f"({limit:.0f} s); fewer scenarios or repeats, or a smaller --duration-scale, make it shorter"
        )
    return plan


def probe_url(target: str, endpoint: str) -> str:
    """Return the URL to probe: `target` itself if it has a path, else the health check's endpoint below it.

    >>> probe_url("http://127.0.0.1:8080", "/api/health")
    'http://127.0.0.1:8080/api/health'
    >>> probe_url("http://127.0.0.1:8080/ping", "/api/health")
    'http://127.0.0.1:8080/ping'

    Raises:
        UsageError: not an http or https URL with a host.
    """
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError:
        # Its own words would quote a part of the URL, which may be one of a password.
        raise UsageError(f"--target {target!r} is not a URL: its host or its port cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"--target {target!r} is not accepted; accepted: http://HOST[:PORT] or https://HOST[:PORT]")
    return target if parts.path not in ("", "/") or parts.query else urljoin(target, endpoint)


def redacted(url: str) -> str:
    """Return `url` without user, password, query and fragment, which may hold secrets.

    >>> redacted("http://me:secret@127.0.0.1:8080/ping?token=x")
    'http://127.0.0.1:8080/ping'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

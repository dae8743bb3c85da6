"""From `monitoring` of a scenario file to the looks that a prober takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from urllib.parse import urljoin

from chaoslab.errors import UsageError, nearest
from chaoslab.looks import SUCCESS, Look, Success
from chaoslab.plan import probe_url
from chaoslab.scenario import (
    HEALTH,
    BesideProbe,
    HttpProbe,
    HttpRequest,
    Monitoring,
    PostgresProbe,
    SuccessRule,
    TcpProbe,
    TimeLimit,
)

HIGHEST_RATE_HZ: Final = 5000.0
"""Probes a second that one prober takes, all together."""

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def looks_of(monitoring: Monitoring, *, target: str, rate_hz: float) -> tuple[Look, ...]:
    """Return the health check and the probes beside it, with what they need of the environment filled in.

    Raises:
        UsageError: an environment variable that is not set, or more probes a second than one prober takes.
    """
    health = _http(monitoring.health_check, HEALTH, probe_url(target, monitoring.health_check.endpoint))
    looks = (
        replace(health, rate_hz=rate_hz),
        *(_beside(probe, target, rate_hz * probe.weight) for probe in monitoring.probes),
    )
    if (total := sum(look.rate_hz for look in looks)) > HIGHEST_RATE_HZ:
        raise UsageError(
            f"--probe-rate and the weights of monitoring.probes make {total:g} probes a second; accepted: up to "
            f"{HIGHEST_RATE_HZ:g}"
        )
    return looks


def variables_of(monitoring: Monitoring) -> frozenset[str]:
    """Return the names of the environment variables that the probes refer to; their values are secrets."""
    return frozenset(name for text in _texts(monitoring) for name in _VARIABLE.findall(text))


def _texts(monitoring: Monitoring) -> Iterator[str]:
    for probe in (monitoring.health_check, *monitoring.probes):
        if isinstance(probe, HttpRequest):
            yield from probe.headers.values()
        if isinstance(probe, PostgresProbe):
            yield probe.dsn


def _beside(probe: BesideProbe, target: str, rate_hz: float) -> Look:
    return replace(_look(probe, target), name=probe.name, rate_hz=rate_hz, arrivals=probe.arrivals)


def _look(probe: BesideProbe, target: str) -> Look:
    if isinstance(probe, HttpProbe):
        return _http(probe, probe.name, urljoin(target, probe.endpoint))
    success = _success(probe.success)
    if isinstance(probe, TcpProbe):
        return Look(kind="tcp", address=probe.address, timeout_s=probe.timeout, fresh=True, success=success)
    if isinstance(probe, PostgresProbe):
        return Look(
            kind="postgres",
            address=_filled(probe.dsn, f"the probe {probe.name!r}"),
            timeout_s=probe.timeout,
            limit=probe.connections,
            fresh=probe.new_connections,
            success=success,
        )
    return Look(
        kind="command", argv=probe.command, timeout_s=probe.timeout, limit=probe.at_once, fresh=True, success=success
    )


def _http(request: HttpRequest, name: str, url: str) -> Look:
    return Look(
        name=name,
        address=url,
        method=request.method,
        headers=tuple(
            (header, _filled(value, f"the header {header} of the probe {name!r}"))
            for header, value in request.headers.items()
        ),
        body=request.body,
        timeout_s=request.timeout,
        limit=request.connections,
        fresh=request.new_connections,
        success=_success(request.success),
    )


def _success(rule: SuccessRule | TimeLimit) -> Success:
    if isinstance(rule, TimeLimit):
        return Success(within_s=rule.max_latency)
    return Success(
        statuses=SUCCESS if rule.statuses is None else frozenset(rule.statuses),
        contains=rule.contains,
        pointer=rule.json_.pointer if rule.json_ else None,
        equals=rule.json_.equals if rule.json_ else None,
        within_s=rule.max_latency,
    )


def _filled(text: str, whose: str) -> str:
    """Return `text` with the environment variables that it refers to.

    Raises:
        UsageError: one is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise UsageError(
                f"{whose} refers to the environment variable {name}, which is not set{nearest(name, os.environ)}"
            )
        return os.environ[name]

    return _VARIABLE.sub(value, text)

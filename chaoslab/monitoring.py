"""From `monitoring` of a scenario file to the looks that a prober takes."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

from chaoslab.errors import UsageError, nearest
from chaoslab.looks import SUCCESS, Look, Success
from chaoslab.plan import probe_url
from chaoslab.scenario import (
    HEALTH,
    Auth,
    BasicAuth,
    BearerAuth,
    BesideProbe,
    DigestAuth,
    HttpProbe,
    HttpRequest,
    Monitoring,
    PostgresProbe,
    SuccessRule,
    TcpProbe,
    TimeLimit,
    TlsFiles,
)
from chaoslab.tls import Tls

HIGHEST_RATE_HZ: Final = 5000.0
"""Probes a second that one prober takes, all together."""
HIGHEST_HTTPX_RATE_HZ: Final = 100.0
"""Those of them that go by httpx: each takes the prober two milliseconds, and a stressed machine has few to spare."""

VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def looks_of(monitoring: Monitoring, *, target: str, rate_hz: float, folder: Path = Path()) -> tuple[Look, ...]:
    """Return the health check and the probes beside it, with what they need of the environment filled in.

    `folder` is that of the scenario file, which names of files count from.

    Raises:
        UsageError: an environment variable that is not set, a file that cannot be used, or more probes a second than
            one prober takes.
    """
    health = _http(monitoring.health_check, HEALTH, probe_url(target, monitoring.health_check.endpoint), folder)
    looks = (
        replace(health, rate_hz=rate_hz),
        *(_beside(probe, target, rate_hz * probe.weight, folder) for probe in monitoring.probes),
    )
    if (total := sum(look.rate_hz for look in looks)) > HIGHEST_RATE_HZ:
        raise UsageError(
            f"--probe-rate and the weights of monitoring.probes make {total:g} probes a second; accepted: up to "
            f"{HIGHEST_RATE_HZ:g}"
        )
    by_httpx = [look for look in looks if look.client == "httpx"]
    if (total := sum(look.rate_hz for look in by_httpx)) > HIGHEST_HTTPX_RATE_HZ:
        why = "; ".join(f"{look.name} for {', '.join(look.features)}" for look in by_httpx)
        raise UsageError(
            f"--probe-rate and the weights of monitoring.probes make {total:g} probes a second by httpx ({why}); "
            f"accepted: up to {HIGHEST_HTTPX_RATE_HZ:g}"
        )
    if by_httpx:
        from chaoslab.instruments import httpx_probe  # only here: it takes a moment

        for look in by_httpx:
            httpx_probe.require_urls(look)
    return looks


def variables_of(monitoring: Monitoring) -> frozenset[str]:
    """Return the names of the environment variables that the probes refer to; their values are secrets."""
    return frozenset(name for text in _texts(monitoring) for name in VARIABLE.findall(text))


def _texts(monitoring: Monitoring) -> Iterator[str]:
    for probe in (monitoring.health_check, *monitoring.probes):
        if isinstance(probe, HttpRequest):
            yield from probe.headers.values()
            yield from (probe.proxy or "", _secret_of(probe.auth))
        if isinstance(probe, PostgresProbe):
            yield probe.dsn


def _secret_of(auth: Auth | None) -> str:
    match auth:
        case BasicAuth() | DigestAuth():
            return auth.password
        case BearerAuth():
            return auth.token
    return ""


def _beside(probe: BesideProbe, target: str, rate_hz: float, folder: Path) -> Look:
    return replace(_look(probe, target, folder), name=probe.name, rate_hz=rate_hz, arrivals=probe.arrivals)


def _look(probe: BesideProbe, target: str, folder: Path) -> Look:
    if isinstance(probe, HttpProbe):
        return _http(probe, probe.name, urljoin(target, probe.endpoint), folder)
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


def _http(request: HttpRequest, name: str, url: str, folder: Path) -> Look:
    auth, whose = request.auth, f"of the probe {name!r}"
    secret = _filled(_secret_of(auth), f"auth {whose}")
    return Look(
        name=name,
        address=url,
        method=request.method,
        headers=(
            *((header, _filled(value, f"the header {header} {whose}")) for header, value in request.headers.items()),
            *_authorization(auth, secret),
        ),
        body=request.body,
        timeout_s=request.timeout,
        limit=request.connections,
        fresh=request.new_connections,
        success=_success(request.success),
        tls=_tls(request.tls, folder, whose),
        http2=request.http2,
        follow_redirects=request.follow_redirects,
        proxy=_filled(request.proxy, f"the proxy {whose}") if request.proxy is not None else None,
        digest=(auth.user, secret) if isinstance(auth, DigestAuth) else None,
    )


def _authorization(auth: Auth | None, secret: str) -> Iterator[tuple[str, str]]:
    if isinstance(auth, BasicAuth):
        yield "Authorization", f"Basic {b64encode(f'{auth.user}:{secret}'.encode()).decode()}"
    if isinstance(auth, BearerAuth):
        yield "Authorization", f"Bearer {secret}"


def _tls(files: TlsFiles, folder: Path, whose: str) -> Tls:
    """Return the settings with whole paths, once it is sure that they can be used."""
    paths = {
        name: path and str(folder.absolute() / path) for name, path in files.model_dump(exclude={"verify"}).items()
    }
    tls = Tls(**paths, verify=files.verify)
    if tls != Tls():
        try:
            tls.context()
        except UsageError as error:
            raise UsageError(f"{error} ({whose})") from error
    return tls


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

    return VARIABLE.sub(value, text)

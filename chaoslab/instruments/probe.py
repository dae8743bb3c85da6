"""Probes of a target: what to ask for, the handle on the process that sends them, and a single look.

with Prober.start(ProbeSpec(folder=..., key=..., anchor_ns=..., looks=(Look(address="http://…"),))) as prober:
    prober.wait_ready()
    ...
    prober.live, prober.check()
    summary = prober.stop()
"""

from __future__ import annotations

import math
import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, Final

from chaoslab.errors import UsageError, require_positive
from chaoslab.instruments.instrument import Instrument
from chaoslab.instruments.transport import kind_of
from chaoslab.looks import MOST_REDIRECTS, Look
from chaoslab.records import ErrorKind
from chaoslab.store import RunKey

_FLUSH_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """What to probe, and where the rows go.

    Args:
        folder, key: the campaign's folder, and the run that the rows belong to.
        anchor_ns: the campaign's anchor on CLOCK_MONOTONIC, in nanoseconds.
        looks: the probes, each with a name of its own; the first is the target's health, of which `Live` speaks.
        window_s: length of the window that `Live` speaks of.
        max_duration_s: the prober stops by itself after this time.

    Raises:
        UsageError: a value that cannot be used.
    """

    folder: Path
    key: RunKey
    anchor_ns: int
    looks: tuple[Look, ...]
    window_s: float = 30.0
    max_duration_s: float = 86_400.0

    def __post_init__(self) -> None:
        require_positive(window_s=self.window_s, max_duration_s=self.max_duration_s)
        names = [look.name for look in self.looks]
        if not names or len(set(names)) < len(names):
            raise UsageError(f"the probes are called {', '.join(names) or 'nothing'}; accepted: different names")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        changes = {"folder": os.fspath(self.folder), "looks": [look.as_dict() for look in self.looks]}
        return {**asdict(self), **changes}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ProbeSpec:
        """Return the specification that `as_dict` wrote."""
        changes = {
            "folder": Path(fields["folder"]),
            "key": RunKey(**fields["key"]),
            "looks": tuple(Look.from_dict(look) for look in fields["looks"]),
        }
        return cls(**{**fields, **changes})


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """How the target fares now; instants are microseconds since the campaign's anchor. Unsent probes do not count.

    `failing_since_us` is the instant since which no probe has succeeded: the schedule of the first failure of the
    unbroken series, or None. The window is the last `window_s` seconds, of which `window_filled_s` have passed yet.
    `median_latency_us` is that of answers and time-outs in the window, None where there were none.
    """

    at_us: int
    scheduled: int
    successes_1s: int
    failures_1s: int
    failing_since_us: int | None
    window_count: int
    window_failures: int
    window_filled_s: float
    median_latency_us: int | None

    @property
    def error_rate(self) -> float:
        """Share of the window's probes that failed; NaN when none has ended."""
        return self.window_failures / self.window_count if self.window_count else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a prober did. The lag of a probe is sent − scheduled: how late the prober itself was.

    `scheduled` probes were due; `unsent` of them found no free connection, `failures` were sent and failed; so for all
    together, and by name in `probes`. `late` of them lagged by more than `records.LAG_LIMIT_US`. `recorded` rows are on
    disk, `dropped` ones are not (a full or stalled disk). `priority` is as of `instrument.settle`. `cpu_seconds` are
    the prober's own.
    """

    scheduled: int
    sent: int
    recorded: int
    failures: int
    unsent: int
    dropped: int
    probes: Mapping[str, Mapping[str, int]]
    late: int
    lag_p50_us: int | None
    lag_p99_us: int | None
    lag_max_us: int
    priority: str
    priority_raised: bool
    cpu_seconds: float


class Prober(Instrument[ProbeSpec]):
    """Handle on a prober: a process that probes from `start` on, until `stop`.

    Methods of `Instrument` raise ChaoslabError when the prober has failed.
    """

    module: ClassVar[str] = "chaoslab.instruments.prober"
    noun: ClassVar[str] = "prober"

    _live: Live | None = None

    @property
    def live(self) -> Live | None:
        """The latest numbers, at most 0.2 s old while the prober runs; None before the first."""
        return self._live

    def stop(self) -> Summary:
        """Send no more probes, wait for those in flight, and leave the run's one file on disk.

        Raises:
            ChaoslabError: the prober had failed, or rows could not be written; those that were are kept.
        """
        return Summary(**self._finish(max(look.timeout_s for look in self._spec.looks) + _FLUSH_PATIENCE))

    def _heard(self, live: Mapping[str, Any]) -> None:
        self._live = Live(**live)


@dataclass(frozen=True, slots=True)
class Check:
    """One look at a target.

    `ok`: it answered with a success. `reachable`: it answered with anything. `reason`: why it is not ok, or "".
    """

    ok: bool
    reachable: bool
    reason: str = ""


_REASONS: Final = {
    ErrorKind.REFUSED: "connection refused",
    ErrorKind.RESET: "connection closed before the answer was complete",
    ErrorKind.UNREACHABLE: "host unreachable",
    ErrorKind.UNSENT: "this machine has no free port or file descriptor",
}


def check(look: Look) -> Check:
    """Look once at an HTTP target, over a new connection, as a probe would, with its time-out.

    Raises:
        UsageError: not an http or https URL.
    """
    # Only here: they would double the time that a prober takes to start.
    import httpx

    from chaoslab.instruments import httpx_probe

    deadline = monotonic() + look.timeout_s
    body = bytearray()
    try:
        with (
            httpx_probe.client(look) as client,
            closing(client.send(httpx_probe.request_of(look), stream=True)) as response,
        ):
            for part in response.iter_raw():
                body += part
                if monotonic() > deadline:
                    return _too_late(look.timeout_s)
    except httpx.TimeoutException:
        return _too_late(look.timeout_s)
    except httpx.InvalidURL as error:
        raise UsageError(f"the URL is not accepted: {error}") from error
    except httpx.TooManyRedirects:
        return Check(ok=False, reachable=True, reason=f"more than {MOST_REDIRECTS} redirects")
    except httpx_probe.FAILURES as error:
        return Check(ok=False, reachable=False, reason=_reason(error))
    problem = httpx_probe.problem_of(look, response, bytes(body))
    return Check(ok=problem is None, reachable=True, reason=_found(problem, response.status_code))


def _found(problem: ErrorKind | None, status: int) -> str:
    match problem:
        case ErrorKind.STATUS:
            return f"status {status}"
        case ErrorKind.BODY:
            return "the body does not hold what it must"
        case ErrorKind.PROTOCOL:
            return "not in HTTP/2"
    return ""


def _too_late(timeout: float) -> Check:
    return Check(ok=False, reachable=False, reason=f"no answer within {timeout:g} s")


def _reason(error: Exception) -> str:
    """Return what lies at the bottom of an error of httpx, which wraps that of the operating system."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    match cause:
        case None:
            return str(error)
        case socket.gaierror():
            return "name not resolved"
        case ssl.SSLError():
            return f"TLS: {getattr(cause, 'verify_message', '') or cause.reason}"
    return _REASONS.get(kind_of(cause), str(cause))

"""Probes of a target: what to ask for, the handle on the process that sends them, and a single look.

with Prober.start(ProbeSpec(folder=..., key=..., anchor_ns=..., url="http://127.0.0.1:8080/health")) as prober:
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from urllib.parse import SplitResult, urlsplit

from chaoslab.errors import UsageError, nearest
from chaoslab.instrument import Instrument
from chaoslab.records import ErrorKind
from chaoslab.store import RunKey
from chaoslab.transport import kind_of

if TYPE_CHECKING:
    import httpx

SUCCESS: Final = frozenset(range(200, 400))
_ARRIVALS: Final = ("constant", "poisson")
_MOST_CONNECTIONS: Final = 4096
_SPARE_CONNECTIONS: Final = 100
_FLUSH_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """What to probe, how often, and where the rows go.

    Args:
        folder, key: the campaign's folder, and the run that the rows belong to.
        anchor_ns: the campaign's anchor on CLOCK_MONOTONIC, in nanoseconds.
        url: http or https; a user and password in it are sent (RFC 7617), and recorded nowhere.
        connect_to: host and port to connect to in place of the URL's; what is asked for, and the name that a
            certificate must have, stay the URL's.
        probe: name of the probe in its rows.
        rate_hz: probes a second. `arrivals` spaces them: "constant" evenly, "poisson" at random from `seed`.
        timeout_s: a probe without a complete answer this long after it was sent has failed.
        window_s: length of the window that `Live` speaks of.
        max_duration_s: the prober stops by itself after this time.
        success_statuses: HTTP statuses that are a success.

    Raises:
        UsageError: a value that cannot be used.
    """

    folder: Path
    key: RunKey
    anchor_ns: int
    url: str
    connect_to: tuple[str, int] | None = None
    probe: str = "health"
    rate_hz: float = 20.0
    arrivals: str = "constant"
    seed: int = 0
    timeout_s: float = 2.0
    window_s: float = 30.0
    max_duration_s: float = 86_400.0
    success_statuses: frozenset[int] = field(default=SUCCESS, repr=False)

    def __post_init__(self) -> None:
        _split(self.url)
        for name in ("rate_hz", "timeout_s", "window_s", "max_duration_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} is {value:g}; accepted: a number above 0")
        if self.arrivals not in _ARRIVALS:
            hint = nearest(self.arrivals, _ARRIVALS)
            raise UsageError(f"arrivals is {self.arrivals!r}; accepted: {', '.join(_ARRIVALS)}{hint}")

    @property
    def kind(self) -> str:
        """Which kind of probe this is."""
        return "http"

    @property
    def connections(self) -> int:
        """How many connections may be open: enough to go on at the full rate while nothing is answered.

        There is room besides for what is sent at once after a stall of the prober's own.
        """
        return min(_MOST_CONNECTIONS, math.ceil(self.rate_hz * self.timeout_s * 1.25) + _SPARE_CONNECTIONS)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        changes = {"folder": os.fspath(self.folder), "success_statuses": sorted(self.success_statuses)}
        return asdict(self) | changes

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ProbeSpec:
        """Return the specification that `as_dict` wrote."""
        changes = {
            "folder": Path(fields["folder"]),
            "key": RunKey(**fields["key"]),
            "connect_to": tuple(fields["connect_to"]) if fields["connect_to"] else None,
            "success_statuses": frozenset(fields["success_statuses"]),
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

    `scheduled` probes were due; `unsent` of them found no free connection, `failures` were sent and failed. `recorded`
    rows are on disk, `dropped` ones are not (a full or stalled disk). `cpu_seconds` are the prober's own.
    """

    scheduled: int
    sent: int
    recorded: int
    failures: int
    unsent: int
    dropped: int
    lag_p50_us: int | None
    lag_p99_us: int | None
    lag_max_us: int
    priority_raised: bool
    cpu_seconds: float


class Prober(Instrument):
    """Handle on a prober: a process that probes from `start` on, until `stop`.

    Methods of `Instrument` raise ChaoslabError when the prober has failed.
    """

    module: ClassVar[str] = "chaoslab.prober"
    noun: ClassVar[str] = "prober"

    def __init__(self, spec: ProbeSpec) -> None:
        self._spec = spec
        self._live: Live | None = None
        super().__init__(spec.as_dict())

    @classmethod
    def start(cls, spec: ProbeSpec) -> Self:
        """Start a prober; it probes as soon as it is ready.

        Raises:
            ChaoslabError: no process can be started.
        """
        return cls(spec)

    @property
    def live(self) -> Live | None:
        """The latest numbers, at most 0.2 s old while the prober runs; None before the first."""
        return self._live

    def stop(self) -> Summary:
        """Send no more probes, wait for those in flight, and leave the run's one file on disk.

        Raises:
            ChaoslabError: the prober had failed, or rows could not be written; those that were are kept.
        """
        return Summary(**self._finish(self._spec.timeout_s + _FLUSH_PATIENCE))

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


def check(url: str, *, timeout: float = 2.0) -> Check:
    """Look once, over a new connection, as a probe would: no proxy, no redirect; give up after `timeout` seconds.

    Raises:
        UsageError: not an http or https URL.
    """
    import httpx  # only here: it would double the time that a prober takes to start

    _split(url)
    deadline = monotonic() + timeout
    try:
        with (
            httpx.Client(timeout=timeout, trust_env=False, verify=ssl.create_default_context()) as client,
            client.stream("GET", url, headers={"User-Agent": "chaoslab"}) as response,
        ):
            for _ in response.iter_raw():
                if monotonic() > deadline:
                    return _too_late(timeout)
    except httpx.TimeoutException:
        return _too_late(timeout)
    except httpx.InvalidURL as error:
        raise UsageError(f"the URL is not accepted: {error}") from error
    except httpx.TransportError as error:
        return Check(ok=False, reachable=False, reason=_reason(error))
    if response.status_code in SUCCESS:
        return Check(ok=True, reachable=True)
    return Check(ok=False, reachable=True, reason=f"status {response.status_code}")


def _too_late(timeout: float) -> Check:
    return Check(ok=False, reachable=False, reason=f"no answer within {timeout:g} s")


def _reason(error: httpx.TransportError) -> str:
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


def _split(url: str) -> SplitResult:
    """Return the parts of a URL that can be probed; the message has neither its credentials nor its query."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
        # An unusable label (empty, too long) would else show only when the name is looked up.
        (parts.hostname or "").encode("idna")
    except ValueError:
        # Its own words would quote a part of the URL, which may be one of a password.
        raise UsageError("the URL to probe is not accepted: its host or its port cannot be read") from None
    if not usable:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        raise UsageError(
            f"the URL to probe is {shown!r}; accepted: http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH"
        )
    return parts

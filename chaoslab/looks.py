"""What a probe asks, how often, and what counts as a success: values that exist are valid."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self, get_args
from urllib.parse import SplitResult, urlsplit

from chaoslab.errors import UsageError, nearest, require_positive
from chaoslab.tls import Tls

SUCCESS: Final = frozenset(range(200, 400))
Kind = Literal["http", "tcp", "postgres", "command"]
Arrivals = Literal["constant", "poisson"]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
MOST_CONNECTIONS: Final = 4096
"""Connections that one probe may have open."""

CLIENTS: Final[Mapping[str, str]] = {
    "http": "HTTP/1.1 over asyncio, parsed by httptools",
    "httpx": "httpx",
    "tcp": "asyncio",
    "postgres": "psycopg",
    "command": "a process for each probe",
}
"""What takes probes to the target (`Look.client`), for the record."""
MOST_REDIRECTS: Final = 10
HTTP2: Final = "HTTP/2"
THROUGH_PROXY: Final = "a proxy"

_SPARE_CONNECTIONS: Final = 100
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection", "expect", "upgrade"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """What makes an answer a success.

    Args:
        statuses: HTTP statuses that are one.
        contains: text that the body must hold.
        pointer, equals: what the body, a JSON document, must hold where the JSON Pointer (RFC 6901) leads; with
            `equals` None, anything but null.
        within_s: seconds from sending to the complete answer, at most.
    """

    statuses: frozenset[int] = field(default=SUCCESS, repr=False)
    contains: str | None = None
    pointer: str | None = None
    equals: str | float | bool | None = None
    within_s: float | None = None

    @property
    def reads_body(self) -> bool:
        """Whether the body must be read to tell."""
        return self.contains is not None or self.pointer is not None

    def accepts(self, body: bytes) -> bool:
        """Return whether a body has what it must have.

        >>> Success(pointer="/checks/0/state", equals="up").accepts(b'{"checks": [{"state": "up"}]}')
        True
        >>> Success(contains="up").accepts(b"down")
        False
        """
        if self.contains is not None and self.contains.encode() not in body:
            return False
        if self.pointer is None:
            return True
        try:
            found = _at(json.loads(body), self.pointer)
        except (ValueError, LookupError, RecursionError):
            return False
        if self.equals is None:
            return found is not None
        return bool(found == self.equals) and isinstance(found, bool) == isinstance(self.equals, bool)


def _at(document: Any, pointer: str) -> Any:
    """Return what stands where a JSON Pointer leads.

    Raises:
        LookupError: nothing does.
    """
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, list) and key.isdecimal():
            document = document[int(key)]
        elif isinstance(document, dict):
            document = document[key]
        else:
            raise LookupError(pointer)
    return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One probe.

    Args:
        name: what its rows are called.
        kind: "http", "tcp" (a connection that opens), "postgres" (`SELECT 1`) or "command" (that exits 0).
        address: http or https URL, whose user and password are sent (RFC 7617) and recorded nowhere; HOST:PORT; or a
            connection string of libpq. A command has none.
        argv: the command.
        connect_to: host and port to connect to in place of the address; what is asked for, and the name that a
            certificate must have, stay those of the address.
        method, headers, body: of the HTTP request.
        tls: what is trusted, and shown, where the address is an https URL.
        http2: HTTP/2, over TLS or with prior knowledge (RFC 9113, section 3.3), and nothing else.
        follow_redirects: judge the answer that at most `MOST_REDIRECTS` redirects lead to.
        proxy: http or https URL of a proxy, whose user and password are sent to it and recorded nowhere.
        digest: user and password of digest authentication (RFC 7616).
        rate_hz: probes a second. `arrivals` spaces them: "constant" evenly, "poisson" at random from `seed`.
        timeout_s: a probe without a complete answer this long after it was sent has failed.
        limit: connections (or commands) that may be open at once; by default enough for the rate. A probe that finds
            none free is unsent.
        fresh: open a new connection for each probe, as a load balancer sees its clients do.
        success: what counts as one.

    Raises:
        UsageError: a value that cannot be used.
    """

    name: str = "health"
    kind: Kind = "http"
    address: str = ""
    argv: tuple[str, ...] = ()
    connect_to: tuple[str, int] | None = None
    method: Method = "GET"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: str = field(default="", repr=False)
    tls: Tls = field(default=Tls())
    http2: bool = False
    follow_redirects: bool = False
    proxy: str | None = field(default=None, repr=False)
    digest: tuple[str, str] | None = field(default=None, repr=False)
    rate_hz: float = 20.0
    arrivals: Arrivals = "constant"
    seed: int = 0
    timeout_s: float = 2.0
    limit: int | None = None
    fresh: bool = False
    success: Success = Success()

    def __post_init__(self) -> None:
        require_positive(rate_hz=self.rate_hz, timeout_s=self.timeout_s)
        for name, accepted in (("kind", Kind), ("arrivals", Arrivals), ("method", Method)):
            _require(name, getattr(self, name), get_args(accepted))
        if self.limit is not None and not 1 <= self.limit <= MOST_CONNECTIONS:
            raise UsageError(f"the probe {self.name!r} may have 1 to {MOST_CONNECTIONS} connections, not {self.limit}")
        if self.kind == "http":
            split_url(self.address)
            check_headers(self.headers)
        if self.proxy is not None and check_proxy(self.proxy) and self.http2 and self.address.startswith("http:"):
            raise UsageError(
                f"the probe {self.name!r} asks for HTTP/2 through a proxy; accepted: to an https URL, since what the "
                "proxy itself asks for it asks in HTTP/1.1"
            )
        if self.kind == "tcp":
            host_and_port(self.address)

    @property
    def connections(self) -> int:
        """How many connections may be open: enough to go on at the full rate while nothing is answered.

        There is room besides for what is sent at once after a stall of the prober's own.
        """
        wanted = math.ceil(self.rate_hz * self.timeout_s * 1.25) + _SPARE_CONNECTIONS
        return min(MOST_CONNECTIONS, wanted) if self.limit is None else self.limit

    @property
    def features(self) -> tuple[str, ...]:
        """What it needs of httpx, in words; nothing if the lean client does."""
        asked = {HTTP2: self.http2, "redirects": self.follow_redirects}
        asked |= {THROUGH_PROXY: self.proxy is not None, "digest authentication": self.digest is not None}
        return tuple(feature for feature, wanted in asked.items() if wanted)

    @property
    def client(self) -> str:
        """What takes it to the target: of `CLIENTS`."""
        return "httpx" if self.features else self.kind

    @property
    def summary(self) -> str:
        """One line for people: what it asks and how often. Secrets of an address or a command are still in it."""
        asked = {"http": f"{self.method} {self.address}", "command": shlex.join(self.argv)}
        what = asked.get(self.kind, f"{self.kind} {self.address}")
        through = f", through httpx for {', '.join(self.features)}" if self.features else ""
        return f"{self.name}: {what}, {self.rate_hz:g}/s {self.arrivals}{', new connections' * self.fresh}{through}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        fields = asdict(self)
        fields["success"]["statuses"] = sorted(self.success.statuses)
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Return the look that `as_dict` wrote."""
        success = {**fields["success"], "statuses": frozenset(fields["success"]["statuses"])}
        changes = {
            "argv": tuple(fields["argv"]),
            "headers": tuple((name, value) for name, value in fields["headers"]),
            "connect_to": tuple(fields["connect_to"]) if fields["connect_to"] else None,
            "success": Success(**success),
            "tls": Tls(**fields["tls"]),
            "digest": tuple(fields["digest"]) if fields["digest"] else None,
        }
        return cls(**{**fields, **changes})


def _require(name: str, value: str, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise UsageError(f"{name} is {value!r}; accepted: {', '.join(accepted)}{nearest(value, accepted)}")


def check_headers(headers: Sequence[tuple[str, str]]) -> None:
    """Raise UsageError, without showing a value, unless headers can be sent (RFC 9110, section 5)."""
    for name, value in headers:
        if not _HEADER.fullmatch(name):
            raise UsageError(f"a header is called {name!r}; accepted: letters, digits and !#$%&'*+-.^_`|~")
        if name.lower() in _FRAMING:
            raise UsageError(f"the header {name} cannot be set: the prober sets it, or does without it")
        if not all(" " <= letter <= "~" or letter == "\t" for letter in value):
            raise UsageError(f"the header {name} holds a line break or something else that is not printable ASCII")


def check_proxy(url: str) -> SplitResult:
    """Return the parts of the URL of a proxy.

    Raises:
        UsageError: it is none; the message has nothing of it, since that may be a part of a password.
    """
    try:
        parts = urlsplit(url)
        usable = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and parts.path in ("", "/")
        )
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            "the proxy is not accepted; accepted: an http or https URL without a path, such as http://127.0.0.1:3128"
        )
    return parts


def host_and_port(address: str) -> tuple[str, int]:
    """Return the host and the port of HOST:PORT or [ADDRESS]:PORT.

    >>> host_and_port("[::1]:5432")
    ('::1', 5432)

    Raises:
        UsageError: it is neither.
    """
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or (":" in bare and bare == host) or not (port.isdecimal() and 0 < int(port) < 65_536):
        raise UsageError(f"the address is {address!r}; accepted: HOST:PORT, such as 127.0.0.1:5432 or [::1]:5432")
    return bare, int(port)


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL that can be probed.

    Raises:
        UsageError: it cannot be; the message has neither its credentials nor its query.
    """
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


def ranges(statuses: Iterable[int]) -> str:
    """Return statuses in words.

    >>> ranges({200, 201, 202, 404})
    '200-202, 404'
    """
    spans: list[list[int]] = []
    for status in sorted(statuses):
        if spans and status == spans[-1][1] + 1:
            spans[-1][1] = status
        else:
            spans.append([status, status])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)

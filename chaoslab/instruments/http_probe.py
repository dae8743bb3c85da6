"""HTTP/1.1 probes over connections that are kept, plain or TLS, by hand: httpx costs ten times as much a probe.

No probe is ever sent twice. A client that repeats a GET whose connection broke would hide what we are here to see. What
remains is that a server may close a connection while it is idle, which is no failure. So a kept connection is used
again only if nothing has arrived on it (its end is something), and only within a second of its last use, sooner than
any common server closes it. A connection that breaks after the request was written is a failure.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import sslproto
from base64 import b64encode
from collections.abc import Sequence
from time import monotonic_ns
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import httptools

from chaoslab.instruments.addresses import Addresses, abandon
from chaoslab.instruments.transport import Finish, Probe, kind_of
from chaoslab.looks import Look
from chaoslab.records import ErrorKind

_PORTS: Final = {"http": 80, "https": 443}
_NO_TIMEOUT: Final = 86_400.0  # a probe's own time-out is the only one
_IDLE_LIMIT_NS: Final = 1_000_000_000
_BRISK_NS: Final = 50_000_000
_ON_TIME_NS: Final = 500_000
_QUOTED_AS_IT_IS: Final = "/%:=&?~+!$,;'@()*[]"
_TLS_BUFFER: Final = 16 * 1024
_FINAL: Final = 200  # below: interim answers, after which the real one comes
_LONGEST_BODY: Final = 1024**2
_SHORTEST_LENGTH: Final = len(b"content-length")


class HttpTransport:
    """Sends the request of a look over at most `connections` connections; a probe that finds all busy is UNSENT."""

    def __init__(self, look: Look, *, connections: int, finish: Finish) -> None:
        parts = urlsplit(look.address)
        self._name = parts.hostname or ""
        self._addresses = Addresses(*(look.connect_to or (self._name, parts.port or _PORTS[parts.scheme])))
        self._tls = _tls_context(look) if parts.scheme == "https" else None
        self._limit = connections
        self._fresh = look.fresh
        self._success = look.success
        self._finish = finish
        self._loop = asyncio.get_running_loop()
        self._connecting = 0
        self._idle: list[_Connection] = []
        self._connections: set[_Connection] = set()
        self.reads_body = look.success.reads_body
        self.heads_only = look.method == "HEAD"
        self.request = request_for(look.address, method=look.method, headers=look.headers, body=look.body)

    def send(self, probe: Probe) -> None:
        """Ask over an idle connection, the one used last first, else over a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable(probe):
                connection.ask(probe)
                return
            connection.close()
        if len(self._connections) + self._connecting >= self._limit:
            self._finish(probe, None, ErrorKind.UNSENT)
            return
        probe.carrier = self._loop.create_task(self._ask_anew(probe))

    def tidy(self) -> None:
        """Close connections that have been idle for a second."""
        before = monotonic_ns() - _IDLE_LIMIT_NS
        for connection in self._idle:
            if connection.used_ns < before:
                connection.close()
        self._idle = [connection for connection in self._idle if not connection.closed]

    def close(self) -> None:
        """Close all connections."""
        for connection in tuple(self._connections):
            connection.close()

    def answered(self, connection: _Connection, probe: Probe, status: int, body: bytes, *, keep: bool) -> None:
        """Take a complete answer, and the connection back if it can be kept."""
        if status not in self._success.statuses:
            problem: ErrorKind | None = ErrorKind.STATUS
        else:
            problem = None if not self.reads_body or self._success.accepts(body) else ErrorKind.BODY
        self._finish(probe, status, problem)
        if keep and not self._fresh:
            self._idle.append(connection)
        else:
            connection.close()

    def failed(self, probe: Probe, kind: ErrorKind) -> None:
        """Take a probe whose connection broke before the answer was complete."""
        self._finish(probe, None, kind)

    def lost(self, connection: _Connection) -> None:
        """Forget a connection that is closed; among the idle ones it is passed over until they are tidied."""
        self._connections.discard(connection)

    async def _ask_anew(self, probe: Probe) -> None:
        self._connecting += 1
        try:
            connection = await self._addresses.connect(self._open)
        finally:
            self._connecting -= 1
        if isinstance(connection, ErrorKind):
            self._finish(probe, None, connection)
        elif connection.closed:
            self._finish(probe, None, ErrorKind.RESET)
        else:
            self._connections.add(connection)
            connection.ask(probe)

    async def _open(self, connected: socket.socket) -> _Connection:
        _, connection = await self._loop.create_connection(
            lambda: _Connection(self, connected),
            sock=connected,
            ssl=self._tls,
            server_hostname=self._name if self._tls else None,
            ssl_handshake_timeout=_NO_TIMEOUT if self._tls else None,
        )
        return connection


class _Connection(asyncio.Protocol):
    """One connection, with at most one probe on it."""

    def __init__(self, owner: HttpTransport, connected: socket.socket) -> None:
        self.closed = False
        self.used_ns = 0
        self._owner = owner
        self._socket = connected
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._probe: Probe | None = None
        self._status = 0
        self._keep = False
        self._has_length = False
        self._body = bytearray()

    def usable(self, probe: Probe) -> bool:
        """Whether the request of `probe` may be written: nothing has arrived, not even the end, and it was just used.

        Where the probe leaves on time, on a connection that was in use `_BRISK_NS` ago, there is no need to look: the
        event loop has told of all that had arrived when it woke, and looking would shorten the gap from then on, but
        not close it.
        """
        idle_ns = probe.sent_ns - self.used_ns
        if self.closed or idle_ns > _IDLE_LIMIT_NS:
            return False
        if idle_ns < _BRISK_NS and probe.sent_ns - probe.scheduled_ns < _ON_TIME_NS:
            return True
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def ask(self, probe: Probe) -> None:
        """Write the request of `probe`, and answer for it from now on."""
        assert self._transport is not None
        self._probe = probe
        self._status = 0
        self._has_length = False
        self._body.clear()
        probe.carrier = self
        self._transport.write(self._owner.request)

    def cancel(self) -> None:
        """Give up the probe on it, which is no longer heard of."""
        self._probe = None
        abandon(self._socket)
        self.close()

    def close(self) -> None:
        """Close at once."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, kind: ErrorKind) -> None:
        probe, self._probe = self._probe, None
        self.close()
        if probe is not None:
            self._owner.failed(probe, kind)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._probe is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(ErrorKind.PROTOCOL)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._owner.lost(self)
        # The parser holds us by its callbacks.
        self._parser = None
        probe, self._probe = self._probe, None
        if probe is None:
            return
        if error is None and self._status >= _FINAL and not self._has_length:
            self._owner.answered(self, probe, self._status, bytes(self._body), keep=False)
        else:
            self._owner.failed(probe, kind_of(error) if error else ErrorKind.RESET)

    # What the parser calls

    def on_message_begin(self) -> None:
        # An answer that nobody asked for must not be taken for that to the next request.
        if self._probe is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) < _SHORTEST_LENGTH:
            return
        lowered = name.lower()
        if lowered == b"content-length" or (lowered == b"transfer-encoding" and b"chunked" in value.lower()):
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()
        if self._owner.heads_only and self._status >= _FINAL:
            # The parser, which does not know what was asked, would wait for the body that the lengths speak of.
            self._parser = httptools.HttpResponseParser(self)
            self.on_message_complete()

    def on_body(self, data: bytes) -> None:
        if self._owner.reads_body and len(self._body) < _LONGEST_BODY:
            self._body += data

    def on_message_complete(self) -> None:
        probe = self._probe
        if probe is None or self._status < _FINAL:
            return
        self._probe = None
        self.used_ns = monotonic_ns()
        self._owner.answered(self, probe, self._status, bytes(self._body), keep=self._keep)


def request_for(url: str, *, method: str = "GET", headers: Sequence[tuple[str, str]] = (), body: str = "") -> bytes:
    r"""Return the request for `url`; a user and password in it become a header (RFC 7617), unless `headers` has one.

    >>> request_for("http://me:secret@[::1]:8080/a b?c=d#e").decode().split("\r\n")[:3]
    ['GET /a%20b?c=d HTTP/1.1', 'Host: [::1]:8080', 'User-Agent: chaoslab']
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii").decode()
    path = quote(parts.path or "/", _QUOTED_AS_IT_IS)
    query = "?" + quote(parts.query, _QUOTED_AS_IT_IS) if parts.query else ""
    fields = {"Host": host, "User-Agent": "chaoslab", "Accept": "*/*"}
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        fields["Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    content = body.encode()
    if content or method in ("POST", "PUT", "PATCH"):
        fields["Content-Length"] = str(len(content))
    given = {name.lower() for name, _ in headers}
    both = [*((name, value) for name, value in fields.items() if name.lower() not in given), *headers]
    head = [f"{method} {path}{query} HTTP/1.1", *(f"{name}: {value}" for name, value in both), "", ""]
    return "\r\n".join(head).encode("ascii") + content


def _tls_context(look: Look) -> ssl.SSLContext:
    # asyncio sets aside 256 KB for each TLS connection: a gigabyte while a frozen service holds 4,000 of them.
    sslproto.SSLProtocol.max_size = _TLS_BUFFER
    context = look.tls.context()
    context.set_alpn_protocols(["http/1.1"])
    return context

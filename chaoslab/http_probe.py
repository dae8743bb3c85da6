"""HTTP/1.1 probes over connections that are kept, plain or TLS, by hand: httpx costs ten times as much a probe.

No probe is ever sent twice. A client that repeats a GET whose connection broke would hide what we are here to see. What
remains is that a server may close a connection while it is idle, which is no failure. So a kept connection is used
again only if nothing has arrived on it (its end is something), and only within a second of its last use, sooner than
any common server closes it. A connection that breaks after the request was written is a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from asyncio import sslproto
from base64 import b64encode
from collections.abc import Collection
from ipaddress import ip_address
from time import monotonic
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import httptools

from chaoslab.records import ErrorKind
from chaoslab.transport import Finish, Probe, kind_of

_PORTS: Final = {"http": 80, "https": 443}
_NO_TIMEOUT: Final = 86_400.0  # a probe's own time-out is the only one
_IDLE_LIMIT: Final = 1.0
_RESOLVED_LIMIT: Final = 1.0
_MOST_LOOKUPS: Final = 4  # asyncio has at least five threads for them
_QUOTED_AS_IT_IS: Final = "/%:=&?~+!$,;'@()*[]"
_TLS_BUFFER: Final = 16 * 1024
_FINAL: Final = 200  # below: interim answers, after which the real one comes
_LINGER_NOT: Final = struct.pack("ii", 1, 0)

_Address = tuple[socket.AddressFamily, Any]


class HttpTransport:
    """Sends GET requests for one URL, over at most `connections` connections.

    A probe that finds all of them busy is UNSENT. `success` holds the statuses that count as success. Connections go to
    `connect_to` (host, port) where it is given, else to the URL's own.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int,
        success: Collection[int],
        finish: Finish,
        connect_to: tuple[str, int] | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._name = parts.hostname or ""
        self._host, self._port = connect_to or (self._name, parts.port or _PORTS[parts.scheme])
        self._tls = _tls_context() if parts.scheme == "https" else None
        self._limit = connections
        self._success = frozenset(success)
        self._finish = finish
        self._loop = asyncio.get_running_loop()
        self._addresses: list[_Address] = []
        self._addresses_until = 0.0
        self._lookups: list[asyncio.Task[ErrorKind | None]] = []
        self._next_lookup = 0.0
        self._connecting = 0
        self._idle: list[_Connection] = []
        self._connections: set[_Connection] = set()
        self.request = request_for(url)

    def send(self, probe: Probe) -> None:
        """Ask over an idle connection, the one used last first, else over a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                connection.ask(probe)
                return
            connection.close()
        if len(self._connections) + self._connecting >= self._limit:
            self._finish(probe, None, ErrorKind.UNSENT)
            return
        probe.carrier = self._loop.create_task(self._ask_anew(probe))

    def tidy(self) -> None:
        """Close connections that have been idle for a second."""
        before = monotonic() - _IDLE_LIMIT
        for connection in self._idle:
            if connection.used_at < before:
                connection.close()
        self._idle = [connection for connection in self._idle if not connection.closed]

    def close(self) -> None:
        """Close all connections."""
        for connection in tuple(self._connections):
            connection.close()

    def answered(self, connection: _Connection, probe: Probe, status: int, *, keep: bool) -> None:
        """Take a complete answer, and the connection back if it can be kept."""
        self._finish(probe, status, None if status in self._success else ErrorKind.STATUS)
        if keep:
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
            connection = await self._connect()
        finally:
            self._connecting -= 1
        if isinstance(connection, ErrorKind):
            self._finish(probe, None, connection)
        elif connection.closed:
            self._finish(probe, None, ErrorKind.RESET)
        else:
            self._connections.add(connection)
            connection.ask(probe)

    async def _connect(self) -> _Connection | ErrorKind:
        """Open a connection to the first address that accepts one, else say why none does.

        Kinds are kept and not the errors themselves, whose tracebacks would hold on to everything that led to them.
        """
        if problem := await self._resolve():
            return problem
        problems: list[ErrorKind] = []
        for family, address in self._addresses:
            try:
                return await self._connect_to(family, address)
            except OSError as error:
                problems.append(kind_of(error))
        return ErrorKind.REFUSED if ErrorKind.REFUSED in problems else problems[0]

    async def _connect_to(self, family: socket.AddressFamily, address: Any) -> _Connection:
        connected = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await self._loop.sock_connect(connected, address)
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self, connected),
                sock=connected,
                ssl=self._tls,
                server_hostname=self._name if self._tls else None,
                ssl_handshake_timeout=_NO_TIMEOUT if self._tls else None,
            )
        except BaseException:
            _abandon(connected)
            connected.close()
            raise
        return connection

    async def _resolve(self) -> ErrorKind | None:
        """See that the addresses of the host are known, else say why not; those of a name hold for a second.

        A probe that comes while a lookup is under way waits for that one: were each to have its own, those that a
        silent name server leaves unanswered would pile up at the pace of the probes.
        """
        now = monotonic()
        if self._addresses_until > now:
            return None
        self._lookups = [lookup for lookup in self._lookups if not lookup.done()]
        if not self._lookups or (self._next_lookup <= now and len(self._lookups) < _MOST_LOOKUPS):
            self._next_lookup = now + _RESOLVED_LIMIT
            self._lookups.append(self._loop.create_task(self._look_up()))
        return await asyncio.shield(self._lookups[-1])

    async def _look_up(self) -> ErrorKind | None:
        try:
            found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            return kind_of(error)
        self._addresses = [(family, address) for family, _, _, _, address in found]
        self._addresses_until = float("inf") if _is_address(self._host) else monotonic() + _RESOLVED_LIMIT
        return None


class _Connection(asyncio.Protocol):
    """One connection, with at most one probe on it."""

    def __init__(self, owner: HttpTransport, connected: socket.socket) -> None:
        self.closed = False
        self.used_at = 0.0
        self._owner = owner
        self._socket = connected
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._probe: Probe | None = None
        self._status = 0
        self._keep = False
        self._has_length = False

    def usable(self) -> bool:
        """Whether a request may be written: nothing has arrived, not even the end, and it was used just now."""
        if self.closed or self.used_at < monotonic() - _IDLE_LIMIT:
            return False
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
        probe.carrier = self
        self._transport.write(self._owner.request)

    def cancel(self) -> None:
        """Give up the probe on it, which is no longer heard of."""
        self._probe = None
        _abandon(self._socket)
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
            self._owner.answered(self, probe, self._status, keep=False)
        else:
            self._owner.failed(probe, kind_of(error) if error else ErrorKind.RESET)

    # What the parser calls

    def on_message_begin(self) -> None:
        # An answer that nobody asked for must not be taken for that to the next request.
        if self._probe is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"content-length" or (lowered == b"transfer-encoding" and b"chunked" in value.lower()):
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        probe = self._probe
        if probe is None or self._status < _FINAL:
            return
        self._probe = None
        self.used_at = monotonic()
        self._owner.answered(self, probe, self._status, keep=self._keep)


def _abandon(connected: socket.socket) -> None:
    """Have the connection reset when it is closed, so that a given-up probe leaves no work there and no port here."""
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


def request_for(url: str) -> bytes:
    r"""Return the request for `url`; a user and password in it become a header (RFC 7617).

    >>> request_for("http://me:secret@[::1]:8080/a b?c=d#e").decode().split("\r\n")[:3]
    ['GET /a%20b?c=d HTTP/1.1', 'Host: [::1]:8080', 'User-Agent: chaoslab']
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii").decode()
    path = quote(parts.path or "/", _QUOTED_AS_IT_IS)
    query = "?" + quote(parts.query, _QUOTED_AS_IT_IS) if parts.query else ""
    lines = [f"GET {path}{query} HTTP/1.1", f"Host: {host}", "User-Agent: chaoslab", "Accept: */*"]
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"Authorization: Basic {b64encode(credentials.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _tls_context() -> ssl.SSLContext:
    # asyncio sets aside 256 KB for each TLS connection: a gigabyte while a frozen service holds 4,000 of them.
    sslproto.SSLProtocol.max_size = _TLS_BUFFER
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

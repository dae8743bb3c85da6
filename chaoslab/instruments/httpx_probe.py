"""HTTP probes by httpx: HTTP/2, redirects, a proxy, digest authentication.

Each costs some 2 ms of CPU time, at 100 a second four times what a lean one does, and 1.5 ms of latency.

What `http_probe` says of kept connections holds here too: one is used again only within a second of its last use, and
only if nothing has arrived on it. A request is sent anew in one case alone, when an HTTP/2 server says that it has not
looked at it (RFC 9113, section 6.8).

A connection of HTTP/2 carries many probes. One that leaves a probe unanswered takes no new ones: else a connection that
died without a word, as when its peer was cut off, would be asked for as long as the kernel believes in it, and an
outage would seem to last.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import unquote

import anyio
import h2.events
import h2.exceptions
import httpcore
import httpx

from chaoslab.errors import UsageError
from chaoslab.instruments.addresses import Addresses
from chaoslab.instruments.transport import Ending, Errands, Finish, Probe, kind_of
from chaoslab.looks import MOST_REDIRECTS, Look
from chaoslab.records import ErrorKind

FAILURES: Final = (
    *(httpx.HTTPError, httpx.InvalidURL, h2.exceptions.H2Error),
    *(httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError, httpcore.UnsupportedProtocol),
    OSError,  # TLS that breaks after the handshake
    *(KeyError, ValueError, NotImplementedError),  # a challenge (RFC 7616) that httpx cannot read
)
"""What a request by httpx may raise for what the target, or a proxy, did."""

_PORTS: Final = {"http": 80, "https": 443}
_IDLE_LIMIT: Final = 1.0
_LONGEST_BODY: Final = 1024**2
_MOST_HOSTS: Final = 64
_FRAME_HEADER: Final = 9
_LONGEST_FRAME: Final = 2**14  # by default, and we ask for no more
_GOAWAY: Final = 7
_NO_ERROR: Final = bytes(4)


class HttpxTransport(Errands):
    """Sends the request of a look, and what follows from it: one errand is all that leads to the final answer."""

    def __init__(self, look: Look, *, connections: int, finish: Finish) -> None:
        super().__init__(connections=connections, finish=finish)
        self._look = look
        self._connections = connections
        self._auth = authentication(look)
        self._context = look.tls.context()
        self._directory = _Directory(look)
        self._line = self._new_line()
        anyio.get_cancelled_exc_class()  # what anyio has for asyncio is imported when it is first used: now

    async def run(self, probe: Probe) -> Ending:
        """Ask, and return how the final answer ended."""
        line = self._new_line() if self._look.fresh else await self._usable_line()
        async with line.taken(last=self._look.fresh):
            try:
                ending = await self._ask(line)
            except asyncio.CancelledError:
                if self._look.http2:
                    await line.retire()
                raise
            # Now, since closing a connection is no part of the answer.
            self._finish(probe, *ending)
        return ending

    async def _ask(self, line: _Line) -> Ending:
        look, statuses = self._look, [0]

        async def prepare(request: httpx.Request) -> None:
            keep_home(request, look)

        async def note(answer: httpx.Response) -> None:
            statuses.append(answer.status_code)

        # A client for each probe: cookies that were set on its way are not for the next.
        client = httpx.AsyncClient(
            transport=line,
            timeout=None,
            trust_env=False,
            follow_redirects=look.follow_redirects,
            max_redirects=MOST_REDIRECTS,
            event_hooks={"request": [prepare], "response": [note]},
        )
        try:
            answer = await client.send(request_of(look), stream=True, auth=self._auth)
            body = await _body_of(answer, keep=look.success.reads_body)
        except httpx.TooManyRedirects:
            return statuses[-1], ErrorKind.STATUS
        except FAILURES as error:
            return None, error_kind(error)
        return answer.status_code, problem_of(look, answer, body)

    async def _usable_line(self) -> _Line:
        if not self._line.usable():
            last, self._line = self._line, self._new_line()
            await last.retire()
        return self._line

    def _new_line(self) -> _Line:
        return _Line(
            self._look,
            connections=self._connections,
            context=self._context,
            network=_Network(self._directory, multiplexed=self._look.http2),
        )


class _Line(httpx.AsyncBaseTransport):
    """A pool of connections, closed once it is retired and the last probe on it has ended."""

    def __init__(self, look: Look, *, connections: int, context: ssl.SSLContext, network: _Network) -> None:
        self._network = network
        self._multiplexed = look.http2
        self._errands = 0
        self._retired = False
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            proxy=_proxy(look.proxy, context) if look.proxy else None,
            max_connections=connections,
            keepalive_expiry=_IDLE_LIMIT,
            http1=not look.http2,
            http2=look.http2,
            network_backend=network,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Take a request to where its URL says.

        Raises:
            UnsupportedProtocol: a redirect has led to what is no HTTP.
        """
        url = request.url
        if url.scheme not in _PORTS:
            raise httpcore.UnsupportedProtocol("neither http nor https")
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                request.method,
                target,
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Stream(answer), extensions=answer.extensions
        )

    def usable(self) -> bool:
        """Whether it takes a probe; of an idle connection of HTTP/1.1 the pool asks the same."""
        if self._retired:
            return False
        if not self._multiplexed:
            return True
        return not self._network.leaving and (self._errands > 0 or not self._network.anything_arrived())

    @asynccontextmanager
    async def taken(self, *, last: bool) -> AsyncIterator[None]:
        """Hold it open for a probe, the last one that it takes or not."""
        self._errands += 1
        self._retired |= last
        try:
            yield
        finally:
            self._errands -= 1
            await self._close_if_done()

    async def retire(self) -> None:
        """Take no more probes."""
        self._retired = True
        await self._close_if_done()

    async def _close_if_done(self) -> None:
        if self._retired and not self._errands:
            await self._pool.aclose()


class _Stream(httpx.AsyncByteStream):
    """The body of an answer as httpx wants to have it."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._answer.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


class _Unresolved(httpcore.ConnectError):
    """The name of a host leads nowhere."""

    def __init__(self, kind: ErrorKind) -> None:
        self.kind = kind
        super().__init__(kind)


class _Directory:
    """Where hosts lead: the target's perhaps elsewhere than its URL says, as `Look.connect_to`."""

    def __init__(self, look: Look) -> None:
        url = httpx.URL(look.address)
        self._home = (url.raw_host.decode(), url.port or _PORTS[url.scheme])
        self._connect_to = look.connect_to
        self._known: dict[tuple[str, int], Addresses] = {}

    async def find(self, host: str, port: int) -> tuple[tuple[str, ...], int]:
        """Return the addresses of a host and the port to connect to.

        Raises:
            _Unresolved: it has no address.
        """
        place = self._connect_to if self._connect_to and (host, port) == self._home else (host, port)
        if place not in self._known and len(self._known) >= _MOST_HOSTS:
            self._known.clear()  # a server may redirect to ever new ones
        found = await self._known.setdefault(place, Addresses(*place)).find()
        if isinstance(found, ErrorKind):
            raise _Unresolved(found)
        return found, place[1]


class _Network(httpcore.AnyIOBackend):
    """Connects to the addresses that the directory has, and remembers what it has opened.

    `leaving`: a server has said that it will take no more requests (RFC 9113, section 6.8).
    """

    def __init__(self, directory: _Directory, *, multiplexed: bool) -> None:
        self.leaving = False
        self._directory = directory
        self._multiplexed = multiplexed
        self._streams: list[httpcore.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that accepts."""
        addresses, port = await self._directory.find(host, port)
        problems: list[httpcore.ConnectError] = []
        for address in addresses:
            try:
                stream = await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                problems.append(error)
            else:
                self._streams = [one for one in self._streams if _socket(one).fileno() >= 0] + [stream]
                return _Graceful(stream, self._leave) if self._multiplexed else stream
        raise next((one for one in problems if error_kind(one) is ErrorKind.REFUSED), problems[0])

    def anything_arrived(self) -> bool:
        """Whether anything, if only its end, waits on a connection."""
        return any(stream.get_extra_info("is_readable") for stream in self._streams)

    def _leave(self) -> None:
        self.leaving = True


class _Graceful(httpcore.AsyncNetworkStream):
    """Keeps a server's GOAWAY back until it closes the connection: h2 would hear no answer after it, and some come.

    A server that leaves in good order, as nginx does after every thousand requests, says so and then answers what it
    has taken; h2 knows no such state (python-hyper/h2#1181), and each time probes in flight would fail for nothing.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, leave: Callable[[], None]) -> None:
        self._stream = stream
        self._leave = leave
        self._received = bytearray()
        self._farewell = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return whole frames; at the end of the stream what is left, and what was kept back."""
        while data := await self._stream.read(max_bytes, timeout):
            self._received += data
            if frames := b"".join(self._frames()):
                return frames
        last, self._farewell = bytes(self._received) + self._farewell, b""
        self._received.clear()
        return last

    def _frames(self) -> Iterator[bytes]:
        """Yield the frames that are complete (RFC 9113, section 4.1), but for a GOAWAY that is no error."""
        while len(self._received) >= _FRAME_HEADER:
            length = _FRAME_HEADER + int.from_bytes(self._received[:3])
            if length > _FRAME_HEADER + _LONGEST_FRAME:
                length = len(self._received)  # not in HTTP/2: h2 will say so
            if len(self._received) < length:
                return
            frame = bytes(self._received[:length])
            del self._received[:length]
            if frame[3] == _GOAWAY and frame[13:17] == _NO_ERROR:
                self._farewell = frame
                self._leave()
            else:
                yield frame

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Graceful(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._leave)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _socket(stream: httpcore.AsyncNetworkStream) -> Any:
    return stream.get_extra_info("socket")


def _proxy(url: str, context: ssl.SSLContext) -> httpcore.Proxy:
    proxy = httpx.Proxy(url)
    at = httpcore.URL(scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target="/")
    return httpcore.Proxy(at, auth=proxy.raw_auth, ssl_context=context if proxy.url.scheme == "https" else None)


def client(look: Look) -> httpx.Client:
    """Return what takes a single request of a look; the look's time-out is that of each of its steps."""

    def prepare(request: httpx.Request) -> None:
        keep_home(request, look)
        if request.url.scheme not in _PORTS:
            raise httpx.UnsupportedProtocol("redirected to what is neither http nor https")

    return httpx.Client(
        timeout=look.timeout_s,
        trust_env=False,
        auth=authentication(look),
        verify=look.tls.context(),
        http1=not look.http2,
        http2=look.http2,
        proxy=look.proxy,
        follow_redirects=look.follow_redirects,
        max_redirects=MOST_REDIRECTS,
        event_hooks={"request": [prepare]},
    )


async def _body_of(answer: httpx.Response, *, keep: bool) -> bytes:
    """Read an answer to its end; return the body, as far as it is looked at, where it is to be kept."""
    body = bytearray()
    try:
        async for part in answer.aiter_raw():
            if keep and len(body) < _LONGEST_BODY:
                body += part
    finally:
        await answer.aclose()
    return bytes(body)


def require_urls(look: Look) -> None:
    """Raise UsageError, without showing a URL, where httpx does not take one that the lean client might."""
    for what, url in (("URL", look.address), ("proxy", look.proxy)):
        try:
            httpx.URL(url or "")
        except httpx.InvalidURL:
            raise UsageError(f"the {what} of the probe {look.name!r} holds what no URL may (RFC 3986)") from None


def request_of(look: Look) -> httpx.Request:
    """Return the first request of a look: what the lean client would send."""
    given = {name.lower() for name, _ in look.headers}
    usual = [
        (name, value) for name, value in (("User-Agent", "chaoslab"), ("Accept", "*/*")) if name.lower() not in given
    ]
    url = httpx.URL(look.address).copy_with(userinfo=b"")
    return httpx.Request(look.method, url, headers=[*usual, *look.headers], content=look.body.encode() or None)


def authentication(look: Look) -> httpx.Auth | None:
    """Return what answers for the user: a digest (RFC 7616), or what stands in the URL, unless a header does."""
    if look.digest is not None:
        return httpx.DigestAuth(*look.digest)
    url = httpx.URL(look.address)
    if not url.userinfo or any(name.lower() == "authorization" for name, _ in look.headers):
        return None
    user, _, password = url.userinfo.decode().partition(":")
    return httpx.BasicAuth(unquote(user), unquote(password))


def keep_home(request: httpx.Request, look: Look) -> None:
    """Take the look's own headers off a request that a redirect sends to another server: they may hold secrets."""
    home, url = httpx.URL(look.address), request.url
    same = (url.host == home.host) and (url.scheme, url.port) in ((home.scheme, home.port), ("https", None))
    for name in [] if same else [name for name, _ in look.headers if name.lower() != "host"]:
        request.headers.pop(name, None)


def problem_of(look: Look, answer: httpx.Response, body: bytes) -> ErrorKind | None:
    """Return what keeps an answer from being a success."""
    if look.http2 and answer.http_version != "HTTP/2":
        return ErrorKind.PROTOCOL
    if answer.status_code not in look.success.statuses:
        return ErrorKind.STATUS
    return None if look.success.accepts(body) else ErrorKind.BODY


def error_kind(error: BaseException) -> ErrorKind:
    """Return why a request by httpx has failed.

    >>> error_kind(httpcore.RemoteProtocolError("Server disconnected")).value
    'reset'
    """
    match error:
        case _Unresolved():
            return error.kind
        case httpcore.ProxyError():
            return ErrorKind.STATUS  # the proxy answered the CONNECT with it
        case httpcore.NetworkError() | OSError():
            cause = _last_os_error(error)
            return kind_of(cause) if cause is not None else ErrorKind.RESET
        case httpcore.RemoteProtocolError(args=(h2.events.Event(),)):
            return ErrorKind.RESET  # of the stream, or of the connection with it
        case httpcore.RemoteProtocolError() if "disconnected" in str(error) or "closed connection" in str(error):
            return ErrorKind.RESET
    return ErrorKind.PROTOCOL


def _last_os_error(error: BaseException) -> OSError | None:
    """Return the operating system's error at the bottom of one that others have wrapped."""
    return next((cause for cause in reversed([*_causes(error)]) if isinstance(cause, OSError)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

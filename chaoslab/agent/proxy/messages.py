"""HTTP/1 messages as they come in, in pieces: where a head ends, where a message ends, and what a request asks for.

httptools reads heads and chunked bodies; where a body has a length its bytes are only counted.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from chaoslab.agent.proxy.toxics import Request

_MOST_HEAD_BYTES = 64 * 1024


class NotHttp(Exception):
    """What came is no HTTP/1 message that can be followed: another protocol, or the change to one."""


class _Message:
    """One message: `take` reads it, and stops where its head ends and where it ends."""

    _parser: Any

    def __init__(self) -> None:
        self.head_complete = False
        self.complete = False
        self.headers: dict[str, str] = {}
        self._head_bytes = 0
        self._left: int | None = None  # bytes of a body whose length is known

    def take(self, data: bytes | bytearray) -> int:
        """Return how many bytes of `data` are the message's: up to the end of its head at first, then up to its own.

        Raises:
            NotHttp: it cannot be followed.
        """
        if not self.head_complete:
            return self._take_lines(data)
        if self._left is None:
            return self._take_unsized(data)
        taken = min(len(data), self._left)
        self._left -= taken
        self.complete = not self._left
        return taken

    def _take_lines(self, data: bytes | bytearray) -> int:
        """Feed line by line: the parser does not say where it stopped, but heads and chunked bodies end with a line."""
        taken, in_head = 0, not self.head_complete
        while taken < len(data) and not self.complete and self.head_complete != in_head:
            end = data.find(b"\n", taken) + 1 or len(data)
            self._feed(bytes(data[taken:end]))
            taken = end
        if in_head:
            self._head_bytes += taken
            if self._head_bytes > _MOST_HEAD_BYTES:
                raise NotHttp(f"a head of more than {_MOST_HEAD_BYTES} bytes")
        return taken

    def _take_unsized(self, data: bytes | bytearray) -> int:
        return self._take_lines(data)

    def _feed(self, line: bytes) -> None:
        import httptools

        try:
            self._parser.feed_data(line)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise NotHttp(str(error)) from error

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take note of a header; httptools calls this, and what follows."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Find out how the message ends."""
        self.head_complete = True
        if "transfer-encoding" not in self.headers and "content-length" in self.headers:
            self._left = int(self.headers["content-length"])

    def on_message_complete(self) -> None:
        """Take note of the end."""
        self.complete = True


class RequestMessage(_Message):
    """A request on its way to the target."""

    def __init__(self) -> None:
        import httptools

        super().__init__()
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""

    def on_url(self, url: bytes) -> None:
        """Take note of a part of the request's target."""
        self._url += url

    @property
    def request(self) -> Request:
        """What the head asks for."""
        path = urlsplit(self._url.decode("latin-1")).path
        return Request(self._parser.get_method().decode("latin-1"), path, self.headers)

    @property
    def keeps_connection(self) -> bool:
        """Whether another request may follow an answer that does not wait for this one's body."""
        return bool(self._parser.should_keep_alive()) and "expect" not in self.headers


class ResponseMessage(_Message):
    """An answer on its way to the client, to a request of the given method."""

    def __init__(self, method: str) -> None:
        import httptools

        super().__init__()
        self._parser = httptools.HttpResponseParser(self)
        self._method = method

    @property
    def interim(self) -> bool:
        """Whether another answer follows: 100 Continue, 103 Early Hints."""
        return bool(self._parser.get_status_code() < 200)

    def on_headers_complete(self) -> None:
        """An answer to HEAD ends with its head, whatever length it gives."""
        super().on_headers_complete()
        self.complete = self._method == "HEAD" and not self.interim

    def _take_unsized(self, data: bytes | bytearray) -> int:
        # Neither a length nor chunks: the answer lasts as long as the connection.
        return super()._take_unsized(data) if "transfer-encoding" in self.headers else len(data)

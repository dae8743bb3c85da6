"""The requests of one connection and their answers, one after the other, while request toxics stand.

A request waits for the answer to the one before it, so that an answer of our own never overtakes one of the target's;
clients that pipeline notice no more than that. What is no HTTP, and what asks to become another protocol, goes on as
plain bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from chaoslab.agent.proxy.messages import NotHttp, RequestMessage, ResponseMessage
from chaoslab.agent.proxy.toxics import RequestToxic, Toxic

if TYPE_CHECKING:
    import asyncio

    from chaoslab.agent.proxy.link import Link

_MOST_PENDING_BYTES: Final = 64 * 1024
_BODY: Final = b"this answer was injected by chaoslab\n"


class Exchange:
    """Follows a connection's requests from one to the next."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pending = bytearray()  # of the client's, not looked at yet
        self._client_ended = False
        self._deaf = False  # the client is not listened to any more
        self._expect_request()

    def _expect_request(self) -> None:
        self._request = RequestMessage()
        self._head = bytearray()
        self._struck: Sequence[RequestToxic] = ()
        self._judged = False
        self._swallows = False
        self._answer: ResponseMessage | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._link.up.pacers = self._link.down.pacers = ()

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not (self._judged or self._head or self._pending or self._deaf)

    @property
    def _waits(self) -> bool:
        """Whether what the client sends next has to wait: for a delay, or for an answer."""
        return self._timer is not None or (self._request.complete and self._answer is not None)

    def from_client(self, data: bytes) -> None:
        """Take in what the client sent."""
        if not self._deaf:
            self._pending += data
            self._advance()

    def client_ended(self) -> None:
        """Take in that the client sends no more."""
        if self._deaf:
            self._link.close()
            return
        self._client_ended = True
        self._advance()

    def from_target(self, data: bytes) -> None:
        """Hand on what the target sent, and see where an answer ends."""
        self._link.down.put(data)
        try:
            while data and self._answer is not None:
                data = data[self._answer.take(data) :]
                if self._answer.complete:
                    self._answered(self._answer)
        except NotHttp:
            self._give_up()
        else:
            self._advance()

    def _answered(self, answer: ResponseMessage) -> None:
        self._answer = ResponseMessage(self._request.request.method) if answer.interim else None
        self._finish()

    def _advance(self) -> None:
        try:
            while self._pending and not self._waits and not self._deaf:
                taken = self._request.take(self._pending)
                piece = bytes(self._pending[:taken])
                del self._pending[:taken]
                self._read(piece)
        except NotHttp:
            self._give_up()
            return
        self._link.up.crowd(len(self._pending) > _MOST_PENDING_BYTES)
        if self._client_ended and not self._pending and self._timer is None:
            self._end_client()
        elif self.idle and not self._link.request_toxics:
            self._link.tune()

    def _end_client(self) -> None:
        self._client_ended = False
        if self._head and not self._judged:
            self._link.up.put(bytes(self._head))
        self._link.up.put_end()

    def _read(self, piece: bytes) -> None:
        if self._judged:
            self._forward(piece)
            self._finish()
            return
        self._head += piece
        if self._request.head_complete:
            self._judge()

    def _forward(self, piece: bytes) -> None:
        if not self._swallows:
            self._link.up.put(piece)

    def _judge(self) -> None:
        """Decide about the request whose head is complete."""
        request = self._request.request
        self._judged = True
        self._struck = [toxic for toxic in self._link.request_toxics if toxic.strikes(request)]
        delay = sum(toxic.delay() for toxic in self._struck)
        if delay:
            self._timer = self._link.loop.call_later(delay, self._delayed, self._link.loop.time())
        else:
            self._carry_out()

    def _delayed(self, since: float) -> None:
        self._timer = None
        for toxic in self._struck:
            toxic.waited(self._link.loop.time() - since)
        self._carry_out()
        self._advance()

    def _carry_out(self) -> None:
        ending = next((toxic for toxic in self._struck if toxic.ends), None)
        if ending is None:
            self._link.up.pacers = self._link.down.pacers = self._struck
            self._answer = ResponseMessage(self._request.request.method)
            self._forward(bytes(self._head))
        elif ending.status is not None:
            self._reply(ending.status)
        else:
            self._deaf = True
            # Hung: whatever becomes of the target's side meanwhile is not for the client to see.
            (self._link.reset if ending.reset else self._link.down.stop)()
        self._finish()

    def _finish(self) -> None:
        """Go on to the next request once this one and its answer are through."""
        if self._request.complete and self._answer is None and self._timer is None and not self._deaf:
            self._expect_request()

    def _reply(self, status: int) -> None:
        """Answer in the target's place."""
        keeps = self._request.keeps_connection
        self._link.down.put(_answer(status, self._request.request.method, keeps=keeps))
        self._swallows = True
        self._link.last = self._link.down
        if not keeps:
            self._deaf = True
            self._link.down.put_end()

    def free(self, cleared: Toxic) -> None:
        """Let go of the request that a toxic delays; one that it left hanging will never be answered."""
        if cleared not in self._struck:
            return
        if self._deaf and any(toxic.hang for toxic in self._struck):
            self._link.reset()
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._struck = [toxic for toxic in self._struck if toxic is not cleared]
            self._carry_out()
            self._advance()

    def _give_up(self) -> None:
        if self._swallows:
            self._link.reset()
            return
        head = b"" if self._judged else self._head
        self.stop()
        self._link.up.pacers = self._link.down.pacers = ()
        self._link.up.crowd(False)
        self._link.give_up_following()
        self._link.up.put(bytes(head + self._pending))
        if self._client_ended:
            self._link.up.put_end()

    def stop(self) -> None:
        """Let nothing happen later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _answer(status: int, method: str, *, keeps: bool) -> bytes:
    """Return an answer of our own.

    >>> _answer(204, "GET", keeps=True)
    b'HTTP/1.1 204 No Content\\r\\nServer: chaoslab\\r\\n\\r\\n'
    """
    known = {one.value: one.phrase for one in HTTPStatus}
    lines = [f"HTTP/1.1 {status} {known.get(status, 'Injected')}", "Server: chaoslab"]
    bodiless = status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    if not bodiless:
        lines += ["Content-Type: text/plain", f"Content-Length: {len(_BODY)}"]
    if not keeps:
        lines.append("Connection: close")
    head = "\r\n".join((*lines, "", "")).encode()
    return head if bodiless or method == "HEAD" else head + _BODY

"""One client's connection and the one to the target that belongs to it."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from chaoslab.agent.proxy.exchange import Exchange
from chaoslab.agent.proxy.flow import Flow
from chaoslab.agent.proxy.toxics import RequestToxic, StreamToxic, Toxic

if TYPE_CHECKING:
    from chaoslab.agent.proxy.server import Proxy

RESET: Final = struct.pack("ii", 1, 0)


class Link:
    """Two flows between two sockets.

    `last` is the flow that handed something on last: where the target did, the next bytes of the client are a new
    request. `plain` says that what passes is no HTTP that can be followed. `failed` says that the connection broke.
    """

    def __init__(self, proxy: Proxy, client: socket.socket, target: socket.socket) -> None:
        self.loop = proxy.loop
        self.last: Flow | None = None
        self.plain = False
        self.failed = False
        self.exchange: Exchange | None = None
        self._proxy = proxy
        self._sockets = (client, target)
        for one in self._sockets:
            # Without this, small writes would wait for acknowledgements that the direct way would not wait for.
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.up = Flow(self, client, target, towards_target=True)
        self.down = Flow(self, target, client, towards_target=False)
        self.tune()

    def begin(self) -> None:
        """Begin to hand bytes on."""
        self.up.begin()
        self.down.begin()

    @property
    def stream_toxics(self) -> tuple[StreamToxic, ...]:
        """The toxics that act on bytes."""
        return self._proxy.stream_toxics

    @property
    def request_toxics(self) -> tuple[RequestToxic, ...]:
        """The toxics that act on requests."""
        return self._proxy.request_toxics

    def tune(self) -> None:
        """Let bytes pass directly where nothing has to look at them."""
        if self.exchange is not None and self.exchange.idle and not self.request_toxics:
            self.exchange = None
        quiet = not self.stream_toxics and self.exchange is None
        self.up.direct = quiet and self.up.idle and (self.plain or not self.request_toxics)
        self.down.direct = quiet and self.down.idle

    def free(self, cleared: Toxic) -> None:
        """Let go of what a toxic that is gone holds back, and of what it left hanging."""
        if self.exchange is not None:
            self.exchange.free(cleared)
        for flow in (self.up, self.down):
            flow.free(cleared)
        self.tune()

    def arrived(self, flow: Flow, data: bytes) -> None:
        """Take in what came on a flow that is not direct."""
        boundary = self.last is not self.up
        self.last = flow
        if flow is self.down:
            (self.exchange.from_target if self.exchange else flow.put)(data)
            return
        if self.exchange is None and self.request_toxics and boundary and not self.plain:
            self.exchange = Exchange(self)
            self.tune()
        (self.exchange.from_client if self.exchange else flow.put)(data)

    def ended(self, flow: Flow) -> None:
        """Hand on that a flow's source sends no more."""
        if flow is self.up and self.exchange is not None:
            self.exchange.client_ended()
        else:
            flow.put_end()

    def give_up_following(self) -> None:
        """Hand on bytes as they are from now on: they are no HTTP that can be followed."""
        self.plain = True
        self.exchange = None
        self._proxy.unfollowed += 1
        self.tune()

    def flow_finished(self) -> None:
        """Close once both flows are over; a connection that broke on one side breaks on the other."""
        if self.up.finished and self.down.finished:
            if self.failed:
                self.reset()
            else:
                self.close()

    def reset(self) -> None:
        """Reset both connections: what happened to one side happens to the other."""
        for one in self._sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.close()

    def close(self) -> None:
        """Close both connections; nothing is handed on any more."""
        if self.exchange is not None:
            self.exchange.stop()
        for flow in (self.up, self.down):
            flow.stop()
        for one in self._sockets:
            one.close()
        self._proxy.links.discard(self)

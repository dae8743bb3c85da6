"""The proxy itself: accepts clients, connects them to the target, and keeps the toxics that stand."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final

from chaoslab.agent.proxy.control import address
from chaoslab.agent.proxy.link import RESET, Link
from chaoslab.agent.proxy.toxics import KINDS, RequestToxic, StreamToxic

Address = tuple[str, int]

_BACKLOG: Final = 1024
_OUT_OF_FILES_PAUSE: Final = 0.1
_PEER_CREDENTIALS: Final = struct.Struct("3i")


class Proxy:
    """Hands connections on to one address, through toxics that can be set while it runs."""

    def __init__(self, upstream: Address) -> None:
        self.loop = asyncio.get_running_loop()
        self.links: set[Link] = set()
        self.stream_toxics: tuple[StreamToxic, ...] = ()
        self.request_toxics: tuple[RequestToxic, ...] = ()
        self.unfollowed = 0
        self._toxics: dict[str, StreamToxic | RequestToxic] = {}
        self._upstream = upstream
        self._passable = asyncio.Event()
        self._passable.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, at: Address) -> socket.socket:
        """Accept clients at an address from now on.

        Raises:
            OSError: it is taken, or not this machine's.
        """
        family = socket.AF_INET6 if ":" in at[0] else socket.AF_INET
        listener = socket.create_server(at, family=family, backlog=_BACKLOG)
        listener.setblocking(False)
        self.loop.add_reader(listener, self._accept, listener)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BACKLOG):
            try:
                client, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # Out of files: those that wait are accepted once others have closed.
                self.loop.remove_reader(listener)
                self.loop.call_later(_OUT_OF_FILES_PAUSE, self.loop.add_reader, listener, self._accept, listener)
                return
            client.setblocking(False)
            task = self.loop.create_task(self._open(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, client: socket.socket) -> None:
        """Connect a client to the target, once no black hole lies between; one that cannot be is reset."""
        patient = self._passable.is_set() or await self._outlasts_hole(client)
        target = await self._connect() if patient else None
        if target is None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            return
        link = Link(self, client, target)
        self.links.add(link)
        link.begin()

    async def _outlasts_hole(self, client: socket.socket) -> bool:
        """Wait for the black holes to go; return whether the client still waits for an answer then."""
        for hole in (toxic for toxic in self.stream_toxics if toxic.black_hole):
            hole.connections += 1
        await self._passable.wait()
        poll = select.poll()
        poll.register(client, select.POLLRDHUP)
        return not poll.poll(0)

    async def _connect(self) -> socket.socket | None:
        for family, where in await self._addresses():
            target = socket.socket(family, socket.SOCK_STREAM)
            target.setblocking(False)
            try:
                await self.loop.sock_connect(target, where)
            except OSError:
                target.close()
            else:
                return target
        return None

    async def _addresses(self) -> list[tuple[int, Any]]:
        host, port = self._upstream
        with suppress(ValueError):
            return [(socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET, (host, port))]
        try:
            found = await self.loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            return []
        return [(family, where) for family, _, _, _, where in found]

    def set(self, name: str, kind: str, settings: Mapping[str, Any]) -> None:
        """Let a toxic stand; one of that name that stands already is replaced, and counts begin anew."""
        if kind == "requests":
            import httptools  # noqa: F401  # not at the first request: nobody shall wait for it
        self.clear(name)
        self._toxics[name] = KINDS[kind](**settings)
        self._sort()
        for link in self.links:
            link.tune()

    def clear(self, name: str) -> None:
        """Take a toxic away, the others stand; what it holds back goes on at once, what it left hanging is reset."""
        cleared = self._toxics.pop(name, None)
        if cleared is None:
            return
        self._sort()
        for link in list(self.links):
            link.free(cleared)

    def _sort(self) -> None:
        toxics = self._toxics.values()
        self.stream_toxics = tuple(toxic for toxic in toxics if isinstance(toxic, StreamToxic))
        self.request_toxics = tuple(toxic for toxic in toxics if isinstance(toxic, RequestToxic))
        holed = any(toxic.black_hole for toxic in self.stream_toxics)
        (self._passable.clear if holed else self._passable.set)()

    def obey(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a control request; return how the toxic that it names stands, and which others do."""
        name = request["toxic"]
        match request["command"]:
            case "set":
                try:
                    self.set(name, request["kind"], request["settings"])
                except ImportError as error:
                    return {"error": f"{error.name} is not installed where the proxy runs: pip install {error.name}"}
            case "clear":
                self.clear(name)
        toxic = self._toxics.get(name)
        return {
            "toxic": toxic.state() if toxic else None,
            "standing": list(self._toxics),
            "unfollowed": self.unfollowed,
        }

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out one control request of this user's, or of root's; other users get no answer."""
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        _, uid, _ = _PEER_CREDENTIALS.unpack(peer)
        if uid in (0, os.getuid()):
            state = self.obey(json.loads(await reader.readline()))
            writer.write(json.dumps(state).encode() + b"\n")
            await writer.drain()
        writer.close()


def serve(token: str, *, listen: Address, upstream: Address, seconds: float) -> None:
    """Run a proxy for `seconds`.

    Raises:
        OSError: the address is taken, or not this machine's.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve(token, listen, upstream, seconds))


async def _serve(token: str, listen: Address, upstream: Address, seconds: float) -> None:
    proxy = Proxy(upstream)
    control = await asyncio.start_unix_server(proxy.answer, path=address(token))
    with proxy.listen(listen):
        async with control:
            await asyncio.sleep(seconds)

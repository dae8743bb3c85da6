"""A TCP proxy in front of the target, for machines where the kernel's own shaping is out of reach.

    python -m chaoslab.agent.proxy serve TOKEN --listen HOST:PORT --upstream HOST:PORT --seconds S
    python -m chaoslab.agent.proxy set TOKEN [--delay-ms D] [--loss-percent P --seed N]
    python -m chaoslab.agent.proxy clear TOKEN
    python -m chaoslab.agent.proxy stats TOKEN

The prober is sent through it for the whole run, baseline and all, so that what the proxy itself adds is on both sides
of every comparison. With no toxic set it hands bytes on as they come. Toxics act on the way to the target, as netem
does on the way out: `delay` holds each chunk back for that long; `loss` is *emulated*: TCP hides a lost packet behind a
retransmission, so what an application sees of it is a stall (RFC 6298: 200 ms as in Linux, doubled at each further
loss, 1 s for a connection's first packet), and everything behind it waits too.

The control socket is abstract (unix(7)): it goes with the process, and only this user is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from weakref import WeakSet

_RETRANSMISSION_SECONDS: Final = 0.2
_SYN_RETRANSMISSION_SECONDS: Final = 1.0
_MOST_LOSSES: Final = 6
_MOST_HELD_BYTES: Final = 4 * 1024**2
_CONTROL_LIMIT: Final = 2.0
_PEER_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(slots=True)
class Toxics:
    """What is done to chunks on the way to the target, and what was done so far."""

    delay_seconds: float = 0.0
    loss: float = 0.0
    generator: random.Random = field(default_factory=random.Random, repr=False)
    chunks: int = 0
    stalled: int = 0

    def holds(self, first: bool) -> float:
        """Return for how many seconds the next chunk is held back; `first` is a connection's own first packet."""
        if not self.delay_seconds and not self.loss:
            return 0.0
        self.chunks += 1
        losses = 0
        while losses < _MOST_LOSSES and self.generator.random() < self.loss:
            losses += 1
        self.stalled += losses > 0
        pause = _SYN_RETRANSMISSION_SECONDS if first else _RETRANSMISSION_SECONDS
        return self.delay_seconds + pause * float(2**losses - 1)


class _Side(asyncio.Protocol):
    """One of the two connections of a pair; bytes that arrive here leave through `other`."""

    def __init__(self, proxy: Proxy, *, towards_target: bool) -> None:
        self._proxy = proxy
        self._towards_target = towards_target
        self._transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        # Chunks held back, with the loop time at which each is due; None stands for the end of the stream.
        self._held: deque[tuple[float, bytes | None]] = deque()
        self._held_bytes = 0
        self._last_due = 0.0
        proxy.sides.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_MOST_HELD_BYTES)
        # Without this, small writes would wait for acknowledgements that the direct way would not wait for.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._towards_target:
            transport.pause_reading()
            self._proxy.connect_on(self)

    def paired(self, other: _Side) -> None:
        """Begin to hand bytes on."""
        self.other = other
        if self._towards_target and self._transport is not None:
            self._wait(self._proxy.toxics.holds(first=True))
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        pause = self._proxy.toxics.holds(first=False) if self._towards_target else 0.0
        if pause or self._held or self._last_due > self._proxy.loop.time():
            self._wait(pause)
            self._hold(data)
        elif self.other is not None:
            self.other.write(data)

    def eof_received(self) -> bool:
        if self._held:
            self._hold(None)
        elif self.other is not None:
            self.other.write_eof()
        return True

    def _wait(self, seconds: float) -> None:
        # TCP keeps order: what comes later never leaves earlier.
        self._last_due = max(self._last_due, self._proxy.loop.time() + seconds)

    def _hold(self, data: bytes | None) -> None:
        self._held.append((self._last_due, data))
        self._held_bytes += len(data or b"")
        if self._held_bytes > _MOST_HELD_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._proxy.loop.call_at(self._last_due, self._release)

    def hurry(self) -> None:
        """Let go of everything that is held back."""
        self._held = deque((0.0, data) for _, data in self._held)
        self._last_due = 0.0
        self._release()

    def _release(self) -> None:
        while self._held and self._held[0][0] <= self._proxy.loop.time() + 1e-4:
            _, data = self._held.popleft()
            self._held_bytes -= len(data or b"")
            if self.other is None:
                continue
            if data is None:
                self.other.write_eof()
            else:
                self.other.write(data)
        # Before it is paired a side must not read: there would be nowhere to put the bytes.
        ready = self.other is not None and self._held_bytes <= _MOST_HELD_BYTES
        if ready and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes out of this side."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def write_eof(self) -> None:
        """End the stream out of this side; the other direction may go on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def pause_writing(self) -> None:
        if self.other is not None and self.other._transport is not None:
            self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other._transport is not None:
            self.other._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self.other is None:
            return
        self.other.other = None
        if error is not None:
            self.other.abort()
        else:
            self.other.close()

    def close(self) -> None:
        """Close once everything written is out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Reset the connection: what happened to the other side happens to this one."""
        if self._transport is None:
            return
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()


class Proxy:
    """Hands TCP connections on to one address, through toxics that can be set while it runs."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.loop = asyncio.get_running_loop()
        self.toxics = Toxics()
        self.sides: WeakSet[_Side] = WeakSet()
        self._upstream = upstream
        self._tasks: set[asyncio.Task[None]] = set()

    def client(self) -> asyncio.Protocol:
        """Return the protocol of one new client."""
        return _Side(self, towards_target=True)

    def connect_on(self, client: _Side) -> None:
        """Connect a client to the target."""
        task = self.loop.create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: _Side) -> None:
        host, port = self._upstream
        try:
            _, target = await self.loop.create_connection(lambda: _Side(self, towards_target=False), host, port)
        except OSError:
            client.abort()
            return
        target.other = client
        client.paired(target)

    def set(self, *, delay_ms: float = 0.0, loss_percent: float = 0.0, seed: int = 0) -> None:
        """Replace the toxics; the counts begin anew, and what the old ones held back goes on at once."""
        for side in list(self.sides):
            side.hurry()
        self.toxics = Toxics(delay_ms / 1000, loss_percent / 100, random.Random(seed))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out one control request, and say how the toxics stand; other users get no answer."""
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        _, uid, _ = _PEER_CREDENTIALS.unpack(peer)
        if uid in (0, os.getuid()):
            request = json.loads(await reader.readline())
            if "set" in request:
                self.set(**request["set"])
            state = {name: value for name, value in asdict(self.toxics).items() if name != "generator"}
            writer.write(json.dumps(state).encode() + b"\n")
            await writer.drain()
        writer.close()


def _address(token: str) -> str:
    return f"\0chaoslab-proxy-{token}"


async def _serve(token: str, listen: tuple[str, int], upstream: tuple[str, int], seconds: float) -> None:
    proxy = Proxy(upstream)
    server = await proxy.loop.create_server(proxy.client, *listen, backlog=1024)
    control = await asyncio.start_unix_server(proxy.answer, path=_address(token))
    async with server, control:
        await asyncio.sleep(seconds)


def _ask(token: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the proxy's answer, or None when there is no such proxy."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(_CONTROL_LIMIT)
        try:
            control.connect(_address(token))
        except ConnectionRefusedError:
            return None
        control.sendall(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(control.makefile().readline())
        return answer


def _pair(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def main(argv: Sequence[str]) -> int:
    """Run one command; `set` and `stats` exit 1 where there is no such proxy, for `clear` that is success."""
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.proxy")
    parser.add_argument("command", choices=["serve", "set", "clear", "stats"])
    parser.add_argument("token")
    parser.add_argument("--listen", type=_pair)
    parser.add_argument("--upstream", type=_pair)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--loss-percent", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.command == "serve":
        asyncio.run(_serve(options.token, options.listen, options.upstream, options.seconds))
        return 0
    wanted = {"delay_ms": options.delay_ms, "loss_percent": options.loss_percent, "seed": options.seed}
    requests: dict[str, dict[str, Any]] = {"set": {"set": wanted}, "clear": {"set": {}}, "stats": {}}
    state = _ask(options.token, requests[options.command])
    print(json.dumps(state or {}))
    return 0 if state is not None or options.command == "clear" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

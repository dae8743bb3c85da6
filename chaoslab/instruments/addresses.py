"""The addresses of a host, looked up again once a second and never at the pace of the probes; and how to connect."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from time import monotonic
from typing import Any, Final, TypeVar

from chaoslab.instruments.transport import kind_of
from chaoslab.records import ErrorKind

_RESOLVED_LIMIT: Final = 1.0
_MOST_LOOKUPS: Final = 4  # asyncio has at least five threads for them
_LINGER_NOT: Final = struct.pack("ii", 1, 0)

_T = TypeVar("_T")


class Addresses:
    """Where `host` and `port` lead; those of a name hold for a second."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._loop = asyncio.get_running_loop()
        self._found: list[tuple[socket.AddressFamily, Any]] = []
        self._until = 0.0
        self._lookups: list[asyncio.Task[ErrorKind | None]] = []
        self._next_lookup = 0.0

    async def find(self) -> tuple[str, ...] | ErrorKind:
        """Return the addresses, else why there are none."""
        return await self._resolve() or tuple(address[0] for _, address in self._found)

    async def connect(self, opened: Callable[[socket.socket], Awaitable[_T]]) -> _T | ErrorKind:
        """Connect to the first address that accepts; return what `opened` makes of that, else why none does.

        `opened` may raise OSError, too. Kinds are kept and not the errors themselves, whose tracebacks would hold on to
        everything that led to them.
        """
        if problem := await self._resolve():
            return problem
        problems: list[ErrorKind] = []
        for family, address in self._found:
            try:
                return await self._connect_to(family, address, opened)
            except OSError as error:
                problems.append(kind_of(error))
        return ErrorKind.REFUSED if ErrorKind.REFUSED in problems else problems[0]

    async def _connect_to(
        self, family: socket.AddressFamily, address: Any, opened: Callable[[socket.socket], Awaitable[_T]]
    ) -> _T:
        connected = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await self._loop.sock_connect(connected, address)
            return await opened(connected)
        except BaseException:
            abandon(connected)
            connected.close()
            raise

    async def _resolve(self) -> ErrorKind | None:
        """See that the addresses of the host are known, else say why not.

        A probe that comes while a lookup is under way waits for that one: were each to have its own, those that a
        silent name server leaves unanswered would pile up at the pace of the probes.
        """
        now = monotonic()
        if self._until > now:
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
        self._found = [(family, address) for family, _, _, _, address in found]
        self._until = float("inf") if _is_address(self._host) else monotonic() + _RESOLVED_LIMIT
        return None


def abandon(connected: socket.socket) -> None:
    """Have the connection reset when it is closed, so that a given-up probe leaves no work there and no port here."""
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

"""Much TCP traffic to one port in little time, by a process of its own: bytes sent, each after the last one's echo.

with traffic(connections=100) as port:
    ...
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def traffic(host: str = "127.0.0.1", *, connections: int = 100) -> Iterator[int]:
    """Yield the port that all the connections lead to."""
    argv = [sys.executable, __file__, host, str(connections)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def play(host: str, connections: int, report: Callable[[int], None]) -> None:
    """Send to and fro until this process is killed; `report` is told the port."""
    asyncio.run(_serve_and_ask(host, connections, report))


async def _serve_and_ask(host: str, connections: int, report: Callable[[int], None]) -> None:
    server = await asyncio.start_server(_echo, host, 0, backlog=connections)
    port = server.sockets[0].getsockname()[1]
    report(port)
    await asyncio.gather(*(_ask(host, port) for _ in range(connections)))


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while byte := await reader.read(1):
        writer.write(byte)


async def _ask(host: str, port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            while True:
                writer.write(b"x")
                await reader.readexactly(1)


if __name__ == "__main__":
    play(sys.argv[1], int(sys.argv[2]), lambda port: print(port, flush=True))

"""What the proxy adds while no toxic stands: the direct way against the way through it, in turns within one run.

    python benchmarks/proxy.py [--json] [--rounds N] [--seconds S] [--proxy "COMMAND"]

Small requests: a load generator in a process of its own sends requests over kept connections, each after the answer to
the last one, at several concurrencies; ratios of throughput and of latency are those of neighbouring turns, so that
what else the machine does hits both. Bulk: one connection carries as much as it can. Each figure is the median over the
rounds, with the smallest and the largest. Beside the ratios stands what the proxy adds: to the latency of a request,
and in CPU time of its own, which other processes disturb least. --proxy measures another one: a command with
{listen} and {upstream}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_OWN = f"{shlex.quote(sys.executable)} -m chaoslab.agent.proxy serve bench-{os.getpid()} --listen {{listen}} \
--upstream {{upstream}} --seconds 120"
_REQUEST = b"GET /ok HTTP/1.1\r\nHost: target\r\nUser-Agent: benchmark\r\nAccept: */*\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
_CONCURRENCIES = (1, 8, 64)
_CHUNK = bytes(256 * 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median over the rounds, and its neighbours."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, direct and through the proxy, and what the proxy makes of it: a ratio, or what it adds."""

    what: str
    unit: str
    direct: Spread
    proxied: Spread
    made: Spread
    as_ratio: bool

    @classmethod
    def of(cls, what: str, unit: str, pairs: Sequence[tuple[float, float]], *, as_ratio: bool = True) -> Row:
        direct, proxied = zip(*pairs, strict=True)
        made = [through / straight if as_ratio else through - straight for straight, through in pairs]
        spreads = {"direct": Spread.of(direct), "proxied": Spread.of(proxied), "made": Spread.of(made)}
        return cls(what=what, unit=unit, as_ratio=as_ratio, **spreads)

    def __str__(self) -> str:
        made = f"{'×' if self.as_ratio else '+'}{self.made}"
        return f"{self.what:28} {self.unit:>5}   {self.direct!s:31} {self.proxied!s:31} {made}"


class Answering(asyncio.Protocol):
    """Answers each request at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)


class Asking(asyncio.Protocol):
    """Sends the next request when the last one is answered, and notes how long each took."""

    def __init__(self, until: float) -> None:
        self.times: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self._until = until
        self._sent = self._left = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._left, self._sent = len(_ANSWER), time.perf_counter()
        self._transport.write(_REQUEST)

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left:
            return
        now = time.perf_counter()
        self.times.append(now - self._sent)
        if now < self._until:
            self._ask()
        else:
            self._transport.close()
            self.done.set_result(None)


async def _ask(port: int, concurrency: int, seconds: float) -> list[float]:
    loop, until = asyncio.get_running_loop(), time.perf_counter() + seconds
    made = [await loop.create_connection(lambda: Asking(until), "127.0.0.1", port) for _ in range(concurrency)]
    await asyncio.gather(*(asker.done for _, asker in made))
    return [moment for _, asker in made for moment in asker.times]


def requests(port: int, concurrency: int, seconds: float) -> tuple[float, float, float]:
    """Return requests per second, and the median and the 99th percentile of their latency in µs."""
    times = asyncio.run(_ask(port, concurrency, seconds))
    percentiles = statistics.quantiles(times, n=100)
    return len(times) / seconds, percentiles[49] * 1e6, percentiles[98] * 1e6


def bulk(port: int, seconds: float) -> float:
    """Return how many megabytes a second one connection carries."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        started, sent = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            connection.sendall(_CHUNK)
            sent += len(_CHUNK)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # the sink closes once it has read everything
        return sent / 1e6 / (time.perf_counter() - started)


async def _serve(kind: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    if kind == "web":
        await (await loop.create_server(Answering, "127.0.0.1", port)).serve_forever()
    server = socket.create_server(("127.0.0.1", port))
    buffer = bytearray(1024**2)
    while True:
        connection, _ = server.accept()
        with connection:
            while connection.recv_into(buffer):
                pass


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(argv: Sequence[str], port: int) -> Iterator[psutil.Process]:
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(argv, env=here) as process:
        try:
            _until_open(port)
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def _until_open(port: int, patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing listens on port {port} after {patience:g} s")
        time.sleep(0.02)


@contextmanager
def ways(kind: str, proxy: str) -> Iterator[tuple[int, int, psutil.Process]]:
    """Yield the ports of a target and of a proxy in front of it, and the proxy's process."""
    straight, through = _free_port(), _free_port()
    command = proxy.format(listen=f"127.0.0.1:{through}", upstream=f"127.0.0.1:{straight}")
    with (
        _running((sys.executable, __file__, "--serve", kind, "--port", str(straight)), straight),
        _running(shlex.split(command), through) as process,
    ):
        yield straight, through, process


def _busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(proxy: str, *, rounds: int, seconds: float) -> Iterator[Row]:
    """Yield the figures, each from turns that follow one another."""
    with ways("web", proxy) as (straight, through, process):
        for concurrency in _CONCURRENCIES:
            turns, used = [], []
            for _ in range(rounds):
                direct, before = requests(straight, concurrency, seconds), _busy(process)
                turns.append((direct, requests(through, concurrency, seconds)))
                used.append((_busy(process) - before) / (turns[-1][1][0] * seconds) * 1e6)
            yield from _rows(f"{concurrency} connections", turns)
            cpu = [(0.0, share) for share in used]
            yield Row.of(f"{concurrency} connections, proxy's CPU", "µs", cpu, as_ratio=False)
    with ways("sink", proxy) as (straight, through, _):
        pairs = [(bulk(straight, seconds), bulk(through, seconds)) for _ in range(rounds)]
        yield Row.of("bulk, one connection", "MB/s", pairs)


def _rows(name: str, turns: Sequence[tuple[tuple[float, ...], tuple[float, ...]]]) -> Iterator[Row]:
    for number, (what, unit) in enumerate((("throughput", "1/s"), ("p50", "µs"), ("p99", "µs"))):
        pairs = [(direct[number], proxied[number]) for direct, proxied in turns]
        yield Row.of(f"{name}, {what}", unit, pairs)
        if unit == "µs":
            yield Row.of(f"{name}, {what}", unit, pairs, as_ratio=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the proxy adds while no toxic stands.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.7, help="length of one turn")
    parser.add_argument("--proxy", default=_OWN, help="command of the proxy, with {listen} and {upstream}")
    parser.add_argument("--serve", choices=("web", "sink"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve(options.serve, options.port))
        return
    rows = list(measure(options.proxy, rounds=options.rounds, seconds=options.seconds))
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    print(f"{'':28} {'unit':>5}   {'direct':31} {'through the proxy':31} ratio, or added")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()

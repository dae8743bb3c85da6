"""The prober beside other open-loop tools, and against outages whose length is known.

    python benchmarks/prober.py [--json] [--seconds S] [--rates 100 1000 5000] [--outages N] [--stressors 8] [--tools …]
                                [--rows N]

Load: nginx (one process) answers on loopback; each tool that is installed asks it at the same rates, in turns. Printed
are the rate that was reached, how late requests left (lag; h2load and hey do not say), the latency that the tool tells
and CPU-seconds per 1,000 requests, without what Python takes to start; then the same beside CPU stressors (stress-ng).
wrk is left out: it has no rate. aiohttp is used in its documented way, one session; httpx is one AsyncClient, reused;
both give up sending after twice the time. chaoslab-httpx is a probe that may be redirected and never is, up to the rate
that scenario files accept for it.

Outages: nginx is frozen, or killed and started again, for about a second; the outage that the prober's rows tell is
compared with the time for which nginx was gone. Errors are estimated - true, in ms; a kill ends when a request
is answered.

Rows: `--rows 10000000` puts that many rows of a real series through the recorder and joins its parts, as fast as it can
write; printed are bytes a row on disk, and the memory of the process after the first million and at its highest.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import importlib.util
import io
import json
import os
import random
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from chaoslab.instruments.probe import Prober, ProbeSpec, Summary
from chaoslab.looks import Look
from chaoslab.metrics import down_seconds
from chaoslab.monitoring import HIGHEST_HTTPX_RATE_HZ
from chaoslab.records import Outcome
from chaoslab.store import RunKey

_CONFIGURATION = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "ok"; }} }}
}}
"""
_TIMEOUT = 0.5
_CLIENTS = 20
_MARGIN_US = 400_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one tool did at one rate; times in ms, None where the tool does not tell."""

    tool: str
    asked_hz: float
    stressed: bool
    reached_hz: float
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    lag_max_ms: float | None
    latency_p50_ms: float
    latency_p99_ms: float
    cpu_per_1000: float

    def __str__(self) -> str:
        lag = "/".join(_short(value) for value in (self.lag_p50_ms, self.lag_p99_ms, self.lag_max_ms))
        return (
            f"| {self.tool} | {self.asked_hz:g}{' stressed' * self.stressed} | {self.reached_hz:.0f} | {lag} "
            f"| {self.latency_p50_ms:.2f} | {self.latency_p99_ms:.2f} | {self.cpu_per_1000:.3f} |"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """How far estimated outages were from true ones, in ms and (in brackets) in probe intervals."""

    how: str
    rate_hz: float
    outages: int
    found: int
    bias_ms: float
    worst_ms: float

    def __str__(self) -> str:
        interval = 1e3 / self.rate_hz
        return (
            f"| {self.how} | {self.rate_hz:g} | {self.found} of {self.outages} | {self.bias_ms:+.2f} "
            f"({self.bias_ms / interval:+.2f}) | {self.worst_ms:.2f} ({self.worst_ms / interval:.2f}) |"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the recorder made of many rows; memory in MB, of the whole process."""

    rows: int
    recorded: int
    dropped: int
    bytes_a_row: float
    after_a_million_mb: float
    peak_mb: float
    cpu_per_1000: float

    def __str__(self) -> str:
        return (
            f"| {self.rows:,} | {self.recorded:,} | {self.dropped} | {self.bytes_a_row:.1f} "
            f"| {self.after_a_million_mb:.0f} | {self.peak_mb:.0f} | {self.cpu_per_1000 * 1e3:.1f} |"
        )


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


class Nginx:
    """A fast server that can be frozen, killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._file = folder / "nginx.conf"
        self._file.write_text(_CONFIGURATION.format(folder=folder, port=self.port))
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it, and return when it answers: it takes connections some milliseconds before it reads them."""
        self.process = subprocess.Popen(["nginx", "-c", str(self._file)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            if time.monotonic() > deadline:
                raise SystemExit("nginx does not start")
            time.sleep(0.0005)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as asking:
                asking.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
                return bool(asking.recv(1))
        except OSError:
            return False

    def freeze(self, seconds: float) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def crash(self, seconds: float) -> None:
        self.stop()
        time.sleep(seconds)
        self.start()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def serving() -> Iterator[Nginx]:
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        server = Nginx(Path(folder))
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def stressed(workers: int) -> Iterator[None]:
    with subprocess.Popen(["stress-ng", "--quiet", "--cpu", str(workers)]) as stress:
        try:
            time.sleep(0.5)
            yield
        finally:
            stress.terminate()


@contextmanager
def probing(url: str, rate_hz: float, **features: bool) -> Iterator[tuple[Prober, ProbeSpec]]:
    with tempfile.TemporaryDirectory(prefix="probes-") as folder:
        key = RunKey(campaign="benchmark", scenario="prober", repeat=1, index=0)
        look = Look(address=url, rate_hz=rate_hz, timeout_s=_TIMEOUT, **features)
        spec = ProbeSpec(folder=Path(folder), key=key, anchor_ns=time.monotonic_ns(), looks=(look,))
        with Prober.start(spec) as prober:
            prober.wait_ready()
            yield prober, spec


def _rows(spec: ProbeSpec) -> Any:
    return pq.read_table(spec.folder / "probes" / f"{spec.key.slug}.parquet").to_pandas().sort_values("seq")


def chaoslab(url: str, rate_hz: float, seconds: float, **features: bool) -> dict[str, Any]:
    with probing(url, rate_hz, **features) as (prober, spec):
        used = psutil.Process(prober.pid).cpu_times()
        time.sleep(seconds)
        summary: Summary = prober.stop()
        rows = _rows(spec)
    scheduled = rows["scheduled_us"].to_numpy()
    good = rows.loc[rows["outcome"] == Outcome.SUCCESS, "latency_us"].to_numpy() / 1e3
    return {
        "reached_hz": (len(rows) - 1) / (scheduled[-1] - scheduled[0]) * 1e6,
        **_lags(rows["sent_us"].to_numpy() / 1e3),
        **_latencies(good),
        "cpu_per_1000": (summary.cpu_seconds - used.user - used.system) / len(rows) * 1e3,
    }


def _lags(lags: Any) -> dict[str, float]:
    p50, p99 = np.quantile(lags, (0.5, 0.99))
    return {"lag_p50_ms": float(p50), "lag_p99_ms": float(p99), "lag_max_ms": float(lags.max())}


def _latencies(latencies: Any) -> dict[str, float]:
    if not len(latencies):
        return {"latency_p50_ms": float("nan"), "latency_p99_ms": float("nan")}
    p50, p99 = np.quantile(latencies, (0.5, 0.99))
    return {"latency_p50_ms": float(p50), "latency_p99_ms": float(p99)}


def _told(latencies: Sequence[float], seconds: float, cpu: float) -> dict[str, Any]:
    """Return the figures of a tool that tells latencies alone."""
    count = max(1, len(latencies))
    return {
        "reached_hz": len(latencies) / seconds,
        "lag_p50_ms": None,
        "lag_p99_ms": None,
        "lag_max_ms": None,
        **_latencies(np.array(latencies)),
        "cpu_per_1000": cpu / count * 1e3,
    }


def _run(argv: Sequence[str]) -> tuple[str, float]:
    """Return what a command prints, and the CPU-seconds that it took."""
    before = os.times()
    printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    after = os.times()
    return printed, after.children_user + after.children_system - before.children_user - before.children_system


def h2load(url: str, rate_hz: float, seconds: float) -> dict[str, Any]:
    clients = min(_CLIENTS, max(1, int(rate_hz / 10)))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "requests"
        each = ["-c", str(clients), "-n", str(round(rate_hz * seconds)), "--rps", f"{rate_hz / clients:g}"]
        _, cpu = _run(["h2load", "--h1", "-t", "1", *each, f"--log-file={log}", url])
        lines = [line.split("\t") for line in log.read_text().splitlines()]
    starts = [int(line[0]) for line in lines]
    took = max(1, max(starts) - min(starts)) / 1e6 + 1 / rate_hz
    return _told([int(line[2]) / 1e3 for line in lines if line[1] == "200"], took, cpu)


def hey(url: str, rate_hz: float, seconds: float) -> dict[str, Any]:
    clients = min(_CLIENTS, max(1, int(rate_hz / 10)))
    each = ["-c", str(clients), "-z", f"{seconds:g}s", "-q", f"{rate_hz / clients:g}"]
    printed, cpu = _run(["hey", *each, "-o", "csv", url])
    rows = list(csv.DictReader(io.StringIO(printed)))
    return _told([float(row["response-time"]) * 1e3 for row in rows], seconds, cpu)


def in_python(client: str) -> Callable[[str, float, float], dict[str, Any]]:
    def tool(url: str, rate_hz: float, seconds: float) -> dict[str, Any]:
        printed, _ = _run([sys.executable, __file__, "--client", client, url, str(rate_hz), str(seconds)])
        told = json.loads(printed)
        figures = _told(told["latencies"], seconds, told["cpu"])
        return figures | _lags(np.array(told["lags"])) | {"reached_hz": len(told["lags"]) / told["took"]}

    return tool


async def _client(name: str, url: str, rate_hz: float, seconds: float) -> None:
    """Ask at fixed instants, a task for each request, as the documentation of the client has it."""
    lags: list[float] = []
    latencies: list[float] = []
    loop = asyncio.get_running_loop()

    async def all_with(ask: Callable[[], Any]) -> None:
        start = loop.time() + 0.1

        async def one(due: float) -> None:
            lags.append((loop.time() - due) * 1e3)
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await ask()
            except (TimeoutError, OSError):
                return
            latencies.append((loop.time() - due) * 1e3)

        async with asyncio.TaskGroup() as group:
            for number in range(round(rate_hz * seconds)):
                if loop.time() > start + 2 * seconds:
                    break
                await asyncio.sleep(start + number / rate_hz - loop.time())
                group.create_task(one(start + number / rate_hz))

    if name == "aiohttp":
        import aiohttp

        begun, used = time.monotonic(), time.process_time()

        async with aiohttp.ClientSession() as session:

            async def ask() -> None:
                async with session.get(url) as response:
                    await response.read()

            await all_with(ask)
    else:
        import httpx

        begun, used = time.monotonic(), time.process_time()
        async with httpx.AsyncClient() as client:

            async def ask() -> None:
                try:
                    await client.get(url)
                except httpx.HTTPError as error:
                    raise OSError from error

            await all_with(ask)
    told = {"lags": lags, "latencies": latencies, "cpu": time.process_time() - used, "took": time.monotonic() - begun}
    print(json.dumps(told))


TOOLS: Mapping[str, Callable[[str, float, float], dict[str, Any]]] = {
    "chaoslab": chaoslab,
    "chaoslab-httpx": partial(chaoslab, follow_redirects=True),
    "h2load": h2load,
    "hey": hey,
    "aiohttp": in_python("aiohttp"),
    "httpx": in_python("httpx"),
}


def installed(tool: str) -> bool:
    """Return whether a tool can be measured here."""
    return tool.startswith("chaoslab") or shutil.which(tool) is not None or importlib.util.find_spec(tool) is not None


def loads(tools: Sequence[str], rates: Sequence[float], seconds: float, stressors: int) -> Iterator[Load]:
    for workers in (0, stressors) if stressors else (0,):
        for rate_hz in rates:
            for tool in tools:
                if tool == "chaoslab-httpx" and rate_hz > HIGHEST_HTTPX_RATE_HZ:
                    continue
                with serving() as server, stressed(workers) if workers else nullcontext():
                    figures = TOOLS[tool](server.url, rate_hz, seconds)
                yield Load(tool=tool, asked_hz=rate_hz, stressed=bool(workers), **figures)


def outage_errors(how: str, rate_hz: float, outages: int) -> Error:
    """Return the error of `outages` outages, each of about a second at an instant that is no probe's."""
    draw = random.Random(1)
    truths: list[tuple[float, float]] = []
    with serving() as server, probing(server.url, rate_hz) as (prober, spec):
        time.sleep(1.0)
        for _ in range(outages):
            begun = time.monotonic_ns()
            (server.freeze if how == "freeze" else server.crash)(draw.uniform(0.8, 1.2))
            truths.append(((begun - spec.anchor_ns) / 1e3, (time.monotonic_ns() - spec.anchor_ns) / 1e3))
            time.sleep(draw.uniform(1.0, 1.5))
        prober.stop()
        rows = _rows(spec)
    scheduled = rows["scheduled_us"].to_numpy(dtype=np.int64)
    completed = scheduled + rows["latency_us"].to_numpy(dtype=np.int64)
    good = (rows["outcome"] == Outcome.SUCCESS).to_numpy()
    # Windows reach into the sound time on both sides, for an estimate that is too long shall show.
    windows = [(int(start - _MARGIN_US), int(end + _MARGIN_US)) for start, end in truths]
    downtimes = [down_seconds(scheduled, completed, good, window_us=window) for window in windows]
    errors = [
        down * 1e3 - (end - start) / 1e3 for down, (start, end) in zip(downtimes, truths, strict=True) if down > 0
    ]
    return Error(
        how=how,
        rate_hz=rate_hz,
        outages=outages,
        found=len(errors),
        bias_ms=statistics.fmean(errors) if errors else float("nan"),
        worst_ms=max(map(abs, errors), default=float("nan")),
    )


def rows_recorded(count: int) -> Rows:
    """Return what a process of its own recorded: a real series of some seconds, over and over, shuffled."""
    with serving() as server, probing(server.url, 5000.0) as (prober, spec):
        time.sleep(4.0)
        prober.stop()
        series = spec.folder / "series.parquet"
        pq.write_table(pq.read_table(spec.folder / "probes" / f"{spec.key.slug}.parquet"), series)
        printed, _ = _run([sys.executable, __file__, "--record", str(series), str(count)])
    return Rows(**json.loads(printed))


def _record(series: Path, count: int) -> None:
    from chaoslab.instruments.prober import COLUMNS
    from chaoslab.instruments.recorder import Recorder
    from chaoslab.store import PartWriter

    some = pq.read_table(series).to_pandas().sort_values("seq")
    rows = list(zip(*(some[name].tolist() for name in ("sent_us", "latency_us", "status")), strict=True))
    me = psutil.Process()
    with tempfile.TemporaryDirectory(prefix="rows-") as folder:
        key = RunKey(campaign="benchmark", scenario="recorder", repeat=1, index=0)
        complaints: list[str] = []
        recorder = Recorder(PartWriter(Path(folder), "probes", key), COLUMNS, complain=complaints.append)
        used, after_a_million = time.process_time(), 0.0
        for seq in range(count):
            if seq % len(rows) == 0:
                random.shuffle(rows)  # no compression may find the series again
            sent_us, latency_us, status = rows[seq % len(rows)]
            recorder.add((seq, "health", 200 * seq, int(sent_us), latency_us, int(status), Outcome.SUCCESS, None))
            if seq % 2_000 == 0:
                while recorder.waiting > 100_000:
                    time.sleep(0.01)
            if seq == 1_000_000:
                after_a_million = me.memory_info().rss / 1e6
        recorder.close(patience=60.0, compact=True)
        size = (Path(folder) / "probes" / f"{key.slug}.parquet").stat().st_size
        figures = {
            "rows": count,
            "recorded": recorder.recorded,
            "dropped": recorder.dropped,
            "bytes_a_row": size / count,
            "after_a_million_mb": after_a_million,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            "cpu_per_1000": (time.process_time() - used) / count * 1e3,
        }
    if complaints:
        raise SystemExit(complaints[0])
    print(json.dumps(figures))


def main() -> None:
    if sys.argv[1:2] == ["--record"]:
        _record(Path(sys.argv[2]), int(sys.argv[3]))
        return
    if sys.argv[1:2] == ["--client"]:
        asyncio.run(_client(sys.argv[2], sys.argv[3], float(sys.argv[4]), float(sys.argv[5])))
        return
    parser = argparse.ArgumentParser(description="The prober beside other tools, and against outages of known length.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one turn")
    parser.add_argument("--rates", type=float, nargs="*", default=[100.0, 1000.0, 5000.0])
    parser.add_argument("--tools", nargs="*", choices=[*TOOLS], default=[tool for tool in TOOLS if installed(tool)])
    parser.add_argument("--stressors", type=int, default=8, help="0: no turns under stress")
    parser.add_argument("--outages", type=int, default=20, help="of each kind at each rate; 0: none")
    parser.add_argument("--outage-rates", type=float, nargs="*", default=[10.0, 100.0, 1000.0])
    parser.add_argument("--rows", type=int, default=0, help="rows to put through the recorder; 0: none")
    options = parser.parse_args()
    measured: list[Load | Error | Rows] = []
    print("| tool | asked, /s | reached, /s | lag p50/p99/max, ms | p50, ms | p99, ms | CPU-s per 1,000 |")
    print("|---|---|---|---|---|---|---|")
    for load in loads(options.tools, options.rates, options.seconds, options.stressors):
        measured.append(load)
        print(load, flush=True)
    if options.outages:
        print("\n| outage | probes, /s | found | bias, ms (intervals) | worst, ms (intervals) |\n|---|---|---|---|---|")
        for how in ("freeze", "kill"):
            for rate_hz in options.outage_rates:
                measured.append(outage_errors(how, rate_hz, options.outages))
                print(measured[-1], flush=True)
    if options.rows:
        print("\n| rows | recorded | dropped | bytes a row | after a million, MB | peak, MB | CPU-ms per 1,000 |")
        print("|---|---|---|---|---|---|---|")
        measured.append(rows_recorded(options.rows))
        print(measured[-1], flush=True)
    if options.json:
        print(json.dumps([asdict(one) for one in measured], indent=1))


if __name__ == "__main__":
    main()

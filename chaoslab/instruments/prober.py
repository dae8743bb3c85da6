"""The prober: looks at the target at instants that are fixed beforehand, whatever the target does.

    python -m chaoslab.instruments.prober       started and spoken to by `probe.Prober`

Open loop: a probe that is answered late, or not at all, delays no other (no coordinated omission). Should this process
itself be late, the probe is sent all the same, counts from its fixed instant, and its row says by how much it was late.
Its time-out counts from when it was sent, and time in which this process stood still does not count: the target is
given the whole of it, whatever we lost ourselves.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import random
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import count
from operator import attrgetter
from typing import Any, Final

from chaoslab.instruments.instrument import Order, Orders, say, settle
from chaoslab.instruments.probe import ProbeSpec
from chaoslab.instruments.recorder import Recorder
from chaoslab.instruments.transport import Finish, Probe, Transport
from chaoslab.instruments.vitals import TICK, Histogram, Vitals
from chaoslab.looks import Look
from chaoslab.records import LAG_LIMIT_US, ErrorKind, Outcome
from chaoslab.store import PartWriter

COLUMNS: Final = ("seq", "probe", "scheduled_us", "sent_us", "latency_us", "status", "outcome", "error")
_TICKS_PER_COLLECTION: Final = 5
_STALL_NS: Final = 10_000_000
_LEAD_NS: Final = 50_000_000
_BURST: Final = 50
_SWITCH_INTERVAL: Final = 0.0005
_SPARE_DESCRIPTORS: Final = 64
_FLUSH_PATIENCE: Final = 10.0
_ORPHAN_PATIENCE: Final = 0.7
_DUE: Final = attrgetter("next_ns")
_NEVER: Final = 2**63


class Alarm:
    """A timer on CLOCK_MONOTONIC with the kernel's own precision (timerfd_create(2)).

    The event loop's own timers end on whole milliseconds, since epoll_wait(2) counts in them; that error would be in
    every latency.
    """

    _CLOCK_MONOTONIC: Final = 1
    _ABSOLUTE: Final = 1

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.timerfd_create(self._CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._settime = libc.timerfd_settime
        self._setting = (ctypes.c_long * 4)()  # struct itimerspec: interval, then value, in seconds and nanoseconds

    def set(self, at_ns: int) -> None:
        """Ring once at `at_ns`, at once if that is past; what it rang for before is forgotten."""
        self._setting[2], self._setting[3] = divmod(max(at_ns, 1), 1_000_000_000)
        self._settime(self.descriptor, self._ABSOLUTE, self._setting, None)

    def quiet(self) -> None:
        """Ring no more until it is set."""
        self._setting[2] = self._setting[3] = 0
        self._settime(self.descriptor, self._ABSOLUTE, self._setting, None)


def constant(rate_hz: float, seed: int) -> Iterator[int]:
    """Yield instants in nanoseconds, evenly spaced from 0 on; none inherits an error of the one before."""
    return (round(seq * 1e9 / rate_hz) for seq in count())


def poisson(rate_hz: float, seed: int) -> Iterator[int]:
    """Yield instants in nanoseconds of a Poisson process, the first at 0; equal seeds give equal instants."""
    draw = random.Random(seed)
    at = 0.0
    while True:
        yield round(at * 1e9)
        at += draw.expovariate(rate_hz)


ARRIVALS: Final[Mapping[str, Callable[[float, int], Iterator[int]]]] = {"constant": constant, "poisson": poisson}


# Imported when they are needed: whoever probes HTTP alone need not wait for a driver of PostgreSQL.
TRANSPORTS: Final[Mapping[str, tuple[str, str]]] = {
    "http": ("chaoslab.instruments.http_probe", "HttpTransport"),
    "httpx": ("chaoslab.instruments.httpx_probe", "HttpxTransport"),
    "tcp": ("chaoslab.instruments.tcp_probe", "TcpTransport"),
    "postgres": ("chaoslab.instruments.postgres_probe", "PostgresTransport"),
    "command": ("chaoslab.instruments.command_probe", "CommandTransport"),
}


def transport_of(look: Look, connections: int, finish: Finish) -> Transport:
    """Return what takes the probes of `look` to the target, over at most `connections` connections."""
    module, name = TRANSPORTS[look.client]
    transport: Transport = getattr(import_module(module), name)(look, connections=connections, finish=finish)
    return transport


def _connections(looks: Sequence[Look]) -> list[int]:
    """Return how many connections each look may have open, with the limit on descriptors raised as far as it goes."""
    wanted = sum(look.connections for look in looks)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = min(hard, wanted + _SPARE_DESCRIPTORS) if hard != resource.RLIM_INFINITY else wanted + _SPARE_DESCRIPTORS
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    share = min(1.0, (max(soft, allowed) - _SPARE_DESCRIPTORS) / wanted)
    return [max(1, int(look.connections * share)) for look in looks]


class Series:
    """The probes of one look: when they are due, those in flight, and what became of the others."""

    def __init__(self, look: Look, *, connections: int, start_ns: int, finish: Callable[..., None]) -> None:
        self.look = look
        self.transport = transport_of(look, connections, partial(finish, self))
        self.timeout_ns = round(look.timeout_s * 1e9)
        self.within_ns = None if look.success.within_s is None else round(look.success.within_s * 1e9)
        self._instants = (start_ns + at for at in ARRIVALS[look.arrivals](look.rate_hz, look.seed))
        self.next_ns = next(self._instants)
        # In order of sending, hence of expiry; those that have ended are taken out when they come to the front.
        self.in_flight: deque[Probe] = deque()
        self.scheduled = 0
        self.failures = 0
        self.unsent = 0

    def due(self) -> int:
        """Return the instant that is due, and go on to the next one."""
        at, self.next_ns = self.next_ns, next(self._instants)
        self.scheduled += 1
        return at

    def expires_ns(self) -> int:
        """Return when the first probe in flight expires, `_NEVER` where there is none."""
        in_flight = self.in_flight
        while in_flight:
            if not in_flight[0].ended:
                return in_flight[0].expires_ns
            in_flight.popleft()
        return _NEVER

    def counts(self) -> dict[str, int]:
        """Return what became of its probes."""
        sent = self.scheduled - self.unsent
        return {"scheduled": self.scheduled, "sent": sent, "failures": self.failures, "unsent": self.unsent}


class OpenLoop:
    """Sends probes at their instants and records how each one ended; the first look is the target's health."""

    def __init__(self, spec: ProbeSpec, recorder: Recorder, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._spec = spec
        self._anchor_ns = spec.anchor_ns
        self._recorder = recorder
        self._alarm = Alarm()
        self._due_ns = 0
        self._lag = Histogram()
        self._lags: list[int] = []
        self._lag_max_us = 0
        self._late = 0
        self._seq = 0
        self._open = 0
        self._stopping = False
        self._ticks = 0
        self._ended: asyncio.Future[Order] = self._loop.create_future()
        self._start_ns = clock() + _LEAD_NS
        self._series = [
            Series(look, connections=connections, start_ns=self._start_ns, finish=self._finish)
            for look, connections in zip(spec.looks, _connections(spec.looks), strict=True)
        ]
        self._vitals = Vitals(window_s=spec.window_s, started_us=(self._start_ns - spec.anchor_ns) // 1000)

    async def run(self, orders: Orders) -> Order:
        """Probe until told to stop and nothing is in flight any more, or until the parent is gone; return which."""
        self._loop.add_reader(self._alarm.descriptor, self._ring)
        self._loop.add_reader(orders.descriptor, self._obey, orders)
        self._set_alarm(_NEVER)
        self._tick(orders)
        order = await self._ended
        self._loop.remove_reader(self._alarm.descriptor)
        self._loop.remove_reader(orders.descriptor)
        for series in self._series:
            series.transport.close()
        return order

    def summary(self) -> dict[str, Any]:
        """Return what `probe.Summary` has, but for the recorder's share."""
        self._count_lags()
        each = {series.look.name: series.counts() for series in self._series}
        return {name: sum(counts[name] for counts in each.values()) for name in self._series[0].counts()} | {
            "probes": each,
            "late": self._late,
            "lag_p50_us": self._lag.quantile(0.5),
            "lag_p99_us": self._lag.quantile(0.99),
            "lag_max_us": self._lag_max_us,
        }

    def _ring(self) -> None:
        now_ns = self._clock()
        if now_ns - self._due_ns > _STALL_NS:
            self._forgive(now_ns - self._due_ns)
        # After a stall of our own many are due: answers that wait are read between bursts.
        for _ in range(_BURST):
            series = self._next()
            if self._stopping or series.next_ns > now_ns:
                break
            self._send(series)
        expires_ns = self._expires_ns()
        if expires_ns <= now_ns:
            # An answer that is there already is read first.
            self._alarm.quiet()
            self._loop.call_soon(self._expire, now_ns)
        else:
            self._set_alarm(expires_ns)

    def _next(self) -> Series:
        """Return the series whose turn it is."""
        return self._series[0] if len(self._series) == 1 else min(self._series, key=_DUE)

    def _expires_ns(self) -> int:
        """Return when the first of all probes in flight expires."""
        return min([series.expires_ns() for series in self._series])

    def _forgive(self, stall_ns: int) -> None:
        for series in self._series:
            for probe in series.in_flight:
                probe.expires_ns += stall_ns

    def _send(self, series: Series) -> None:
        scheduled_ns = series.due()
        sent_ns = self._clock()
        probe = Probe(self._seq, scheduled_ns, sent_ns, sent_ns + series.timeout_ns)
        self._seq += 1
        self._lags.append((sent_ns - scheduled_ns) // 1000)
        self._open += 1
        series.in_flight.append(probe)
        series.transport.send(probe)

    def _expire(self, now_ns: int) -> None:
        for series in self._series:
            while series.expires_ns() <= now_ns:
                probe = series.in_flight.popleft()
                if probe.carrier is not None:
                    probe.carrier.cancel()
                self._finish(series, probe, None, ErrorKind.TIMEOUT)
        self._set_alarm(self._expires_ns())

    def _set_alarm(self, expires_ns: int) -> None:
        """Have it ring for the next probe, or at `expires_ns` if that is sooner."""
        due_ns = expires_ns if self._stopping else min(self._next().next_ns, expires_ns)
        if due_ns == _NEVER:
            self._alarm.quiet()
            return
        # What is overdue when it is set rings late by no fault of the loop's.
        self._due_ns = max(due_ns, self._clock())
        self._alarm.set(self._due_ns)

    def _finish(self, series: Series, probe: Probe, status: int | None, error: ErrorKind | None) -> None:
        if probe.ended:
            return
        finished_ns = self._clock()
        probe.ended = True
        probe.carrier = None
        self._open -= 1
        scheduled_us = (probe.scheduled_ns - self._anchor_ns) // 1000
        latency_us = (finished_ns - probe.scheduled_ns) // 1000
        sent_us: int | None = (probe.sent_ns - probe.scheduled_ns) // 1000
        if error is None and series.within_ns is not None and finished_ns - probe.sent_ns > series.within_ns:
            error = ErrorKind.LATE
        if error is ErrorKind.UNSENT:
            sent_us = None
            series.unsent += 1
        elif error is not None:
            series.failures += 1
        outcome = Outcome.SUCCESS if error is None else Outcome.FAILURE
        row = (probe.seq, series.look.name, scheduled_us, sent_us, latency_us, status, outcome, error)
        self._recorder.add(row)
        if series is self._series[0]:
            self._vitals.add(error, scheduled_us=scheduled_us, latency_us=latency_us)
        if self._stopping and self._open == 0:
            self._end(Order.STOP)

    def _obey(self, orders: Orders) -> None:
        match orders.look():
            case Order.STOP:
                self._stop()
            case Order.GONE:
                self._end(Order.GONE)

    def _count_lags(self) -> None:
        """Take stock of the lags since the last time; most are alike, and counting them first is cheaper."""
        for lag_us, times in Counter(self._lags).items():
            self._lag.add(Histogram.bin(lag_us), times)
            self._lag_max_us = max(self._lag_max_us, lag_us)
            self._late += times * (lag_us > LAG_LIMIT_US)
        self._lags.clear()

    def _tick(self, orders: Orders) -> None:
        now_ns = self._clock()
        self._count_lags()
        say("live", {"scheduled": self._seq} | self._vitals.tick((now_ns - self._anchor_ns) // 1000))
        for series in self._series:
            series.transport.tidy()
        self._ticks += 1
        if self._ticks % _TICKS_PER_COLLECTION == 0:
            # A transport of asyncio's is a cycle. A second's worth is collected in a millisecond or two.
            gc.collect()
        if now_ns > self._start_ns + self._spec.max_duration_s * 1e9 and not self._stopping:
            say("error", f"the prober reached its own limit of {self._spec.max_duration_s:g} s and stopped")
            self._stop()
        self._obey(orders)
        self._loop.call_later(TICK, self._tick, orders)

    def _stop(self) -> None:
        self._stopping = True
        if self._open == 0:
            self._end(Order.STOP)

    def _end(self, order: Order) -> None:
        if not self._ended.done():
            self._ended.set_result(order)


def _break_loudly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Let an error of our own end the process, since probes would go missing silently; a socket's error is handled."""
    if "transport" in context and isinstance(context.get("exception"), OSError):
        return
    loop.default_exception_handler(context)
    sys.stderr.flush()
    os._exit(1)


def _conclude(recorder: Recorder, order: Order) -> bool:
    """Write what is left; return whether every row is on disk. An orphan takes no time to join parts."""
    if order is Order.GONE:
        return recorder.close(patience=_ORPHAN_PATIENCE, compact=False)
    return recorder.close(patience=_FLUSH_PATIENCE, compact=True)


async def _probe(spec: ProbeSpec, recorder: Recorder, orders: Orders) -> tuple[Order, dict[str, Any]]:
    asyncio.get_running_loop().set_exception_handler(_break_loudly)
    probing = OpenLoop(spec, recorder)
    say("ready", True)
    order = await probing.run(orders)
    return order, probing.summary()


def main() -> int:
    """Probe as the specification on standard input says; return 0 when every row is on disk."""
    orders = Orders()
    spec = ProbeSpec.from_dict(orders.specification())
    priority = settle(real_time=True)
    # The recorder's thread must hand the interpreter back at once when a probe is due.
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        writer = PartWriter(spec.folder, "probes", spec.key)
    except OSError as error:
        say("error", f"probes cannot be recorded: {error.strerror or error}", patience=1.0)
        return 1
    for look in spec.looks:
        import_module(TRANSPORTS[look.client][0])  # now, and not while the first probes are due
    # Garbage is collected at our own pace (OpenLoop._tick), and what is there by now is not looked at again.
    gc.collect()
    gc.freeze()
    gc.disable()
    recorder = Recorder(writer, COLUMNS, complain=lambda problem: say("error", f"probes: {problem}", patience=1.0))
    order, summary = asyncio.new_event_loop().run_until_complete(_probe(spec, recorder, orders))
    complete = _conclude(recorder, order)
    summary |= {"recorded": recorder.recorded, "dropped": recorder.dropped}
    summary |= {"priority": priority, "priority_raised": priority != "ordinary"}
    say("done", summary | {"cpu_seconds": time.process_time()}, patience=1.0)
    return 0 if complete else 1


if __name__ == "__main__":
    # Not sys.exit: that would wait for the resolver's threads, which may hang for as long as a name server does.
    code = main()
    sys.stderr.flush()
    os._exit(code)

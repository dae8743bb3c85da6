"""The prober: looks at the target at instants that are fixed beforehand, whatever the target does.

    python -m chaoslab.prober       started and spoken to by `probe.Prober`

Open loop: a probe that is answered late, or not at all, delays no other (no coordinated omission). Should this process
itself be late, the probe is sent all the same, counts from its fixed instant, and its row says by how much it was late.
Its time-out counts from when it was sent, and time in which this process stood still does not count: the target is
given the whole of it, whatever we lost ourselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import random
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, Final

from chaoslab.http_probe import HttpTransport
from chaoslab.instrument import Order, Orders, say, settle
from chaoslab.probe import ProbeSpec
from chaoslab.recorder import Recorder
from chaoslab.records import ErrorKind, Outcome
from chaoslab.store import PartWriter
from chaoslab.transport import Finish, Probe, Transport
from chaoslab.vitals import TICK, Histogram, Vitals

COLUMNS: Final = ("seq", "probe", "scheduled_us", "sent_us", "latency_us", "status", "outcome", "error")
_TICKS_PER_COLLECTION: Final = 5
_STALL_NS: Final = 10_000_000
_LEAD_NS: Final = 50_000_000
_BURST: Final = 50
_SWITCH_INTERVAL: Final = 0.0005
_SPARE_DESCRIPTORS: Final = 64
_FLUSH_PATIENCE: Final = 10.0
_ORPHAN_PATIENCE: Final = 0.7


class Alarm:
    """A timer on CLOCK_MONOTONIC with the kernel's own precision (timerfd_create(2)).

    The event loop's own timers end on whole milliseconds, since epoll_wait(2) counts in them; that error would be in
    every latency.
    """

    _CLOCK_MONOTONIC: Final = 1
    _ABSOLUTE: Final = 1

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._libc.timerfd_create(self._CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._setting = (ctypes.c_long * 4)()  # struct itimerspec: interval, then value, in seconds and nanoseconds

    def set(self, at_ns: int) -> None:
        """Ring once at `at_ns`, at once if that is past."""
        self._setting[2], self._setting[3] = divmod(max(at_ns, 1), 1_000_000_000)
        self._libc.timerfd_settime(self.descriptor, self._ABSOLUTE, self._setting, None)

    def quiet(self) -> None:
        """Take note that it rang."""
        # It may have been set anew since.
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 8)


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


def http(spec: ProbeSpec, finish: Finish) -> Transport:
    """Return the transport for http and https URLs."""
    return HttpTransport(
        spec.url,
        connections=_connections(spec.connections),
        success=spec.success_statuses,
        finish=finish,
        connect_to=spec.connect_to,
    )


TRANSPORTS: Final[Mapping[str, Callable[[ProbeSpec, Finish], Transport]]] = {"http": http}


def _connections(wanted: int) -> int:
    """Return how many connections may be open, with the limit on descriptors raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = min(hard, wanted + _SPARE_DESCRIPTORS) if hard != resource.RLIM_INFINITY else wanted + _SPARE_DESCRIPTORS
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return min(wanted, max(soft, allowed) - _SPARE_DESCRIPTORS)


class OpenLoop:
    """Sends probes at their instants and records how each one ended."""

    def __init__(self, spec: ProbeSpec, recorder: Recorder, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._spec = spec
        self._anchor_ns = spec.anchor_ns
        self._recorder = recorder
        self._transport = TRANSPORTS[spec.kind](spec, self._finish)
        self._timeout_ns = round(spec.timeout_s * 1e9)
        self._alarm = Alarm()
        self._due_ns = 0
        self._lag = Histogram()
        self._lag_max_us = 0
        self._seq = 0
        self._failures = 0
        self._unsent = 0
        self._open = 0
        # In order of sending, hence of expiry; those that have ended are taken out when they come to the front.
        self._in_flight: deque[Probe] = deque()
        self._stopping = False
        self._ticks = 0
        self._ended: asyncio.Future[Order] = self._loop.create_future()
        self._start_ns = clock() + _LEAD_NS
        self._instants = (self._start_ns + at for at in ARRIVALS[spec.arrivals](spec.rate_hz, spec.seed))
        self._next_ns = next(self._instants)
        self._vitals = Vitals(window_s=spec.window_s, started_us=(self._start_ns - spec.anchor_ns) // 1000)

    async def run(self, orders: Orders) -> Order:
        """Probe until told to stop and nothing is in flight any more, or until the parent is gone; return which."""
        self._loop.add_reader(self._alarm.descriptor, self._ring)
        self._loop.add_reader(orders.descriptor, self._obey, orders)
        self._set_alarm()
        self._tick(orders)
        order = await self._ended
        self._loop.remove_reader(self._alarm.descriptor)
        self._loop.remove_reader(orders.descriptor)
        self._transport.close()
        return order

    def summary(self) -> dict[str, Any]:
        """Return what `probe.Summary` has, but for the recorder's share."""
        return {
            "scheduled": self._seq,
            "sent": self._seq - self._unsent,
            "failures": self._failures,
            "unsent": self._unsent,
            "lag_p50_us": self._lag.quantile(0.5),
            "lag_p99_us": self._lag.quantile(0.99),
            "lag_max_us": self._lag_max_us,
        }

    def _ring(self) -> None:
        self._alarm.quiet()
        now_ns = self._clock()
        if now_ns - self._due_ns > _STALL_NS:
            self._forgive(now_ns - self._due_ns)
        # After a stall of our own many are due: answers that wait are read between bursts.
        for _ in range(_BURST):
            if self._stopping or self._next_ns > now_ns:
                break
            self._send()
        if self._in_flight and self._in_flight[0].expires_ns <= now_ns:
            # An answer that is there already is read first.
            self._loop.call_soon(self._expire, now_ns)
        else:
            self._set_alarm()

    def _forgive(self, stall_ns: int) -> None:
        for probe in self._in_flight:
            probe.expires_ns += stall_ns

    def _send(self) -> None:
        scheduled_ns, self._next_ns = self._next_ns, next(self._instants)
        sent_ns = self._clock()
        expires_ns = sent_ns + self._timeout_ns
        probe = Probe(self._seq, scheduled_ns=scheduled_ns, sent_ns=sent_ns, expires_ns=expires_ns)
        self._seq += 1
        lag_us = (sent_ns - scheduled_ns) // 1000
        self._lag.add(Histogram.bin(lag_us))
        self._lag_max_us = max(self._lag_max_us, lag_us)
        self._open += 1
        self._in_flight.append(probe)
        self._transport.send(probe)

    def _expire(self, now_ns: int) -> None:
        while self._in_flight:
            probe = self._in_flight[0]
            if not probe.ended:
                if probe.expires_ns > now_ns:
                    break
                if probe.carrier is not None:
                    probe.carrier.cancel()
                self._finish(probe, None, ErrorKind.TIMEOUT)
            self._in_flight.popleft()
        self._set_alarm()

    def _set_alarm(self) -> None:
        while self._in_flight and self._in_flight[0].ended:
            self._in_flight.popleft()
        instants = [] if self._stopping else [self._next_ns]
        if self._in_flight:
            instants.append(self._in_flight[0].expires_ns)
        if instants:
            # What is overdue when it is set rings late by no fault of the loop's.
            self._due_ns = max(min(instants), self._clock())
            self._alarm.set(self._due_ns)

    def _finish(self, probe: Probe, status: int | None, error: ErrorKind | None) -> None:
        if probe.ended:
            return
        finished_ns = self._clock()
        probe.ended = True
        probe.carrier = None
        self._open -= 1
        scheduled_us = (probe.scheduled_ns - self._anchor_ns) // 1000
        latency_us = (finished_ns - probe.scheduled_ns) // 1000
        sent_us: int | None = (probe.sent_ns - probe.scheduled_ns) // 1000
        if error is ErrorKind.UNSENT:
            sent_us = None
            self._unsent += 1
        elif error is not None:
            self._failures += 1
        outcome = Outcome.SUCCESS if error is None else Outcome.FAILURE
        self._recorder.add((probe.seq, self._spec.probe, scheduled_us, sent_us, latency_us, status, outcome, error))
        self._vitals.add(error, scheduled_us=scheduled_us, latency_us=latency_us)
        if self._stopping and self._open == 0:
            self._end(Order.STOP)

    def _obey(self, orders: Orders) -> None:
        match orders.look():
            case Order.STOP:
                self._stop()
            case Order.GONE:
                self._end(Order.GONE)

    def _tick(self, orders: Orders) -> None:
        now_ns = self._clock()
        say("live", {"scheduled": self._seq} | self._vitals.tick((now_ns - self._anchor_ns) // 1000))
        self._transport.tidy()
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
    raised = settle()
    # The recorder's thread must hand the interpreter back at once when a probe is due.
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        writer = PartWriter(spec.folder, "probes", spec.key)
    except OSError as error:
        say("error", f"probes cannot be recorded: {error.strerror or error}", patience=1.0)
        return 1
    # Garbage is collected at our own pace (OpenLoop._tick), and what is there by now is not looked at again.
    gc.collect()
    gc.freeze()
    gc.disable()
    recorder = Recorder(writer, COLUMNS, complain=lambda problem: say("error", f"probes: {problem}", patience=1.0))
    order, summary = asyncio.new_event_loop().run_until_complete(_probe(spec, recorder, orders))
    complete = _conclude(recorder, order)
    summary |= {"recorded": recorder.recorded, "dropped": recorder.dropped, "priority_raised": raised}
    say("done", summary | {"cpu_seconds": time.process_time()}, patience=1.0)
    return 0 if complete else 1


if __name__ == "__main__":
    # Not sys.exit: that would wait for the resolver's threads, which may hang for as long as a name server does.
    code = main()
    sys.stderr.flush()
    os._exit(code)

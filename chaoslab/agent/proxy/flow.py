"""One direction of a connection: bytes go from one socket to the other, at once where no toxic holds them.

What arrives goes through one buffer that all flows share, straight from `recv` to `send`, in one turn of the event
loop. A flow whose sink is full stops reading: what it keeps is at most one buffer, and what toxics hold.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from chaoslab.agent.proxy.toxics import StreamToxic, Toxic

if TYPE_CHECKING:
    import asyncio

    from chaoslab.agent.proxy.link import Link

_BUFFER: Final = memoryview(bytearray(256 * 1024))
_MOST_HELD_BYTES: Final = 4 * 1024**2
_SLICES_PER_SECOND: Final = 20
_TIMER_SLACK: Final = 1e-4


@dataclass(slots=True, eq=False)
class _Held:
    """Bytes held back, or the end of the stream (None): for how long each toxic holds them, and the pace they go at.

    `waited` says that the pace made the next slice of them wait.
    """

    data: memoryview | None
    arrived: float
    pauses: tuple[tuple[StreamToxic, float], ...]
    pacer: Toxic | None
    due: float = 0.0
    waited: bool = False

    @property
    def slice_bytes(self) -> int:
        """How many bytes go out together: all, or a fraction of a second's worth."""
        size = len(self.data or b"")
        return min(size, max(1, int(self.pacer.bytes_per_second / _SLICES_PER_SECOND))) if self.pacer else size


class Flow:
    """Bytes from `source` to `sink`.

    `direct`: nothing looks at them on the way. `pacers` are the request toxics whose pace holds for now.
    """

    def __init__(self, link: Link, source: socket.socket, sink: socket.socket, *, towards_target: bool) -> None:
        self.direct = True
        self.pacers: Sequence[Toxic] = ()
        self.finished = False
        self._link, self._loop = link, link.loop
        self._source, self._sink = source, sink
        self._towards_target = towards_target
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self._last_due = 0.0
        self._out_at = 0.0  # when the last held bytes were to leave, and when they left
        self._left_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = bytearray()
        self._crowded = False
        self._ended = False
        self._ending = False
        self._reading = False

    def begin(self) -> None:
        """Begin to hand bytes on; whatever opens the connection is held back first."""
        if self._towards_target:
            now = self._loop.time()
            self._last_due = now + sum(toxic.opens() for toxic in self._link.stream_toxics)
        self._regulate()

    def stop(self) -> None:
        """Leave the sockets alone from now on."""
        self.finished = True
        self._reading = False
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._sink)

    @property
    def idle(self) -> bool:
        """Whether nothing is held back."""
        return not self._held and self._last_due <= self._loop.time()

    def crowd(self, crowded: bool) -> None:
        """Read no more while what reads the flow has enough."""
        if crowded != self._crowded:
            self._crowded = crowded
            self._regulate()

    def _regulate(self) -> None:
        wanted = not (self._ended or self.finished or self._unsent or self._crowded)
        wanted = wanted and self._held_bytes <= _MOST_HELD_BYTES
        if wanted and not self._reading:
            self._loop.add_reader(self._source, self._readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self._source)
        self._reading = wanted

    def _readable(self) -> None:
        try:
            count = self._source.recv_into(_BUFFER)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._link.reset()
            return
        if not count:
            self._ended = True
            self._regulate()
            self._link.ended(self)
        elif self.direct:
            self._link.last = self
            self._send(_BUFFER[:count])
        else:
            self._link.arrived(self, bytes(_BUFFER[:count]))

    def put(self, data: bytes) -> None:
        """Send bytes on once the toxics that stand let them go."""
        if self.finished:
            return
        pacer = self._pacer()
        pauses = tuple((toxic, toxic.holds(self._towards_target)) for toxic in self._link.stream_toxics)
        if pacer is None and self.idle and not any(pause for _, pause in pauses):
            self._send(data)
            return
        self._hold(_Held(memoryview(data), self._loop.time(), pauses, pacer))

    def put_end(self) -> None:
        """End the stream once everything before is out; the other direction may go on."""
        holes = tuple((toxic, inf) for toxic in self._link.stream_toxics if toxic.black_hole)
        if not self._held and not holes:
            self._end()
            return
        self._hold(_Held(None, self._loop.time(), holes, None))

    def _pacer(self) -> Toxic | None:
        pacers = [toxic for toxic in (*self._link.stream_toxics, *self.pacers) if toxic.bytes_per_second]
        return min(pacers, key=lambda toxic: toxic.bytes_per_second, default=None)

    def _hold(self, held: _Held) -> None:
        # TCP keeps order: what comes later never leaves earlier.
        self._last_due = held.due = max(self._last_due, held.arrived + sum(pause for _, pause in held.pauses))
        self._held.append(held)
        self._held_bytes += len(held.data or b"")
        self._regulate()
        if self._timer is None:
            self._release()

    def free(self, cleared: Toxic) -> None:
        """Let go of what a toxic that is gone holds back."""
        self.pacers = [toxic for toxic in self.pacers if toxic is not cleared]
        self._last_due = 0.0
        for held in self._held:
            held.pauses = tuple((toxic, pause) for toxic, pause in held.pauses if toxic is not cleared)
            held.pacer = None if held.pacer is cleared else held.pacer
            self._last_due = held.due = max(self._last_due, held.arrived + sum(pause for _, pause in held.pauses))
        if self._timer is not None:
            self._timer.cancel()
        self._release()

    def _release(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._held and not self.finished:
            held = self._held[0]
            begins = max(held.due, self._out_at)
            at = begins + (held.slice_bytes / held.pacer.bytes_per_second if held.pacer else 0.0)
            if at > now + _TIMER_SLACK:
                held.waited = at > begins
                if at < inf:
                    self._timer = self._loop.call_at(at, self._release)
                break
            if held.pacer is not None and held.waited:
                held.pacer.count_paced(held.slice_bytes, now - max(begins, self._left_at))
            self._out_at, self._left_at = at, now
            self._let_go(held)
        if not self._held:
            self._last_due = 0.0
            self._link.tune()
        self._regulate()

    def _let_go(self, held: _Held) -> None:
        if held.data is None:
            self._held.popleft()
            self._end()
            return
        size, held.waited = held.slice_bytes, False
        self._held_bytes -= size
        data, held.data = held.data[:size], held.data[size:]
        if not held.data:
            self._held.popleft()
        self._send(data)

    def _send(self, data: memoryview | bytes) -> None:
        sent = 0
        if not self._unsent and not self.finished:
            try:
                sent = self._sink.send(data)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._break()
                return
        if sent < len(data):
            self._unsent += data[sent:]
            self._regulate()
            self._loop.add_writer(self._sink, self._writable)

    def _writable(self) -> None:
        try:
            sent = self._sink.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._break()
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._sink)
            self._regulate()
            if self._ending:
                self._end()

    def _break(self) -> None:
        # The sink takes no more, but what it has sent may still be on its way: that flow tells when it is over.
        self._link.failed = True
        self._held_bytes = 0
        self._unsent.clear()
        self.stop()
        self._link.flow_finished()

    def _end(self) -> None:
        if self._unsent:
            self._ending = True
            return
        if self.finished:
            return
        self.finished = True
        self._regulate()
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._link.failed = True
        self._link.flow_finished()

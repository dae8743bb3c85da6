"""What every kind of probe has in common: a look at the target, who takes it, and why it failed."""

from __future__ import annotations

import asyncio
import errno
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol

from chaoslab.records import ErrorKind

# What the prober's own machine lacks is no failure of the target.
_OWN_FAULT: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}


class Carrier(Protocol):
    """What a probe in flight rides on: a connection, or the task that opens one."""

    def cancel(self) -> object:
        """Give the probe up and free what it holds."""


class Probe:
    """One look at the target; instants are nanoseconds of CLOCK_MONOTONIC."""

    __slots__ = ("carrier", "ended", "expires_ns", "scheduled_ns", "sent_ns", "seq")

    def __init__(self, seq: int, scheduled_ns: int, sent_ns: int, expires_ns: int) -> None:
        self.seq = seq
        self.scheduled_ns = scheduled_ns
        self.sent_ns = sent_ns
        self.expires_ns = expires_ns
        self.carrier: Carrier | None = None
        self.ended = False


# Called once with a probe, its status (None: no answer), and why it failed (None: it did not).
Finish = Callable[[Probe, int | None, ErrorKind | None], None]


class Transport(Protocol):
    """Takes probes to the target and tells `Finish` how each one ended."""

    def send(self, probe: Probe) -> None:
        """Take `probe` to the target, now or never."""

    def tidy(self) -> None:
        """Let go of what has been idle for too long; called a few times a second."""

    def close(self) -> None:
        """Let go of everything."""


Ending = tuple[int | None, ErrorKind | None]
"""How a probe ended: its status, and why it failed."""


class Errands(ABC):
    """A transport that runs an errand for each probe, at most `connections` at a time; one too many is UNSENT."""

    def __init__(self, *, connections: int, finish: Finish) -> None:
        self._limit = connections
        self._finish = finish
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, probe: Probe) -> None:
        """Set out with `probe`."""
        if len(self._tasks) >= self._limit:
            self._finish(probe, None, ErrorKind.UNSENT)
            return
        task = self._loop.create_task(self._take(probe))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if probe.carrier is None:
            probe.carrier = task

    async def _take(self, probe: Probe) -> None:
        self._finish(probe, *await self.run(probe))

    @abstractmethod
    async def run(self, probe: Probe) -> Ending:
        """Take `probe` to the target; it may be given up meanwhile, by cancelling its carrier."""

    def tidy(self) -> None:  # noqa: B027 (there may be nothing that idles)
        """Let go of what has been idle for too long."""

    def close(self) -> None:
        """Let go of everything."""
        for task in self._tasks:
            task.cancel()


def kind_of(error: BaseException) -> ErrorKind:
    """Return why a connection could not be opened or broke.

    >>> kind_of(ConnectionRefusedError()).value, kind_of(OSError(errno.EHOSTUNREACH, "")).value
    ('refused', 'unreachable')
    """
    match error:
        case ConnectionRefusedError():
            return ErrorKind.REFUSED
        case ConnectionError():
            return ErrorKind.RESET
        case ssl.SSLError():
            return ErrorKind.TLS
        case TimeoutError() | asyncio.TimeoutError():
            return ErrorKind.TIMEOUT
        case OSError() if error.errno in _OWN_FAULT:
            return ErrorKind.UNSENT
    return ErrorKind.UNREACHABLE

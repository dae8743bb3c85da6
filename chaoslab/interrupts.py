"""Signals that end a campaign in order: noted when they come, acted on where the runner looks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any, ClassVar, Final, Self

from chaoslab.errors import Interrupted

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Notes signals (INT, TERM and HUP) while it is open; `check` raises where it is safe to stop.

    Noting instead of raising at once means that a signal cannot cut an undo in half, however often it comes. Off the
    main thread no handler can be installed, and none is. A HUP that is ignored stays so: that is what nohup(1) is for.
    """

    def __init__(self, signals: Iterable[signal.Signals] = SIGNALS) -> None:
        self._signals = tuple(signals)
        self.signum: int | None = None
        self._told = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if _on_main_thread():
            noted = [signum for signum in self._signals if not _under_nohup(signum)]
            self._before = {signum: signal.signal(signum, self._note) for signum in noted}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            Cut.begun(signum)

    def check(self) -> None:
        """Raise Interrupted when a signal has come."""
        if self.signum is not None:
            self._told = True
            raise Interrupted(self.signum)

    def check_last(self) -> None:
        """Raise Interrupted when a signal has come that no `check` has told of yet."""
        if not self._told:
            self.check()


def _under_nohup(signum: signal.Signals) -> bool:
    return signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN


class Cut:
    """Lets the first signal cut what is going on by KeyboardInterrupt, as ^C does: for work that leaves nothing behind.

    A context manager; `signum` is the signal that came, or None. Once one has come, here or to `Interrupts` within,
    the process is to end: later ones disturb neither the clean-up nor the exit code.
    """

    _open: ClassVar[list[Cut]] = []

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    @classmethod
    def begun(cls, signum: int) -> None:
        """Note that somebody else has begun to end the process for this signal."""
        for cut in cls._open:
            cut.signum = signum if cut.signum is None else cut.signum

    def __enter__(self) -> Self:
        self._open.append(self)
        if _on_main_thread():
            usual = (signal.SIG_DFL, signal.default_int_handler)
            noted = [signum for signum in SIGNALS if signal.getsignal(signum) in usual]
            self._before = {signum: signal.signal(signum, self._cut) for signum in noted}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.remove(self)
        ending = self.signum is not None or isinstance(error, Interrupted)
        for signum, handler in self._before.items():
            # Ignored by the kernel, not by a handler of ours: those go before the interpreter does.
            signal.signal(signum, signal.SIG_IGN if ending else handler)

    def _cut(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            raise KeyboardInterrupt


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()

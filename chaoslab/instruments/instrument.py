"""An instrument: a child process that measures while its parent does other things.

They speak JSON, one document a line:

    parent → child   the specification, then "stop"; the end of the pipe means that the parent is gone
    child → parent   {"ready": true}   {"live": {...}} …   {"error": "one sentence"} …   {"done": {...}}

A child leads a session of its own, so that a terminal's signals do not reach it, and ends by itself when its parent
does. `Instrument` is the parent's side; `Orders`, `say` and `settle` are the child's.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from enum import Enum
from importlib.abc import MetaPathFinder
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

from chaoslab.agent import processes
from chaoslab.errors import ChaoslabError

_STOP: Final = b"stop\n"
_KILL_GRACE: Final = 1.0
_NICENESS: Final = -5
_LONGEST_ERROR: Final = 600
_MOST_LAST_WORDS: Final = 1_000_000
_STDOUT: Final = 1


class Specification(Protocol):
    """What an instrument is to measure."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""


Spec = TypeVar("Spec", bound=Specification)


class Instrument(Generic[Spec]):
    """The parent's handle on an instrument; a context manager that ends the child when it is left.

    Raises:
        ChaoslabError: no process can be started.
    """

    module: ClassVar[str]
    noun: ClassVar[str]

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._error: str | None = None
        self._end = ""
        self._done: dict[str, Any] | None = None
        self._ready = threading.Event()
        self._ended = threading.Event()
        try:
            self._last_words = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the child)
            self._process = self._spawn()
        except OSError as error:
            raise ChaoslabError(f"the {self.noun} cannot be started: {error.strerror}") from error
        self._tell(json.dumps(spec.as_dict()).encode() + b"\n")
        self._reader = threading.Thread(target=self._listen, name=self.noun, daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, spec: Spec) -> Self:
        """Start one; it measures as soon as it is ready.

        Raises:
            ChaoslabError: no process can be started.
        """
        return cls(spec)

    def _spawn(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", self.module]
        # A token of its own: an instrument belongs to no fault, so no undo can end it.
        token = f"{self.noun.replace(' ', '-')}-{os.urandom(8).hex()}"
        pipe = subprocess.PIPE
        try:
            return processes.spawn(argv, token=token, stdin=pipe, stdout=pipe, stderr=self._last_words)
        except OSError:
            self._last_words.close()
            raise

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child still runs."""
        return not self._ended.is_set()

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until the child measures.

        Raises:
            ChaoslabError: it failed, or is not ready after `timeout` seconds; then it is gone.
        """
        ready = self._ready.wait(timeout)
        try:
            self.check()
        except ChaoslabError:
            self.kill()
            raise
        if not ready:
            self.kill()
            raise ChaoslabError(f"the {self.noun} is not ready after {timeout:g} s")

    def check(self) -> None:
        """Raise ChaoslabError when the child reported an error, or has ended without being asked."""
        if self._error is not None:
            raise ChaoslabError(self._error)
        if self._ended.is_set() and self._done is None:
            raise ChaoslabError(f"the {self.noun} ended before it was told to: {self._end or self._obituary()}")

    def kill(self) -> None:
        """End the child at once: rows it holds are written, nothing else is waited for. A second call does nothing."""
        if self._last_words.closed:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_KILL_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._end = self._obituary()
        self._last_words.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def _finish(self, patience: float) -> dict[str, Any]:
        """Ask the child to finish and return its summary; it gets `patience` seconds."""
        if not self._last_words.closed:
            self._tell(_STOP)
            self._ended.wait(patience)
            self.kill()
        if self._done is None or self._process.returncode != 0:
            raise ChaoslabError(self._error or f"the {self.noun} failed: {self._end}")
        return self._done

    def _heard(self, live: Mapping[str, Any]) -> None:
        """Take a live line; called by the reader thread."""

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        # A child that is gone is noticed by the reader.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._take(json.loads(line))
        finally:
            self._ended.set()
            self._ready.set()

    def _take(self, document: Mapping[str, Any]) -> None:
        match document:
            case {"ready": _}:
                self._ready.set()
            case {"live": live}:
                self._heard(live)
            case {"error": error}:
                self._error = error
            case {"done": done}:
                self._done = done

    def _obituary(self) -> str:
        """Return the child's last line on standard error, else how it ended."""
        # The child shares the file's position, so that must not be moved.
        words = os.pread(self._last_words.fileno(), _MOST_LAST_WORDS, 0).decode("utf-8", "replace")
        if lines := words.strip().splitlines():
            return lines[-1]
        code = None
        # A process that is ending closes its pipe a moment before it can be waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_KILL_GRACE)
        return f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"it ended with {code}"


class Order(Enum):
    """What a child is told after its specification."""

    STOP = "stop"  # finish what is in flight, write everything, say {"done": …}
    GONE = "gone"  # the parent is gone: stop at once, write what is there


class Orders:
    """The child's ear: its standard input, read without a buffer of Python's, so that it can be waited for."""

    descriptor: Final = 0

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._rest = b""

    def specification(self) -> dict[str, Any]:
        """Read the first line.

        Raises:
            EOFError: the parent is gone already.
        """
        while b"\n" not in self._rest:
            read = os.read(self.descriptor, 65536)
            if not read:
                raise EOFError("the parent is gone")
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        document: dict[str, Any] = json.loads(line)
        return document

    def look(self, wait: float = 0.0) -> Order | None:
        """Return the order that is there, or comes within `wait` seconds.

        A parent that has died may leave the pipe open in a process that it forked: hence the look at our own parent.
        """
        if select.select([self.descriptor], [], [], wait)[0]:
            read = os.read(self.descriptor, 65536)
            if not read:
                return Order.GONE
            self._rest += read
        if os.getppid() != self._parent:
            return Order.GONE
        return Order.STOP if _STOP in self._rest else None


def say(name: str, body: object, *, patience: float = 0.0) -> None:
    """Send one line to the parent, whole or not at all; one that it does not read within `patience` seconds is lost.

    A parent that is stopped must not stop the measurement: a pipe that poll(2) calls writable takes a line of up to
    4096 bytes (PIPE_BUF) without blocking.
    """
    line = json.dumps({name: body[:_LONGEST_ERROR] if isinstance(body, str) else body}).encode() + b"\n"
    if select.select([], [_STDOUT], [], patience)[1]:
        with contextlib.suppress(BrokenPipeError):
            os.write(_STDOUT, line)


def settle(*, real_time: bool = False) -> str:
    """Make this process a good instrument; return how far it may run before ordinary processes.

    "real-time" is before all of them (SCHED_RR, sched(7)), where `real_time` asks for it and the kernel allows it;
    "raised" is a niceness of -5; "ordinary" is neither. A niceness only weighs: beside eight CPU stressors on two
    cores half of all answers took 9 ms to be read, which a real-time prober reads at once. The kernel lets no
    real-time process have more than 95 % of a core.
    """
    sys.meta_path.insert(0, _NoPandas())
    threading.excepthook = _end_with_thread
    processes.protect_from_memory_pressure()
    if real_time:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
            return "real-time"
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    except PermissionError:
        return "ordinary"
    return "raised"


class _NoPandas(MetaPathFinder):
    """Keeps pyarrow from importing pandas with its first array, which costs 0.3 s in mid-run and 50 MB for good."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ImportError("an instrument does without pandas")


def _end_with_thread(args: threading.ExceptHookArgs) -> None:
    """An instrument that has lost a thread would go on and record nothing: let the parent see it end instead."""
    threading.__excepthook__(args)
    sys.stderr.flush()
    os._exit(1)

"""The supervisor: starts the shop, brings its service back when it dies, and clears everything away at the end.

It leaves the database as it is: an outage that somebody caused must last until somebody ends it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

from chaoslab import targets
from chaoslab.agent import processes
from chaoslab.demo import database, teardown
from chaoslab.demo.builds import Build
from chaoslab.demo.commands import database_command, service_command
from chaoslab.demo.premises import Premises
from chaoslab.errors import ChaoslabError, NotReverted, UsageError
from chaoslab.targets import DatabaseControl, Target

LOOPBACK: Final = "127.0.0.1"

_STDIN: Final = 0
_START_LIMIT: Final = 60.0
_POLL_SECONDS: Final = 0.02
_SHORTEST_DELAY: Final = 0.3
_LONGEST_DELAY: Final = 5.0
_STEADY_SECONDS: Final = 5.0


class Released(Exception):
    """The shop was told to end."""


class Leash:
    """What ends the shop from outside: INT, TERM, HUP, or the end of stdin, which tells that the parent died.

    A context manager, for the main thread. Signals are noted as bytes on a pipe, so that they cut nothing in half.
    """

    _SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __enter__(self) -> Self:
        self._noted, self._note = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._note)
        self._before: dict[int, Any] = {signum: signal.signal(signum, _do_nothing) for signum in self._SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._noted)
        os.close(self._note)

    def wait(self, seconds: float | None = None, *, process: subprocess.Popen[bytes] | None = None) -> None:
        """Wait until `seconds` have passed or `process` has ended, whichever comes first; None waits for ever.

        Raises:
            Released: the shop was told to end.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        with _watched(process) as descriptors:
            poller = select.poll()
            for descriptor in (self._noted, _STDIN, *descriptors):
                poller.register(descriptor, select.POLLIN)
            while True:
                left = None if deadline is None else 1000 * max(0.0, deadline - time.monotonic())
                ready = {descriptor for descriptor, _ in poller.poll(left)}
                if self._noted in ready or (_STDIN in ready and _at_end(_STDIN)):
                    raise Released
                if not ready or ready & set(descriptors):
                    return


def _do_nothing(signum: int, frame: object) -> None:
    """Be a handler: without one, the signal would not be noted on the pipe."""


@contextlib.contextmanager
def _watched(process: subprocess.Popen[bytes] | None) -> Iterator[tuple[int, ...]]:
    """Yield a descriptor that becomes readable when `process` ends; none without a process."""
    if process is None:
        yield ()
        return
    descriptor = os.pidfd_open(process.pid)
    try:
        yield (descriptor,)
    finally:
        os.close(descriptor)


def _at_end(descriptor: int) -> bool:
    try:
        return os.read(descriptor, 4096) == b""
    except OSError:  # a terminal that hung up
        return True


def serve(shop: Premises, *, build: Build, port: int, token: str) -> None:
    """Run a shop in the foreground until it is told to end; leave nothing.

    One JSON line on stdout, {"url": ...}, says that it is open.

    Raises:
        UsageError: the port is taken, or the folder cannot be used.
        ChaoslabError: the shop cannot be started; the message ends with the logs' last lines.
        NotReverted: something of it survives.
    """
    with Leash() as leash, reserved(port) as free_port:
        shop.occupy(token)
        try:
            _open_and_keep(shop, build, free_port, leash)
        except Released:
            pass
        finally:
            if survivors := teardown.clear(shop):
                raise NotReverted(f"of the shop in {shop.path} survives: {', '.join(survivors)}")


@contextlib.contextmanager
def reserved(port: int) -> Iterator[int]:
    """Hold a port of loopback for the shop's service, and yield its number; 0 takes a free one.

    The socket is bound but never listens, so that a client is refused while the service is down, and still nobody else
    can be given the port between two lives of the service.

    Raises:
        UsageError: the port cannot be had.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "out of range"
            raise UsageError(
                f"port {port} of {LOOPBACK} cannot be had: {reason}; accepted: a free port, or 0 for any"
            ) from error
        yield int(holder.getsockname()[1])


def _open_and_keep(shop: Premises, build: Build, port: int, leash: Leash) -> None:
    try:
        leash.wait(0)
        database.create(shop)
        leash.wait(0)
        database.start(shop)
        database.load_schema(shop)
        service = _start_service(shop, build, port)
        _wait_until_healthy(service, port, leash)
    except (ChaoslabError, OSError) as error:
        raise ChaoslabError(f"the shop does not open: {error}\n{shop.last_words()}") from error
    _announce(shop, build, f"http://{LOOPBACK}:{port}")
    _keep(shop, build, port, leash, service)


def _start_service(shop: Premises, build: Build, port: int) -> subprocess.Popen[bytes]:
    argv = service_command(folder=shop.path, build=build.name, port=port, supervisor=os.getpid())
    with shop.service_log.open("ab") as log:
        # Without a session of its own it would get the terminal's Ctrl-C before we do.
        service = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    identity = processes.identify(service.pid)
    assert identity is not None  # not reaped yet, so it is still listed
    shop.note_service(identity)
    return service


def _wait_until_healthy(service: subprocess.Popen[bytes], port: int, leash: Leash) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while not _is_healthy(port):
        leash.wait(_POLL_SECONDS, process=service)
        if service.poll() is not None:
            raise ChaoslabError(f"the shop's service ended with {service.returncode} before it answered")
        if time.monotonic() > deadline:
            raise ChaoslabError(f"the shop's service has not answered for {_START_LIMIT:g} s")


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1.0)
    try:
        connection.request("GET", "/api/health")
        return bool(json.load(connection.getresponse())["status"] == "ok")
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def _announce(shop: Premises, build: Build, url: str) -> None:
    """Publish the shop and say that it is open."""
    control = DatabaseControl(
        kind="PostgreSQL",
        stop=database_command("stop", folder=shop.path),
        start=database_command("start", folder=shop.path),
        check=database_command("check", folder=shop.path),
    )
    # The URL first: whoever clears the folder must know what to withdraw.
    shop.url_file.write_text(url, encoding="utf-8")
    targets.publish(
        Target(url=url, name="the embedded shop", build=build.name, pid_file=str(shop.pid_file), database=control)
    )
    # A parent that has died meanwhile ends us by the end of stdin.
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"url": url}), flush=True)


def _keep(shop: Premises, build: Build, port: int, leash: Leash, service: subprocess.Popen[bytes]) -> None:
    """Bring the service back whenever it dies, until the shop is told to end (Released)."""
    delay: float | None = None
    while True:
        started = time.monotonic()
        leash.wait(process=service)
        service.wait()
        delay = next_delay(delay, lived=time.monotonic() - started)
        leash.wait(delay)
        service = _start_service(shop, build, port)


def next_delay(delay: float | None, *, lived: float) -> float:
    """Return how long to wait before the next restart, after `delay` before the last one: longer while it dies young.

    >>> next_delay(None, lived=1.0), next_delay(0.3, lived=1.0), next_delay(4.0, lived=1.0), next_delay(4.0, lived=60.0)
    (0.3, 0.6, 5.0, 0.3)
    """
    if delay is None or lived > _STEADY_SECONDS:
        return _SHORTEST_DELAY
    return min(2 * delay, _LONGEST_DELAY)

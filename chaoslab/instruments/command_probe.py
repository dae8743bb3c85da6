"""Command probes: one that exits with 0 is a success. Its latency holds what it takes to start a process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from chaoslab.instruments.transport import Ending, Errands, Finish, Probe, kind_of
from chaoslab.looks import Look
from chaoslab.records import ErrorKind

_PR_SET_PDEATHSIG: Final = 1


class CommandTransport(Errands):
    """Runs the command of a look, in a session of its own; it ends with its probe, and with the prober."""

    def __init__(self, look: Look, *, connections: int, finish: Finish) -> None:
        super().__init__(connections=connections, finish=finish)
        self._argv = look.argv
        self._running: set[_Run] = set()
        # One thread that lives as long as the prober: the kernel ends a child with the thread that started it.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="commands")
        self._libc = ctypes.CDLL(None)

    async def run(self, probe: Probe) -> Ending:
        """Run the command to its end; its exit code is the status, minus a signal's number if one ended it."""
        run = _Run()
        probe.carrier = run
        try:
            process = await self._loop.run_in_executor(self._starter, self._start)
        except OSError as error:
            return None, kind_of(error)
        run.began(process)
        self._running.add(run)
        try:
            code = await self._ended(process)
        finally:
            run.cancel()  # and what it has left behind in its session
            self._running.discard(run)
        return code, None if code == 0 else ErrorKind.STATUS

    def close(self) -> None:
        """End every command."""
        super().close()
        for run in self._running:
            run.cancel()
        self._starter.shutdown(wait=False)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=self._become_ordinary,
        )

    def _become_ordinary(self) -> None:
        """In the child: what the prober is allowed (priority, memory) is not for the command; it dies with us."""
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, 0)
            Path("/proc/self/oom_score_adj").write_text("0")

    async def _ended(self, process: subprocess.Popen[bytes]) -> int:
        ended: asyncio.Future[None] = self._loop.create_future()
        descriptor = os.pidfd_open(process.pid)
        try:
            self._loop.add_reader(descriptor, ended.set_result, None)
            await ended
        finally:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        return process.wait()


class _Run:
    """A command that runs, or is about to."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._given_up = False

    def began(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        if self._given_up:
            self.cancel()

    def cancel(self) -> None:
        self._given_up = True
        if self._process is not None:
            # It leads its session; once it is reaped, the number is that of its group as long as a member lives.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

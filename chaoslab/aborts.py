"""What ends a fault at once: the target's suffering, a silent prober, this machine running short, the user's probe."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import psutil

from chaoslab.agent import processes
from chaoslab.instruments.probe import Live
from chaoslab.redaction import redact_command
from chaoslab.scenario import AbortConditions, AbortProbe

_LONGEST_SILENCE: Final = 3.0
_MEBIBYTE: Final = 1024**2


def host_in_danger(folder: Path, conditions: AbortConditions) -> str:
    """Return what this machine runs short of, memory, room on the disk of `folder` or cores, or an empty string."""
    memory = psutil.virtual_memory()
    if memory.available < conditions.min_free_memory_percent / 100 * memory.total:
        return f"abort condition: only {memory.available / _MEBIBYTE:.0f} MB of memory are free on this machine"
    free = psutil.disk_usage(str(folder)).free / _MEBIBYTE
    if free < conditions.min_free_disk_mb:
        return f"abort condition: only {free:.0f} MB are free on the campaign's disk"
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if conditions.max_load_per_core is not None and load > conditions.max_load_per_core:
        return f"abort condition: the load average is {load:.1f} for each core of this machine"
    return ""


class UserProbe:
    """The user's own abort probe, started again and again while nobody waits for it."""

    def __init__(self, probe: AbortProbe) -> None:
        self._probe = probe
        self._next = time.monotonic()
        self._running: subprocess.Popen[bytes] | None = None

    def reason(self) -> str:
        """Return why the probe stops the fault, or an empty string; starts it when it is time.

        One that cannot be started, or does not end in time, stops the fault too: nobody knows whether it may go on.
        """
        shown = f"abort condition: the probe `{shlex.join(redact_command(self._probe.command))}`"
        if self._running is None:
            return f"{shown} cannot be started" if time.monotonic() >= self._next and not self._start() else ""
        code = self._running.poll()
        if code is None:
            late = time.monotonic() > self._next - self._probe.interval + self._probe.timeout
            return f"{shown} did not end within {self._probe.timeout:g} s" if late else ""
        self._running = None
        return f"{shown} ended with {code}" if code else ""

    def _start(self) -> bool:
        self._next = time.monotonic() + self._probe.interval
        try:
            self._running = processes.spawn(self._probe.command, token=f"abort-probe-{os.urandom(4).hex()}")
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End it, and what it started, if it runs."""
        if self._running is not None and self._running.poll() is None:
            os.killpg(self._running.pid, signal.SIGKILL)  # it leads its session until it is reaped
            self._running.wait()


def abort_reason(live: Live | None, conditions: AbortConditions, *, at_us: int, check_interval: float) -> str:
    """Return which abort condition holds at `at_us` (since the campaign's anchor), or an empty string.

    `check_interval` is the pace, in seconds, that `consecutive_failures` counts in.
    """
    if live is None:
        return ""
    silent = (at_us - live.at_us) / 1e6
    if silent > _LONGEST_SILENCE:
        return f"the prober has said nothing for {silent:.1f} s, so nobody watches the target"
    if conditions.consecutive_failures is not None and live.failing_since_us is not None:
        failing = (at_us - live.failing_since_us) / 1e6
        if failing >= conditions.consecutive_failures * check_interval:
            return f"abort condition: no probe has succeeded for {failing:.1f} s"
    if live.window_filled_s < conditions.window_seconds:
        return ""
    if conditions.error_rate_percent is not None and live.error_rate * 100 > conditions.error_rate_percent:
        return f"abort condition: {live.error_rate:.0%} of probes failed in the last {conditions.window_seconds:g} s"
    median_ms = live.median_latency_us / 1000 if live.median_latency_us is not None else 0.0
    if conditions.response_time_ms is not None and median_ms > conditions.response_time_ms:
        return f"abort condition: the median response took {median_ms:.0f} ms"
    return ""

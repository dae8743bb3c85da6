"""What ends a fault at once: the target's suffering, a silent prober, and this machine running short."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

from chaoslab.probe import Live
from chaoslab.scenario import AbortConditions

_LONGEST_SILENCE: Final = 3.0
_LEAST_FREE_MEMORY: Final = 0.03
_LEAST_FREE_DISK: Final = 100 * 1024**2


def host_in_danger(folder: Path) -> str:
    """Return what this machine runs short of, memory or room on the disk of `folder`, or an empty string."""
    memory = psutil.virtual_memory()
    if memory.available < _LEAST_FREE_MEMORY * memory.total:
        return f"only {memory.available / 1024**2:.0f} MB of memory are free on this machine"
    free = psutil.disk_usage(str(folder)).free
    return f"only {free / 1024**2:.0f} MB are free on the campaign's disk" if free < _LEAST_FREE_DISK else ""


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

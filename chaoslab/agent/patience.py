"""Waiting for something to come about."""

from __future__ import annotations

import time
from collections.abc import Callable


def comes_about(condition: Callable[[], bool], *, seconds: float, every: float = 0.02) -> bool:
    """Wait until `condition` holds; return whether it has within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True

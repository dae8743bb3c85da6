"""Damaged and hostile input: every outcome is an answer or an error of ours.

The gate runs a fixed selection. `make fuzz` (FUZZ_EXAMPLES=5000) runs that many random examples of each property, and
every bit of a journal.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def examples(count: int) -> settings:
    """Return settings for a property that the gate tries `count` times, always alike."""
    return settings(
        max_examples=EXAMPLES or count,
        derandomize=not EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )

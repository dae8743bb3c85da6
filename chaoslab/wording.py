"""How numbers and names are written, the same in figures, report, Markdown and terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from chaoslab.intervals import Estimate

METRIC_NAMES: Final = {
    "mttr_seconds": "MTTR",
    "error_rate_percent": "error rate during injection",
    "availability_percent": "availability during injection",
    "latency_degradation_ms": "latency degradation",
    "recovery_time_seconds": "recovery time",
}
"""Metrics that an SLO can name, as readers know them."""

NOT_MEASURED: Final = "not measured"

_SHORT: Final = 44


def number(value: float, unit: str = "") -> str:
    """Return `value` with three significant digits, down to a thousandth; percentages keep two decimals.

    >>> number(4.1234, "s"), number(12345.6, "ms"), number(-0.0432, "s"), number(-0.00001, "s")
    ('4.12', '12,346', '−0.043', '0.00')
    >>> number(99.966, "%")  # 100 would be another claim
    '99.97'
    """
    text = f"{abs(value):,.{_decimals(value, unit)}f}"
    if not any(digit in text for digit in "123456789"):
        return "0.00"
    return f"−{text}" if value < 0 else text


def _decimals(value: float, unit: str) -> int:
    if unit == "%" or value == 0:
        return 2
    return min(3, max(0, 2 - math.floor(math.log10(abs(value)))))


def quantity(value: float | None, unit: str) -> str:
    """Return `value` with its unit, or "not measured".

    >>> quantity(0.25, "s"), quantity(None, "s")
    ('0.250 s', 'not measured')
    """
    return NOT_MEASURED if value is None else f"{number(value, unit)} {unit}".rstrip()


def interval(estimate: Estimate) -> str:
    """Return the bounds of the interval, or an empty string; an open side is named.

    >>> interval(Estimate(value=4.0, low=3.0, high=5.5, method="t", n=5, unit="s"))
    '[3.00, 5.50]'
    >>> interval(Estimate(value=0.0, high=1.2, method="t", n=5, unit="%"))
    '≤ 1.20'
    """
    low, high, unit = estimate.low, estimate.high, estimate.unit
    if low is not None and high is not None:
        return f"[{number(low, unit)}, {number(high, unit)}]"
    if high is not None:
        return f"≤ {number(high, unit)}"
    return "" if low is None else f"≥ {number(low, unit)}"


def value(estimate: Estimate) -> str:
    """Return the estimate without its interval; where something had not ended when the probes did, it is a bound.

    >>> value(Estimate(value=None, method="t", n=3, unit="s", censored=3, horizon=6.0))
    'more than 6.00 s'
    >>> value(Estimate(value=4.0, method="t", n=3, unit="s", censored=1, horizon=6.0))
    'at least 4.00 s'
    """
    if estimate.value is None and estimate.horizon is not None:
        return f"more than {quantity(estimate.horizon, estimate.unit)}"
    return f"{'at least ' if estimate.censored else ''}{quantity(estimate.value, estimate.unit)}"


def brief(estimate: Estimate) -> str:
    """Return the value; without one, the reason if it is short enough to stand in its place.

    >>> brief(Estimate(value=None, method="t", n=3, unit="s", reason="no outage in 3 runs"))
    'no outage in 3 runs'
    """
    if estimate.value is None and estimate.horizon is None and 0 < len(estimate.reason) <= _SHORT:
        return estimate.reason
    return value(estimate)


def estimate(estimate: Estimate) -> str:
    """Return value, unit and interval.

    >>> estimate(Estimate(value=4.0, low=3.0, high=5.5, method="t", n=5, unit="s"))
    '4.00 s [3.00, 5.50]'
    """
    return f"{brief(estimate)} {interval(estimate)}".rstrip()


def objective(comparison: str, threshold: float, unit: str) -> str:
    """Return a threshold with its side.

    >>> objective("<=", 5.0, "%")
    '≤ 5 %'
    """
    return f"{'≤' if comparison == '<=' else '≥'} {threshold:g} {unit}"


def short_name(metric: str) -> str:
    """Return a metric as readers know it, without the phase that goes without saying.

    >>> short_name("error_rate_percent"), short_name("downtime_seconds")
    ('error rate', 'downtime_seconds')
    """
    return METRIC_NAMES.get(metric, metric).removesuffix(" during injection")


def plural(count: int, noun: str, many: str = "") -> str:
    """Return the count with its noun.

    >>> plural(1, "run"), plural(3, "run")
    ('1 run', '3 runs')
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def listed(names: Iterable[str]) -> str:
    """Return names as prose.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *head, tail = list(names) or [""]
    return f"{', '.join(head)} and {tail}" if head else tail

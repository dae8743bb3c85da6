"""Did the machine or the target change while the campaign ran?

Runs come in an order drawn by chance within each repeat, so that a drift widens intervals rather than posing as the
effect of a scenario. It must be told all the same: nothing of a drifting campaign repeats. What is looked at is what no
fault touches, in the order in which it happened: the baseline of every run, and the control runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from chaoslab.intervals import LEVEL
from chaoslab.metrics import RunMetrics

FEWEST_RUNS: Final = 5
"""Runs below which no order of values is rare enough to tell: of 4 runs, each of the two straight ones is 1 in 24."""
LEAST_CHANGE_PERCENT: Final = 10.0
LEAST_CHANGE_MS: Final = 1.0
"""Changes from the first run to the last below which nobody needs to be warned, both of them."""
_SERIES: Final = {
    "baseline latency, p50": "latency_baseline_p50_ms",
    "control latency, p50": "latency_injection_p50_ms",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How one series changed from the first run to the last.

    `change_percent`, with the interval [`low`, `high`], is Sen's slope of the logarithm over the order of runs (Sen
    1968, *JASA* 63:1379), times their number less one; `p_value` is Kendall's, two-sided (Mann 1945, *Econometrica*
    13:245). They are None when `n` is too small, as `reason` says. `warns` when the change is both significant, at the
    level shared among the series, and large.
    """

    series: str
    n: int
    change_percent: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    warns: bool = False
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        if self.change_percent is None or self.p_value is None:
            return f"{self.series}: {self.reason}"
        verb = "rose" if self.change_percent > 0 else "fell"
        return (
            f"{self.series} {verb} by {abs(self.change_percent):.0f} % [{self.low:+.0f}, {self.high:+.0f}] "
            f"from the first run to the last (Kendall's p {self.p_value:.2g}, n {self.n})"
        )


def drifts(runs: Sequence[RunMetrics], controls: Sequence[RunMetrics]) -> tuple[Drift, ...]:
    """Return the drift of each series; `runs` (all of them) and `controls` come in order of time."""
    series = zip(_SERIES.items(), (runs, controls), strict=True)
    return tuple(_drift(name, [run.latency[key] for run in chosen]) for (name, key), chosen in series)


def _drift(name: str, values: Sequence[float | None]) -> Drift:
    known = np.array([value for value in values if value is not None and value > 0])
    n = len(known)
    if n < FEWEST_RUNS:
        return Drift(series=name, n=n, reason=f"{n} of the {FEWEST_RUNS} runs that it takes to tell")
    from scipy import stats  # takes half a second

    order = np.arange(n)
    slope = stats.theilslopes(np.log(known), order, alpha=LEVEL)
    p_value = float(stats.kendalltau(order, known).pvalue) if np.ptp(known) else 1.0
    change, low, high = (100 * math.expm1(each * (n - 1)) for each in (slope.slope, slope.low_slope, slope.high_slope))
    certain = p_value < (1 - LEVEL) / len(_SERIES)
    return Drift(
        series=name,
        n=n,
        change_percent=change,
        low=low,
        high=high,
        p_value=p_value,
        warns=certain and abs(change) >= max(LEAST_CHANGE_PERCENT, 100 * LEAST_CHANGE_MS / float(np.median(known))),
    )

"""One metric of one scenario, baseline against candidate: what is compared, on which scale, and what change matters.

A change counts in the metric's own unit. Shares are compared by their difference in points, degradation by its
difference in ms, times and latency quantiles by their ratio; a ratio, applied to the baseline, is a difference again,
and that is what is held against the margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from chaoslab import analysis, intervals
from chaoslab.comparison import effects
from chaoslab.comparison.effects import Robust
from chaoslab.errors import UsageError, nearest
from chaoslab.intervals import FEWEST_RUNS, Estimate
from chaoslab.metrics import RunMetrics, Span
from chaoslab.wording import plural

Scale = Literal["points", "difference", "ratio"]
Floats = NDArray[np.float64]

_CLOCK_MS: Final = 0.001
_LARGEST_LOGARITHM: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """The largest change that does not matter: a share of the baseline, or an amount, whichever is more."""

    percent: float = 0.0
    amount: float = 0.0

    def of(self, baseline: float) -> float:
        """Return the margin in the metric's unit, for a baseline of that value.

        >>> Margin(percent=20, amount=0.5).of(10.0), Margin(percent=20, amount=0.5).of(1.0)
        (2.0, 0.5)
        """
        return max(self.percent / 100 * abs(baseline), self.amount)

    def words(self, unit: str) -> str:
        """Return the margin for a reader.

        >>> Margin(percent=20, amount=0.5).words("s"), Margin(amount=1).words("points")
        ('20 %, at least 0.5 s', '1 point')
        """
        one = unit == "points" and self.amount == 1
        amount = f"{self.amount:g} {'point' if one else unit}" if self.amount else ""
        percent = f"{self.percent:g} %" if self.percent else ""
        return ", at least ".join(filter(None, [percent, amount]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A metric that is compared.

    `of` gives a run's value, or None if it has none; a `Span` that is censored counts as the time that was watched.
    `quiet_is_best`: a run without a value had nothing to time, and no value could be better.
    """

    metric: str
    scale: Scale
    unit: str
    margin: Margin
    of: Callable[[RunMetrics], float | Span | None]
    more_is_worse: bool = True
    quiet_is_best: bool = False

    @property
    def effect_unit(self) -> str:
        """The unit of the effect; a ratio has the multiplication sign."""
        return "×" if self.scale == "ratio" else "points" if self.scale == "points" else self.unit


def _latency(name: str, run: RunMetrics) -> float | None:
    return run.latency[name]


_TIME: Final = Margin(percent=20, amount=0.5)
_LATENCY: Final = Margin(percent=10, amount=5)
_POINT: Final = Margin(amount=1)

_COMPARED: Final = (
    Compared(metric="mttr_seconds", scale="ratio", unit="s", margin=_TIME, of=lambda run: run.mttr, quiet_is_best=True),
    Compared(
        metric="error_rate_percent", scale="points", unit="%", margin=_POINT, of=lambda run: run.error_rate_percent
    ),
    Compared(
        metric="availability_percent",
        scale="points",
        unit="%",
        margin=_POINT,
        of=lambda run: run.availability_percent,
        more_is_worse=False,
    ),
    Compared(
        metric="latency_degradation_ms",
        scale="difference",
        unit="ms",
        margin=Margin(amount=20),
        of=lambda run: run.latency_degradation_ms,
    ),
    Compared(metric="recovery_time_seconds", scale="ratio", unit="s", margin=_TIME, of=lambda run: run.recovery),
    Compared(metric="first_success_seconds", scale="ratio", unit="s", margin=_TIME, of=lambda run: run.first_success),
    Compared(metric="longest_outage_seconds", scale="ratio", unit="s", margin=_TIME, of=lambda run: run.longest_outage),
    *(
        Compared(metric=name, scale="ratio", unit="ms", margin=_LATENCY, of=partial(_latency, name))
        for name in (
            "latency_baseline_p95_ms",
            "latency_injection_p50_ms",
            "latency_injection_p95_ms",
            "latency_injection_p99_ms",
        )
    ),
)
COMPARED: Final[Mapping[str, Compared]] = {found.metric: found for found in _COMPARED}
"""What is compared, by metric. Downtime is not among it: it is availability over again."""


def margins(given: Mapping[str, str | float] | None = None) -> dict[str, Margin]:
    """Return the margin of every compared metric; `given` ones replace the defaults.

    A number is in the metric's unit (points, s, ms); with a percent sign, of a metric that is compared by ratio, it is
    a share of the baseline.

    Raises:
        UsageError: a metric that is not compared, or a margin that is none.

    >>> margins({"mttr_seconds": "30%"})["mttr_seconds"], margins({"error_rate_percent": 0.5})["error_rate_percent"]
    (Margin(percent=30.0, amount=0.0), Margin(percent=0.0, amount=0.5))
    """
    found = {metric: compared.margin for metric, compared in COMPARED.items()}
    for metric, value in (given or {}).items():
        if metric not in COMPARED:
            raise UsageError(
                f"a margin for {metric!r}: it is not compared{nearest(metric, COMPARED)}; accepted: "
                f"{', '.join(COMPARED)}"
            )
        found[metric] = _margin(COMPARED[metric], str(value).strip())
    return found


def _margin(compared: Compared, text: str) -> Margin:
    share = text.endswith("%")
    unit = compared.effect_unit if compared.scale == "points" else compared.unit
    accepted = f"a number above zero in {unit}" + (", or with % of the baseline" if compared.scale == "ratio" else "")
    try:
        amount = float(text.removesuffix("%"))
    except ValueError:
        amount = math.nan
    if not (0 < amount < math.inf) or (share and compared.scale != "ratio"):
        raise UsageError(f"the margin {text!r} for {compared.metric} cannot be used; accepted: {accepted}")
    return Margin(percent=amount) if share else Margin(amount=amount)


# Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One metric over the usable runs of one side: values in its unit, NaN where a run has none."""

    runs: tuple[RunMetrics, ...]
    values: Floats
    censored: int

    @property
    def known(self) -> Floats:
        """The values there are."""
        found: Floats = self.values[np.isfinite(self.values)]
        return found

    @property
    def quiet(self) -> bool:
        """Whether there are runs, and none has a value."""
        return len(self.runs) > 0 and not len(self.known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One metric of one scenario on both sides. `floor` is the smallest value that the probes can tell from zero."""

    compared: Compared
    baseline: Side
    candidate: Side
    floor: float

    @property
    def runs(self) -> tuple[int, int]:
        """Runs with a value, of baseline and candidate."""
        return len(self.baseline.known), len(self.candidate.known)

    @property
    def resolution(self) -> float:
        """What the probes resolve, on the scale of the comparison; the same however the runs are dealt."""
        if self.compared.scale != "ratio":
            return self.floor
        pooled = np.concatenate([self.baseline.known, self.candidate.known])
        return self.floor / max(float(pooled.mean()), self.floor) if len(pooled) else 1.0

    def scaled(self, side: Side) -> Floats:
        """Return a side's values on the scale of the comparison: for a ratio, logarithms."""
        return np.log(side.values) if self.compared.scale == "ratio" else side.values

    def scores(self, side: Side) -> Floats:
        """Return a side's values as tests see them: a run with nothing to time comes before any that had something."""
        if not self.compared.quiet_is_best:
            return self.scaled(side)
        return np.log(np.where(np.isfinite(side.values), side.values, self.floor))


def pair(
    compared: Compared, baseline: Sequence[RunMetrics], candidate: Sequence[RunMetrics], *, rate_hz: float
) -> Pair:
    """Return both sides of a metric; `rate_hz` is how often the probes looked."""
    floor = _floor(compared, [*baseline, *candidate], rate_hz)
    return Pair(
        compared=compared,
        baseline=_side(compared, baseline, floor),
        candidate=_side(compared, candidate, floor),
        floor=floor,
    )


def _side(compared: Compared, runs: Sequence[RunMetrics], floor: float) -> Side:
    found = [compared.of(run) for run in runs]
    plain = [one.seconds if isinstance(one, Span) else one for one in found]
    values = np.array([math.nan if one is None else one for one in plain], dtype=float)
    return Side(
        runs=tuple(runs),
        values=np.maximum(values, floor) if compared.scale == "ratio" else values,
        censored=sum(isinstance(one, Span) and one.censored for one in found),
    )


def _floor(compared: Compared, runs: Sequence[RunMetrics], rate_hz: float) -> float:
    if compared.unit == "s":
        return 1 / rate_hz
    if compared.unit == "ms":
        return _CLOCK_MS
    probes = sum(run.requests for run in runs) / len(runs) if runs else 1.0
    return 100 / max(probes, 1.0)


# Effects


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What changed, as estimated.

    `effect` is as readers see it: points, ms, or a factor. `difference` is the same in the metric's unit, and
    `narrow` the bounds of the narrower interval that an equivalence test looks at; None where there is none.
    """

    baseline: float | None
    candidate: float | None
    effect: Estimate
    difference: float | None = None
    wide: tuple[float, float] | None = None
    narrow: tuple[float, float] | None = None
    robust: Robust | None = None


def estimate(found: Pair, *, level: float) -> Change:
    """Return the change between the sides of a pair, with an interval of `level` and one of 2 × `level` − 1.

    The narrower one lies inside a margin exactly when two one-sided tests at 1 − `level` say so (Schuirmann 1987,
    *J. Pharmacokinetics and Biopharmaceutics* 15:657).
    """
    compared, n = found.compared, min(found.runs)
    nothing = Estimate(value=None, method="none", n=n, unit=compared.effect_unit, level=level)
    centres = [_centre(found, side) for side in (found.baseline, found.candidate)]
    if n == 0:
        return Change(baseline=centres[0], candidate=centres[1], effect=nothing)
    before, after = (found.scaled(side)[np.isfinite(side.values)] for side in (found.baseline, found.candidate))
    wide, narrow = _bounds(found, before, after, level), _bounds(found, before, after, 2 * level - 1)
    shape = _factor if compared.scale == "ratio" else float
    base = centres[0] or 0.0

    def natural(scaled: float) -> float:
        return base * (_factor(scaled) - 1) if compared.scale == "ratio" else scaled

    def both(bounds: effects.Bounds, turn: Callable[[float], float]) -> tuple[float, float] | None:
        return None if bounds.low is None or bounds.high is None else (turn(bounds.low), turn(bounds.high))

    low, high = both(wide, shape) or (None, None)
    return Change(
        baseline=centres[0],
        candidate=centres[1],
        effect=replace(
            nothing,
            value=shape(wide.value),
            low=low,
            high=high,
            method=effects.RECOVERED_VARIANCE if compared.scale == "points" else effects.WELCH + _of(compared),
            scale="log" if compared.scale == "ratio" else "identity",
            reason="" if low is not None else _no_interval(found.runs),
        ),
        difference=natural(wide.value),
        wide=both(wide, natural),
        narrow=both(narrow, natural),
        robust=_natural(effects.robust(before, after, level=level), shape),
    )


def _factor(logarithm: float) -> float:
    return math.exp(min(logarithm, _LARGEST_LOGARITHM))  # an interval of few runs may reach beyond all numbers


def _of(compared: Compared) -> str:
    return ", of logarithms" if compared.scale == "ratio" else ""


def _centre(found: Pair, side: Side) -> float | None:
    """Return the share, the mean, or for a ratio the geometric mean of a side's values."""
    if not len(side.known):
        return None
    if found.compared.scale == "points":
        return _share(found.compared, side, intervals.LEVEL).value
    if found.compared.scale == "ratio":
        return float(np.exp(np.log(side.known).mean()))
    return float(side.known.mean())


def _bounds(found: Pair, before: Floats, after: Floats, level: float) -> effects.Bounds:
    if found.compared.scale == "points":
        shares = [_share(found.compared, side, level) for side in (found.baseline, found.candidate)]
        return effects.difference_of(*shares)
    return effects.welch(before, after, resolution=found.resolution, level=level)


def _share(compared: Compared, side: Side, level: float) -> Estimate:
    share = analysis.availability if compared.metric == "availability_percent" else analysis.error_rate
    return share(side.runs, level)


def _natural(found: Robust, shape: Callable[[float], float]) -> Robust:
    low, high = (None if bound is None else shape(bound) for bound in (found.low, found.high))
    return replace(found, shift=shape(found.shift), low=low, high=high)


def _no_interval(runs: tuple[int, int]) -> str:
    return too_few(runs) if min(runs) < FEWEST_RUNS else "the runs do not differ at all: no spread can be estimated"


def too_few(runs: tuple[int, int]) -> str:
    """Say that so many runs of baseline and candidate are too few for an interval."""
    return f"{runs[0]} against {plural(runs[1], 'run')}: an interval needs at least {FEWEST_RUNS} on each side"


def as_fields(found: Robust | None) -> dict[str, Any] | None:
    """Return the distribution-free pair as a JSON object."""
    if found is None:
        return None
    names = ("shift", "low", "high", "level", "p", "least_p")
    return {name: getattr(found, name) for name in names}

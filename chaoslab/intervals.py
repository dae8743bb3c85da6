"""Estimates and the methods that make their intervals.

The unit of replication is the run: every function takes one value a run, because probes of one run hang together and
runs differ among themselves. Below three runs there is a value and no interval. Each method was chosen by its
measured coverage, which `chaoslab.study` measures again, from probes on.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Scale = Literal["identity", "log", "logit"]
Floats = NDArray[np.float64]

LEVEL: Final = 0.95
FEWEST_RUNS: Final = 3
"""Runs below which no interval over runs is given."""
MOST_REPEATS: Final = 10_000
"""Repeats beyond which nobody would wait: `repeats_to_clear` says None."""

LOGIT_T: Final = "logit delta-t over runs"
KORN_GRAUBARD: Final = "Korn–Graubard (Clopper–Pearson, design effect 1)"
RESTRICTED_MEAN: Final = "log delta-t on the restricted mean over runs"
GEOMETRIC_T: Final = "log-t over runs (geometric mean)"
PAIRED_T: Final = "t over paired differences of runs"
ORDER_STATISTICS: Final = "interpolated order statistics of runs (distribution-free)"

STRETCH: Final = 1.3
"""Factor on the far reach of intervals for means of what is skewed: durations, and shares of bad time.

Such a sample misses its rare long values more often than not, so that the plain interval lies too low 4 to 11 times in
a hundred and too high only once or twice. The factor was found by simulation (`chaoslab.study`): with 1.3 coverage is
93–97 % for exponential, Weibull (0.8, 1.5) and lognormal (σ 0.3, 0.6, 1.0) times alike, from 3 to 20 runs.
"""
FEWEST_FOR_MEDIAN: Final = 5
"""Runs below which the smallest and the largest of them do not hold the median in 93 of 100 cases (1 − 2¹⁻ⁿ)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number that travels with how it was made.

    `value` is None when there is nothing to estimate from, `low` and `high` are None when there is no interval
    that could be trusted; `reason` then says why, and otherwise what a reader must know beside the number. `n`
    counts runs, the unit of replication. `spread` is the standard deviation between runs on `scale`, which is what
    planning needs: the standard error on that scale is spread / √n. On the scale "logit" the number is a percentage
    p, and the scale is ln(p / (100 − p)).

    `trusted` is False where the interval rests on more than the runs show, as `reason` says.

    `censored` counts the runs in which what was timed had not happened when the probes ended, `horizon` is how far
    the probes saw. `trials` is the number of probes behind a proportion.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = LEVEL
    method: str
    n: int
    unit: str
    reason: str = ""
    scale: Scale = "identity"
    spread: float | None = None
    censored: int = 0
    horizon: float | None = None
    trials: int | None = None
    trusted: bool = True

    @property
    def unseen_percent(self) -> float | None:
        """How many of a hundred runs may show what none of these did (95 % bound); None without runs.

        It is 1 − 0.05^(1/n): no method knows of what it has not seen. Hanley & Lippman-Hand 1983, *JAMA* 249:1743.
        """
        return 100 * (1 - (1 - self.level) ** (1 / self.n)) if self.n else None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)

    def _repr_html_(self) -> str:
        from chaoslab import display, wording

        fields = {
            f"{100 * self.level:g} % interval": f"{wording.interval(self)} {self.unit}"
            if wording.interval(self)
            else "none",
            "method": self.method,
            "runs": self.n,
            "note": self.reason,
        }
        return display.card(wording.value(self), fields)


def not_measured(reason: str, *, unit: str, method: str = "none", n: int = 0) -> Estimate:
    """Return the estimate of what nothing was seen of."""
    return Estimate(value=None, method=method, n=n, unit=unit, reason=reason)


def proportion(part: ArrayLike, whole: ArrayLike, *, trials: int, unit: str = "%", level: float = LEVEL) -> Estimate:
    """Return the share of `part` in `whole`, in percent.

    The share is the ratio estimator Σ part / Σ whole; its variance is linearised over runs (Cochran 1977, *Sampling
    Techniques*, §6.4), and the interval is Student's t on the logit scale (Dean & Pagano 2015, *J. Survey Statistics
    and Methodology* 3:484), with its reach towards one half stretched by `STRETCH`. Where the runs do not differ at
    all, as when no probe failed, there is no spread to work with: `korn_graubard` then bounds the share by the number
    of probes, which is not to be trusted further than probes are independent.

    Args:
        part: failed probes, or seconds up, of each run.
        whole: all probes, or seconds watched, of each run; above zero.
        trials: probes of all runs together.

    >>> estimate = proportion([3, 9, 6], [100, 100, 100], trials=300)
    >>> round(estimate.value, 2), round(estimate.low, 2), round(estimate.high, 2)
    (6.0, 1.67, 26.24)
    """
    parts, wholes = _floats(part), _floats(whole)
    n = len(parts)
    if n == 0 or trials <= 0 or wholes.sum() <= 0:
        return not_measured("no probe to count", unit=unit, method=LOGIT_T, n=n)
    share = float(np.clip(parts.sum() / wholes.sum(), 0.0, 1.0))
    found = Estimate(value=100 * share, level=level, method=LOGIT_T, n=n, unit=unit, scale="logit", trials=trials)
    if n < FEWEST_RUNS:
        return replace(found, reason=_too_few(n))
    deviations = (parts - share * wholes) / wholes.mean()
    if share in (0.0, 1.0) or _alike(deviations):
        low, high = korn_graubard(share, trials=trials, runs=n, level=level)
        return replace(
            found,
            low=100 * low,
            high=100 * high,
            method=KORN_GRAUBARD,
            reason=_no_spread(share),
            trusted=False,
        )
    return _spanned(replace(found, spread=float(deviations.std(ddof=1)) / (share * (1 - share))))


def korn_graubard(share: float, *, trials: float, runs: int, level: float = LEVEL) -> tuple[float, float]:
    """Return Clopper–Pearson bounds on a share of probes that come in `runs`, with a design effect of 1.

    The number of probes is reduced for the few degrees of freedom that runs leave, by
    [t(trials − 1) / t(runs − 1)]². Korn & Graubard 1998, *Survey Methodology* 24:193; Clopper & Pearson 1934,
    *Biometrika* 26:404. With `runs` = `trials` this is Clopper–Pearson itself.

    >>> [round(bound, 4) for bound in korn_graubard(0.0, trials=1800, runs=3)]
    [0.0, 0.0098]
    """
    tail = (1 + level) / 2
    shrink = (special.stdtrit(max(trials - 1, 1), tail) / special.stdtrit(runs - 1, tail)) ** 2 if trials > 1 else 1.0
    effective = trials * min(1.0, float(shrink))
    hits = share * effective
    low = float(special.betaincinv(hits, effective - hits + 1, 1 - tail)) if share > 0 else 0.0
    high = float(special.betaincinv(hits + 1, effective - hits, tail)) if share < 1 else 1.0
    return low, high


def restricted_mean(
    durations: ArrayLike, censored: ArrayLike, *, event: str = "recovery", unit: str = "s", level: float = LEVEL
) -> Estimate:
    """Return the mean of `durations`, of which some are only known to be longer.

    It is the area under the Kaplan–Meier curve up to the longest duration, a lower bound of the mean as soon as
    the longest is censored. The variance is Kaplan and Meier's (1958, *JASA* 53:457, §6.1), with n / (n − 1) so that
    without censoring it is that of the mean; the interval is Student's t on the log scale, which durations of zero
    do not upset, as only the mean must be above zero, with its upper reach stretched by `STRETCH`. When nothing ended
    there is no number at all.

    Args:
        durations: seconds of each run, until `event` or until the probes ended.
        censored: whether `event` had not happened by then.
        event: what ends a duration, for the reader.

    >>> estimate = restricted_mean([3.0, 5.0, 4.0], [False, False, False])
    >>> round(estimate.value, 2), round(estimate.low, 2), round(estimate.high, 2)
    (4.0, 2.15, 8.97)
    """
    times, open_ = _floats(durations), np.asarray(censored, dtype=bool)
    found = _of_durations(times, open_, method=RESTRICTED_MEAN, scale="log", event=event, unit=unit, level=level)
    n, cut = found.n, found.censored
    if n == 0:
        return found
    if cut == n:
        return replace(found, reason=f"no {event} within {found.horizon:.3g} {unit} in any run")
    mean, variance = kaplan_meier_mean(times, open_)
    note = f"{cut} of {n} runs saw no {event} before the probes ended: the mean is at least this" if cut else ""
    found = replace(found, value=mean, reason=note)
    if n < FEWEST_RUNS:
        return replace(found, reason=_joined(note, _too_few(n)))
    if mean == 0 or _alike(times):
        return replace(found, reason=_joined(note, _all_alike(n)))
    return _spanned(replace(found, spread=math.sqrt(variance * n) / mean))


def median(
    durations: ArrayLike, censored: ArrayLike, *, event: str = "recovery", unit: str = "s", level: float = LEVEL
) -> Estimate:
    """Return the median of `durations`, of which some are only known to be longer.

    The interval asks nothing of the distribution: it lies between order statistics, interpolated to the level
    (Hettmansperger & Sheather 1986, *Statistics & Probability Letters* 4:75). Fewer than `FEWEST_FOR_MEDIAN` runs
    give none; with just as many the smallest and the largest are its bounds, and `level` is what they reach. A censored
    duration counts as at least its length below the median, and as endless above it: then there may be no upper bound,
    or no median.

    >>> estimate = median([3.0, 9.0, 4.0, 5.0, 7.0, 6.0], [False, True, False, False, False, False])
    >>> estimate.value, round(estimate.low, 2), estimate.high  # the largest is open, so there is no upper bound
    (5.5, 3.36, None)
    """
    times, open_ = _floats(durations), np.asarray(censored, dtype=bool)
    found = _of_durations(times, open_, method=ORDER_STATISTICS, scale="identity", event=event, unit=unit, level=level)
    n = found.n
    if n == 0:
        return found
    at_least, at_most = np.sort(times), np.sort(np.where(open_, np.inf, times))
    middle = float(np.median(at_most))
    if math.isinf(middle):
        return replace(found, reason=f"no {event} within {found.horizon:.3g} {unit} in half of the runs or more")
    found = replace(found, value=middle)
    if n < FEWEST_FOR_MEDIAN:
        return replace(found, reason=f"{_runs(n)}: an interval of a median needs at least {FEWEST_FOR_MEDIAN}")
    depth, share = _depth(n, level)
    low = _between(at_least, depth, share)
    high = _between(at_most[::-1], depth, share)
    reached = min(level, 1 - 2.0 ** (1 - n))
    return replace(found, low=low, high=high if math.isfinite(high) else None, level=reached)


def kaplan_meier_mean(durations: ArrayLike, censored: ArrayLike) -> tuple[float, float]:
    """Return the area under the Kaplan–Meier curve up to the longest duration, and its variance.

    >>> mean, variance = kaplan_meier_mean([1.0, 2.0, 3.0], [False, False, False])
    >>> round(mean, 6), round(variance, 6)  # the mean, and its squared standard error
    (2.0, 0.333333)
    """
    times, open_ = _floats(durations), np.asarray(censored, dtype=bool)
    n = len(times)
    ends, deaths = np.unique(times[~open_], return_counts=True)
    at_risk = n - np.searchsorted(np.sort(times), ends, side="left")
    survival = np.concatenate(([1.0], np.cumprod(1 - deaths / at_risk)))
    areas = survival * np.diff(np.concatenate(([0.0], ends, [times.max()])))
    beyond = areas.sum() - np.cumsum(areas)[:-1]
    left = at_risk > deaths  # where nobody is left, nothing lies beyond either
    terms = beyond[left] ** 2 * deaths[left] / (at_risk[left] * (at_risk[left] - deaths[left]))
    return float(areas.sum()), float(terms.sum()) * n / max(n - 1, 1)


def _of_durations(
    times: Floats, open_: NDArray[np.bool_], *, method: str, scale: Scale, event: str, unit: str, level: float
) -> Estimate:
    """Return what is known of durations before there is a number: how many, how many are open, how far one saw."""
    if not len(times):
        return not_measured(f"no {event} to time", unit=unit, method=method)
    cut = int(open_.sum())
    return Estimate(
        value=None,
        level=level,
        method=method,
        n=len(times),
        unit=unit,
        scale=scale,
        censored=cut,
        horizon=float(times[open_].min()) if cut else None,
    )


def _depth(n: int, level: float) -> tuple[int, float]:
    """Return between which order statistics from either end the bounds of a median lie, and how far from the outer.

    The d-th from either end hold the median with confidence 1 − 2·P(Bin(n, ½) < d); the interpolation is that of
    Hettmansperger and Sheather.
    """
    confidence = 1 - 2 * np.append(0.0, special.bdtr(np.arange(n // 2), n, 0.5))
    depth = max(1, int(np.flatnonzero(confidence >= level)[-1]))
    outer = float(confidence[depth])
    if depth == n // 2 or outer <= level:
        return depth, 0.0
    part = (outer - level) / (outer - float(confidence[depth + 1]))
    return depth, (n - depth) * part / (depth + (n - 2 * depth) * part)


def _between(ordered: Floats, depth: int, share: float) -> float:
    outer, inner = float(ordered[depth - 1]), float(ordered[depth])
    return outer if share == 0 or outer == inner else (1 - share) * outer + share * inner


def mean_log(values: ArrayLike, *, unit: str, level: float = LEVEL) -> Estimate:
    """Return the geometric mean of the runs' own `values` (all above zero), with Student's t on the log scale.

    For latency quantiles it is the typical run's quantile; for uncensored recovery times it estimates the median,
    which equals the geometric mean where times are lognormal.

    >>> estimate = mean_log([10.0, 20.0, 40.0], unit="ms")
    >>> round(estimate.value, 6), round(estimate.low, 2), round(estimate.high, 2)
    (20.0, 3.57, 111.9)
    """
    numbers = _floats(values)
    if len(numbers) == 0:
        return not_measured("no value in any run", unit=unit, method=GEOMETRIC_T)
    if numbers.min() <= 0:
        raise ValueError(f"a geometric mean needs values above zero, found {numbers.min():g}")
    return _student(np.log(numbers), method=GEOMETRIC_T, unit=unit, scale="log", level=level)


def mean_difference(differences: ArrayLike, *, unit: str, level: float = LEVEL) -> Estimate:
    """Return the mean of paired `differences`, one a run, with Student's t.

    >>> estimate = mean_difference([5.0, 7.0, 9.0], unit="ms")
    >>> round(estimate.value, 2), round(estimate.low, 2), round(estimate.high, 2)
    (7.0, 2.03, 11.97)
    """
    numbers = _floats(differences)
    if len(numbers) == 0:
        return not_measured("no pair in any run", unit=unit, method=PAIRED_T)
    return _student(numbers, method=PAIRED_T, unit=unit, scale="identity", level=level)


def repeats_to_clear(estimate: Estimate, threshold: float) -> int | None:
    """Return after how many runs the interval would lie on one side of `threshold`, centre and spread unchanged.

    None when that cannot be said: no spread is known, the centre lies on the threshold, or it would take more than
    `MOST_REPEATS` runs. Where nothing failed the bound shrinks with the number of probes instead.

    >>> repeats_to_clear(mean_difference([5.0, 7.0, 9.0], unit="ms"), 10.0)
    5
    """
    if estimate.value is None or estimate.n < 1:
        return None
    counts = np.arange(FEWEST_RUNS, MOST_REPEATS + 1)
    if estimate.method == KORN_GRAUBARD and estimate.trials:
        return _repeats_of_korn_graubard(estimate, threshold)
    if not estimate.spread:
        return None
    distance = forward(threshold, estimate.scale) - forward(estimate.value, estimate.scale)
    down, up = _stretches(estimate)
    reach = special.stdtrit(counts - 1, (1 + estimate.level) / 2) * estimate.spread / np.sqrt(counts)
    clear = counts[reach * (up if distance > 0 else down) < abs(distance)]
    return int(clear[0]) if len(clear) else None


def with_repeats(estimate: Estimate, n: int) -> Estimate:
    """Return `estimate` as it would be over `n` runs, centre and spread unchanged.

    Raises:
        ValueError: it has no value or no spread.

    >>> estimate = with_repeats(mean_difference([5.0, 7.0, 9.0], unit="ms"), 12)
    >>> round(estimate.value, 2), round(estimate.low, 2), round(estimate.high, 2)
    (7.0, 5.73, 8.27)
    """
    if estimate.value is None or estimate.spread is None:
        raise ValueError(f"the estimate has no spread to work with: {estimate.reason}")
    return _spanned(replace(estimate, n=n))


def _repeats_of_korn_graubard(estimate: Estimate, threshold: float) -> int | None:
    share, limit = (estimate.value or 0.0) / 100, threshold / 100
    each = (estimate.trials or 0) / estimate.n
    most = 1000  # bounds shrink like 1/n: what a thousand runs do not settle, more hardly will

    def clears(runs: int) -> bool:
        low, high = korn_graubard(share, trials=each * runs, runs=runs, level=estimate.level)
        return high < limit if share < limit else low > limit

    if share == limit or not clears(most):
        return None
    below, above = FEWEST_RUNS - 1, most
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if clears(middle) else (middle, above)
    return above


def _student(numbers: Floats, *, method: str, unit: str, scale: Scale, level: float) -> Estimate:
    n = len(numbers)
    centre = float(numbers.mean())
    found = Estimate(value=back(centre, scale), level=level, method=method, n=n, unit=unit, scale=scale)
    if n < FEWEST_RUNS:
        return replace(found, reason=_too_few(n))
    if _alike(numbers):
        return replace(found, reason=_all_alike(n))
    return _spanned(replace(found, spread=float(numbers.std(ddof=1))))


def _spanned(found: Estimate) -> Estimate:
    """Return `found`, which has a value and a spread, with Student's t interval on its scale."""
    assert found.value is not None
    assert found.spread is not None
    reach = float(special.stdtrit(found.n - 1, (1 + found.level) / 2)) * found.spread / math.sqrt(found.n)
    centre = forward(found.value, found.scale)
    down, up = _stretches(found)
    low, high = back(centre - down * reach, found.scale), back(centre + up * reach, found.scale)
    return replace(found, low=low, high=high)


def _stretches(estimate: Estimate) -> tuple[float, float]:
    """Return the factors on the lower and the upper reach of the interval, on the estimate's scale."""
    if estimate.method == RESTRICTED_MEAN:
        return 1.0, STRETCH
    if estimate.method == LOGIT_T:
        return (1.0, STRETCH) if (estimate.value or 0.0) < 50 else (STRETCH, 1.0)
    return 1.0, 1.0


def forward(value: float, scale: Scale) -> float:
    """Return `value` on `scale`; the ends of the scale are infinite.

    >>> forward(50.0, "logit"), forward(100.0, "logit")
    (0.0, inf)
    """
    if scale == "identity":
        return value
    odds = value / (100 - value) if scale == "logit" and value < 100 else value
    if scale == "logit" and value >= 100:
        return math.inf
    return math.log(odds) if odds > 0 else -math.inf


def back(value: float, scale: Scale) -> float:
    """Return the value that lies at `value` on `scale`.

    >>> back(0.0, "logit"), back(0.0, "log")
    (50.0, 1.0)
    """
    if scale == "identity":
        return value
    if scale == "log":
        return math.exp(min(value, 700.0))
    return 100 / (1 + math.exp(min(-value, 700.0)))


def _floats(values: ArrayLike) -> Floats:
    numbers = np.asarray(values, dtype=float)
    if not np.isfinite(numbers).all():
        raise ValueError("values must be finite; leave out the runs that have none")
    return numbers


def _alike(numbers: Floats) -> bool:
    """Whether the values differ by no more than rounding: there is no spread to estimate."""
    return bool(np.ptp(numbers) <= 1e-12 * max(1.0, float(np.abs(numbers).max())))


def _runs(n: int) -> str:
    return f"{n} run{'' if n == 1 else 's'}"


def _too_few(n: int) -> str:
    return f"{_runs(n)}: an interval over runs needs at least {FEWEST_RUNS}"


def _all_alike(n: int) -> str:
    return f"all {n} runs gave the same value: their spread cannot be estimated"


def _no_spread(share: float) -> str:
    seen = f"{share:.0%} in every run".replace("%", " %") if share in (0.0, 1.0) else "the same share in every run"
    return f"{seen}: the bound takes probes as independent"


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)

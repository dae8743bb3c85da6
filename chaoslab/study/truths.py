"""Processes with known truth, and the rows that a prober would have recorded of them.

Instants are seconds since the run's own start until they become rows. Phases are those of a run: a baseline, an
injection at whose start the fault strikes, and a recovery.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, signal, stats

from chaoslab.records import Dose, ErrorKind, Event, Outcome, RunState

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Columns = Mapping[str, Any]

RATE_HZ: Final = 20.0
BASELINE_SECONDS: Final = 5.0
MEAN_OUTAGE_SECONDS: Final = 4.0
_STEP: Final = 1 / RATE_HZ
_USUAL_LATENCY: Final = 0.010
_REFUSED_AFTER: Final = 0.001
_REQUIRED: Final = 3
_SLACK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The probes and events of one run."""

    probes: Columns
    events: Columns
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Lengths of the three phases of a run, in seconds."""

    injection: float
    recovery: float
    baseline: float = BASELINE_SECONDS

    @property
    def ends(self) -> tuple[float, float, float]:
        """When each phase ends."""
        return self.baseline, self.baseline + self.injection, self.baseline + self.injection + self.recovery


class Truth(ABC):
    """A process whose metrics are known.

    Attributes:
        family: "availability", "recovery" or "latency".
        frontier: why no method can be expected to cover here, or empty.
    """

    family: str
    frontier: str = ""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is, in words."""

    @property
    @abstractmethod
    def values(self) -> Mapping[str, float]:
        """The true value of each estimate that the process has one of, by the names in `analysis.ESTIMATES`."""

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Recording:
        """Return one run."""


# Outages


@dataclass(frozen=True, kw_only=True)
class Outage(Truth):
    """The fault takes the service down at once; how long it stays down is drawn for each run.

    With `censored`, the probes end so early that this share of the runs does not see the recovery. `share` is that of
    the runs that have an outage at all.
    """

    label: str
    durations: Any  # a frozen scipy distribution
    censored: float = 0.0
    share: float = 1.0
    frontier: str = ""
    family: str = "recovery"

    @property
    def name(self) -> str:
        """What it is."""
        seen = f", {self.censored:.0%} censored".replace("%", " %") if self.censored else ""
        rare = f", in {self.share:.0%} of the runs".replace("%", " %") if self.share < 1 else ""
        return f"one outage, {self.label}{seen}{rare}"

    @property
    def values(self) -> Mapping[str, float]:
        """Restricted means to the end of the probes, and shares of the injection (which censoring leaves too short)."""
        within = self.share * self._restricted(self._injection)
        bad = 100 * within / self._injection
        shares = {"error_rate_percent": bad, "availability_percent": 100 - bad, "downtime_seconds": within}
        if self.share < 1:
            return shares
        mean, median = self._restricted(self._horizon), float(self.durations.ppf(0.5))
        times = dict.fromkeys(("mttr_seconds", "recovery_time_seconds", "first_success_seconds"), mean)
        medians = dict.fromkeys(("mttr_median_seconds", "recovery_time_median_seconds"), median)
        return times | {"longest_outage_seconds": mean} | medians | ({} if self.censored else shares)

    @property
    def _horizon(self) -> float:
        return float(self.durations.ppf(1 - self.censored)) if self.censored else np.inf

    @property
    def _injection(self) -> float:
        return min(20.0, self._horizon / 2)

    def _restricted(self, horizon: float) -> float:
        """The mean of min(duration, horizon): the area under the survival function."""
        if np.isinf(horizon):
            return float(self.durations.mean())
        return float(integrate.quad(self.durations.sf, 0, horizon, limit=200)[0])

    def draw(self, generator: np.random.Generator) -> Recording:
        """Return one run."""
        lasts = float(self.durations.rvs(random_state=generator))
        if generator.random() >= self.share:
            lasts = 0.0
        # The probes go on until recovery is confirmed, except where they are to end before it.
        seen = min(self._horizon, max(self._injection, lasts) + _SLACK_SECONDS)
        phases = Phases(injection=self._injection, recovery=seen - self._injection)
        late = generator.uniform(0, _STEP)  # the fault and the schedule know nothing of each other
        began = BASELINE_SECONDS + late
        scheduled = _schedule(BASELINE_SECONDS + late + seen)
        down = (scheduled >= began) & (scheduled < began + lasts)
        return _recording(phases, scheduled, _latencies(generator, down), ~down, fault_at=began, late=late)


@dataclass(frozen=True, kw_only=True)
class Bursts(Truth):
    """A service that goes down and comes back by itself, all the time: exponential times up and down, in seconds."""

    up: float
    down: float
    family: str = "availability"
    frontier: str = ""

    @property
    def name(self) -> str:
        """What it is."""
        return f"alternating, up {self.up:g} s, down {self.down:g} s"

    @property
    def values(self) -> Mapping[str, float]:
        """Shares of the long run."""
        bad = 100 * self.down / (self.up + self.down)
        return {"error_rate_percent": bad, "availability_percent": 100 - bad}

    def draw(self, generator: np.random.Generator) -> Recording:
        """Return one run."""
        phases, scheduled = _watched()
        first_down = generator.random() < self.down / (self.up + self.down)
        count = 8 + int(4 * phases.ends[2] / min(self.up, self.down))
        means = np.resize([self.down, self.up] if first_down else [self.up, self.down], count)
        turns = np.cumsum(generator.exponential(means))
        down = (np.searchsorted(turns, scheduled, side="right") % 2 == 0) == first_down
        return _recording(phases, scheduled, _latencies(generator, down), ~down)


@dataclass(frozen=True, kw_only=True)
class Independent(Truth):
    """Every request fails by itself, with the same chance."""

    percent: float
    family: str = "availability"
    frontier: str = ""

    @property
    def name(self) -> str:
        """What it is."""
        return f"independent errors, {self.percent:g} %"

    @property
    def values(self) -> Mapping[str, float]:
        """The error rate."""
        return {"error_rate_percent": self.percent}

    def draw(self, generator: np.random.Generator) -> Recording:
        """Return one run."""
        phases, scheduled = _watched()
        failed = generator.random(len(scheduled)) < self.percent / 100
        return _recording(phases, scheduled, _latencies(generator, failed), ~failed)


# Latency


@dataclass(frozen=True, kw_only=True)
class Latency(Truth):
    """Latencies that hang together within a run, and runs that differ.

    The logarithm is a Gaussian AR(1) with `correlation` from probe to probe; with `heavy`, the slowest 2 % follow a
    Pareto law (exponent 2.5). Each run has a level of its own: lognormal with `spread`, or with `drift` anywhere in a
    band of that relative width, as where the machine drifts while runs come in random order. The injection is
    `SLOWER` times as slow as the baseline. The truth is the typical run's: the geometric mean over levels.
    """

    correlation: float = 0.0
    spread: float = 0.0
    drift: float = 0.0
    heavy: bool = False
    family: str = "latency"
    frontier: str = ""

    SLOWER: Final = 1.5
    _SIGMA: Final = 0.3
    _TAIL: Final = 0.02
    _EXPONENT: Final = 2.5

    @property
    def name(self) -> str:
        """What it is."""
        levels = f"drift {self.drift:.0%}" if self.drift else f"spread {self.spread:.0%}"
        tail = ", heavy tail" if self.heavy else ""
        return f"correlation {self.correlation:g}, {levels}{tail}".replace("%", " %")

    @property
    def values(self) -> Mapping[str, float]:
        """Quantiles of both phases, and their difference at p95."""
        known = {
            f"latency_{phase}_{quantile}_ms": 1e3 * factor * _USUAL_LATENCY * self._quantile(q)
            for phase, factor in (("baseline", 1.0), ("injection", self.SLOWER))
            for quantile, q in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
        }
        growth = known["latency_injection_p95_ms"] - known["latency_baseline_p95_ms"]
        return known | {"latency_degradation_ms": growth * self._mean_level}

    @property
    def _mean_level(self) -> float:
        """Mean level over its geometric mean: a difference is a mean over runs, not a geometric one."""
        if not self.drift:
            return float(np.exp(self.spread**2 / 2))
        low, high = 1 - self.drift / 2, 1 + self.drift / 2
        mean_log = (high * np.log(high) - low * np.log(low)) / self.drift - 1
        return float(1 / np.exp(mean_log))

    def _quantile(self, q: float) -> float:
        body = float(np.exp(self._SIGMA * stats.norm.ppf(min(q, 1 - self._TAIL) if self.heavy else q)))
        if not self.heavy or q <= 1 - self._TAIL:
            return body
        return float(body * ((1 - q) / self._TAIL) ** (-1 / self._EXPONENT))

    def draw(self, generator: np.random.Generator) -> Recording:
        """Return one run."""
        phases = Phases(injection=30.0, recovery=5.0, baseline=10.0)
        scheduled = _schedule(phases.ends[2])
        latency = _USUAL_LATENCY * self._level(generator) * self._shape(generator, len(scheduled))
        injected, reverted, _ = phases.ends
        latency = np.where((scheduled >= injected) & (scheduled < reverted), self.SLOWER * latency, latency)
        return _recording(phases, scheduled, latency, np.ones(len(scheduled), dtype=bool))

    def _level(self, generator: np.random.Generator) -> float:
        """Draw a run's level, of geometric mean 1."""
        if self.drift:
            low, high = 1 - self.drift / 2, 1 + self.drift / 2
            return float(generator.uniform(low, high) * self._mean_level)
        return float(np.exp(self.spread * generator.standard_normal()))

    def _shape(self, generator: np.random.Generator, count: int) -> Floats:
        settled = count + int(20 / (1 - self.correlation))
        noise = generator.standard_normal(settled) * np.sqrt(1 - self.correlation**2)
        gaussian = signal.lfilter([1.0], [1.0, -self.correlation], noise)[-count:]
        latency: Floats = np.exp(self._SIGMA * gaussian)
        if self.heavy:
            above = stats.norm.sf(gaussian)
            slow = above < self._TAIL
            edge = np.exp(self._SIGMA * stats.norm.isf(self._TAIL))
            latency[slow] = edge * (above[slow] / self._TAIL) ** (-1 / self._EXPONENT)
        return latency


# The grid


class Bimodal:
    """Half of the durations are `ratio` times as long as the other half, each lognormal (σ 0.3)."""

    def __init__(self, mean: float, ratio: float) -> None:
        short = 2 * mean / (1 + ratio)
        self._modes = [stats.lognorm(0.3, scale=mode * np.exp(-0.045)) for mode in (short, ratio * short)]
        self._mean = mean

    def mean(self) -> float:
        """Return the mean."""
        return self._mean

    def sf(self, x: float) -> float:
        """Return the share of longer durations."""
        return float(sum(mode.sf(x) for mode in self._modes) / 2)

    def ppf(self, q: float) -> float:
        """Return the quantile."""
        low, high = self._modes[0].ppf(q / 2), self._modes[1].ppf(1 - (1 - q) / 2)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if 1 - self.sf(middle) < q else (low, middle)
        return float(low)

    def rvs(self, random_state: np.random.Generator) -> float:
        """Draw one."""
        return float(self._modes[int(random_state.random() < 0.5)].rvs(random_state=random_state))


def lognormal(mean: float, sigma: float) -> Any:
    """Return the lognormal distribution with this mean."""
    return stats.lognorm(sigma, scale=mean * np.exp(-(sigma**2) / 2))


def weibull(mean: float, shape: float) -> Any:
    """Return the Weibull distribution with this mean."""
    return stats.weibull_min(shape, scale=mean / stats.weibull_min(shape).mean())


def grid() -> tuple[Truth, ...]:
    """Return every process of the study."""
    mean = MEAN_OUTAGE_SECONDS
    durations = {
        "exponential": stats.expon(scale=mean),
        "lognormal σ 0.3": lognormal(mean, 0.3),
        "lognormal σ 0.6": lognormal(mean, 0.6),
        "lognormal σ 1.0": lognormal(mean, 1.0),
        "Weibull 0.8": weibull(mean, 0.8),
        "Weibull 1.5": weibull(mean, 1.5),
        "bimodal 1 : 3": Bimodal(mean, 3.0),
    }
    unseen = "three or four runs may all fall into one mode, and then nothing tells of the other"
    outages = [
        Outage(label=label, durations=one, censored=censored, frontier=unseen if label.startswith("bimodal") else "")
        for label, one in durations.items()
        for censored in (0.0, 0.15)
    ]
    rare = [
        Outage(
            label="exponential",
            durations=durations["exponential"],
            share=share,
            family="availability",
            frontier="no run may show an outage, and the bound then takes probes as independent",
        )
        for share in (0.5, 0.2)
    ]
    together = "a run is worth fewer independent latencies than the quantile takes"
    return (
        *(Independent(percent=percent) for percent in (0.5, 2.0, 10.0)),
        *(Bursts(up=up, down=down) for up, down in ((27.0, 3.0), (9.0, 1.0), (5.0, 5.0))),
        *rare,
        *outages,
        *(
            Latency(correlation=correlation, spread=spread, heavy=heavy, frontier=together if correlation > 0.9 else "")
            for correlation in (0.0, 0.7, 0.95)
            for spread in (0.0, 0.1)
            for heavy in (False, True)
        ),
        Latency(correlation=0.7, drift=0.4),
    )


# Rows


def _watched() -> tuple[Phases, Floats]:
    """Return the phases of a service that fails by itself, whatever is injected, and the schedule of its probes."""
    phases = Phases(injection=30.0, recovery=5.0)
    return phases, _schedule(phases.ends[2])


def _schedule(seconds: float) -> Floats:
    return np.arange(int(seconds * RATE_HZ), dtype=np.float64) * _STEP


def _latencies(generator: np.random.Generator, failed: Bools) -> Floats:
    usual = _USUAL_LATENCY * np.exp(0.2 * generator.standard_normal(len(failed)))
    return np.where(failed, _REFUSED_AFTER, usual)


def _recording(
    phases: Phases, scheduled: Floats, latency: Floats, good: Bools, *, fault_at: float | None = None, late: float = 0.0
) -> Recording:
    """Return the rows; the fault strikes `late` after the injection begins, and the run is as much longer."""
    injected, reverted, finished = (end + late for end in phases.ends)
    over = reverted if fault_at is None else fault_at
    happened: list[tuple[float, Event, Mapping[str, Any]]] = [
        (0.0, Event.BASELINE_STARTED, {}),
        (injected, Event.STEADY_STATE, {"steady": True, "reason": ""}),
        (injected, Event.INJECTION_STARTED, {"mechanism": "known truth"}),
        (over, Event.FAULT_OVER, {}),
        (reverted, Event.RECOVERY_STARTED, {}),
        (finished, Event.DOSE, asdict(_DOSE)),
        (finished, Event.RUN_FINISHED, {"state": RunState.COMPLETED, "reason": ""}),
    ]
    happened.sort(key=lambda row: row[0])
    count = len(scheduled)
    return Recording(
        probes={
            "seq": np.arange(count),
            "probe": ["health"] * count,
            "scheduled_us": _us(scheduled),
            "sent_us": np.full(count, 50),
            "latency_us": _us(latency),
            "status": [200 if well else None for well in good],
            "outcome": [Outcome.SUCCESS if well else Outcome.FAILURE for well in good],
            "error": [None if well else ErrorKind.REFUSED for well in good],
        },
        events={
            "at_us": [round(at * 1e6) for at, _, _ in happened],
            "event": [event for _, event, _ in happened],
            "step": [""] * len(happened),
            "detail": [json.dumps(detail) for _, _, detail in happened],
        },
        seconds=finished,
    )


def _us(seconds: Floats) -> Any:
    return np.round(seconds * 1e6).astype(np.int64)


_DOSE: Final = Dose(
    quantity="known truth", unit="1", asked=1.0, delivered=1.0, low=0.9, high=1.1, how="drawn", mechanism="known truth"
)

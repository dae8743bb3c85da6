"""An analysis in Prometheus' text exposition format; what was not measured is NaN, never 0.

Names are kept from the script suite, so a few are not what `promtool check metrics` would choose (docs/monitoring.md).
Two of them end like a counter's and a histogram's: they are untyped, since they are neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import UntypedMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis, ScenarioResult

LABELS: Final = ("scenario", "type", "intensity")
"""Labels of every metric of a scenario; those of the campaign have none."""

_ESTIMATES: Final = {
    "chaos_mttr_seconds": ("mttr_seconds", "Mean time to recovery of an outage"),
    "chaos_error_rate_percent": ("error_rate_percent", "Failed probes during injection"),
    "chaos_availability_percent": ("availability_percent", "Availability during injection"),
    "chaos_latency_degradation_ms": ("latency_degradation_ms", "Latency during injection above that of the baseline"),
    "chaos_recovery_time_seconds": ("recovery_time_seconds", "Time to full operation after the fault was over"),
    "chaos_downtime_seconds": ("downtime_seconds", "Downtime during one injection"),
}

_SIDES: Final = (
    ("", "value", ""),
    ("_ci_low", "low", ", low end of its 95 % interval"),
    ("_ci_high", "high", ", high end of its 95 % interval"),
)

_PASSED: Final = {"pass": 1.0, "fail": 0.0, "inconclusive": math.nan}


def render(analysis: Analysis) -> str:
    """Return the metrics of `analysis`; equal analyses give equal text."""
    registry = registry_of(analysis)
    text: bytes = generate_latest(registry)
    return text.decode()


def registry_of(analysis: Analysis) -> CollectorRegistry:
    """Return a registry that holds the metrics of `analysis`, for the text format or for a Pushgateway."""
    registry = CollectorRegistry()
    _estimates(analysis, registry)
    _judgements(analysis, registry)
    outcomes = [result.outcome for result in analysis.scenarios]
    registry.register(_Untyped("chaos_scenarios_total", "Scenarios in the campaign", {(): len(outcomes)}))
    totals = {
        "chaos_scenarios_successful": ("Scenarios whose every blocking objective passed", outcomes.count("pass")),
        "chaos_scenarios_failed": ("Scenarios with a blocking objective that failed", outcomes.count("fail")),
        "chaos_campaign_finished_timestamp_seconds": (
            "When the campaign ended, in Unix time, NaN if it did not",
            _unix_time(analysis.campaign.get("finished_at")),
        ),
    }
    for name, (help_text, value) in totals.items():
        Gauge(name, help_text, registry=registry).set(value)
    return registry


class _Untyped(Collector):
    """A metric without a type: its value for each tuple of the values of `LABELS`, or for none."""

    def __init__(self, name: str, help_text: str, values: dict[tuple[str, ...], float]) -> None:
        self._name = name
        self._help = help_text
        self._values = values

    def collect(self) -> Iterator[UntypedMetricFamily]:
        family = UntypedMetricFamily(self._name, self._help, labels=LABELS if any(self._values) else ())
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


def _unix_time(moment: Any) -> float:
    with suppress(ValueError):
        return datetime.fromisoformat(moment or "").timestamp()
    return math.nan


def _labels(result: ScenarioResult) -> tuple[str, str, str]:
    return (result.name, result.type, result.intensity)


def _estimates(analysis: Analysis, registry: CollectorRegistry) -> None:
    for name, (metric, help_text) in _ESTIMATES.items():
        for suffix, side, words in _SIDES:
            gauge = Gauge(f"{name}{suffix}", f"{help_text}{words}", LABELS, registry=registry)
            for result in analysis.scenarios:
                value = getattr(result.estimates[metric], side)
                gauge.labels(*_labels(result)).set(math.nan if value is None else value)


def _judgements(analysis: Analysis, registry: CollectorRegistry) -> None:
    passed = Gauge(
        "chaos_slo_passed",
        "1 if every blocking objective passed, 0 if one failed, NaN if that is inconclusive",
        LABELS,
        registry=registry,
    )
    violations: dict[tuple[str, ...], float] = {}
    for result in analysis.scenarios:
        blocking = [verdict for verdict in result.verdicts if verdict.slo.severity == "blocking"]
        violations[_labels(result)] = sum(verdict.outcome == "fail" for verdict in blocking)
        passed.labels(*_labels(result)).set(_PASSED[result.outcome])
    registry.register(_Untyped("chaos_slo_violations_count", "Blocking objectives that failed", violations))

"""An analysis in Prometheus' text exposition format; what was not measured is NaN, never 0."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis, ScenarioResult
    from chaoslab.scenario import Metric

_LABELS: Final = ("scenario", "type", "intensity")

_ESTIMATES: Final[dict[str, tuple[Metric, str]]] = {
    "chaos_mttr_seconds": ("mttr_seconds", "Mean time to recovery of an outage"),
    "chaos_error_rate_percent": ("error_rate_percent", "Failed probes during injection"),
    "chaos_availability_percent": ("availability_percent", "Availability during injection"),
    "chaos_latency_degradation_ms": ("latency_degradation_ms", "Latency during injection above that of the baseline"),
    "chaos_recovery_time_seconds": ("recovery_time_seconds", "Time to full operation after the fault was over"),
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
    totals = {
        "chaos_scenarios_total": ("Scenarios in the campaign", len(outcomes)),
        "chaos_scenarios_successful": ("Scenarios whose every blocking objective passed", outcomes.count("pass")),
        "chaos_scenarios_failed": ("Scenarios with a blocking objective that failed", outcomes.count("fail")),
    }
    for name, (help_text, value) in totals.items():
        Gauge(name, help_text, registry=registry).set(value)
    return registry


def _labels(result: ScenarioResult) -> tuple[str, str, str]:
    return (result.name, result.type, result.intensity)


def _estimates(analysis: Analysis, registry: CollectorRegistry) -> None:
    for name, (metric, help_text) in _ESTIMATES.items():
        for suffix, side, words in _SIDES:
            gauge = Gauge(f"{name}{suffix}", f"{help_text}{words}", _LABELS, registry=registry)
            for result in analysis.scenarios:
                value = getattr(result.estimates[metric], side)
                gauge.labels(*_labels(result)).set(math.nan if value is None else value)


def _judgements(analysis: Analysis, registry: CollectorRegistry) -> None:
    passed = Gauge(
        "chaos_slo_passed",
        "1 if every blocking objective passed, 0 if one failed, NaN if that is inconclusive",
        _LABELS,
        registry=registry,
    )
    violations = Gauge("chaos_slo_violations_count", "Blocking objectives that failed", _LABELS, registry=registry)
    for result in analysis.scenarios:
        blocking = [verdict for verdict in result.verdicts if verdict.slo.severity == "blocking"]
        failed = sum(verdict.outcome == "fail" for verdict in blocking)
        passed.labels(*_labels(result)).set(_PASSED[result.outcome])
        violations.labels(*_labels(result)).set(failed)

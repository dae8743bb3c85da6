"""network_latency: each packet, or chunk, takes longer on its way to the target.

Dose: how much longer requests take that really cross the fault, against the same just before it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from chaoslab.faults.base import Injection, Mechanism, Reading, Surroundings
from chaoslab.faults.netem import NetemLatency
from chaoslab.faults.through_proxy import ThroughProxy
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import AnyScenario, NetworkLatency

_EFFECT_SHARE = 0.7


def added_ms(readings: Sequence[Reading]) -> float | None:
    """Return by how much the last reading's round trip is longer than the first one's, in ms."""
    before, now = readings[0].data.get("rtt_ms"), readings[-1].data.get("rtt_ms")
    return None if before is None or now is None else float(now) - float(before)


def delay_injection(scenario: NetworkLatency, mechanism: str, steps: tuple[Step, ...]) -> Injection:
    """Return the injection of a delay whose last step's evidence is `chaoslab.faults.crossing`."""
    asked = scenario.parameters.delay_ms

    def took_effect(readings: Sequence[Reading]) -> bool:
        added = added_ms(readings)
        return added is not None and added >= _EFFECT_SHARE * asked

    def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
        return (
            Dose(
                quantity="delay added",
                unit="ms",
                asked=asked,
                delivered=added_ms(readings),
                low=asked * 0.95 - 2.0,
                # Above, what the target and this machine add under load is in it too.
                high=asked * 1.10 + 5.0,
                how="median round trip of requests that cross the fault, against the same just before it",
                mechanism=mechanism,
            ),
        )

    return Injection(mechanism=mechanism, steps=steps, took_effect=took_effect, doses=doses)


class ProxyDelay(ThroughProxy):
    """The proxy holds each chunk back."""

    name = "tcp proxy"

    def inject(self, scenario: AnyScenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert isinstance(scenario, NetworkLatency)
        assert where.route is not None
        delay = f"{scenario.parameters.delay_ms:g}"
        host, port = where.route.connect_to
        evidence = (sys.executable, "-m", "chaoslab.faults.crossing", where.url, "--to", f"{host}:{port}")
        step = self.toxic(f"delay of {delay} ms", ("--delay-ms", delay), evidence, where, seconds)
        return delay_injection(scenario, self.name, (step,))


MECHANISMS: tuple[Mechanism, ...] = (NetemLatency(), ProxyDelay())

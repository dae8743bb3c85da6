"""Network faults by the TCP proxy: the way that needs no privileges."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

from chaoslab.faults.base import MARGIN_SECONDS, Injection, Mechanism, Obstacle, Reading, Route, Surroundings
from chaoslab.faults.traffic import NetworkLatency, PacketLoss, chance, delay_injection
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Scenario

_PROXY = (sys.executable, "-m", "chaoslab.agent.proxy")
_PORTS = {"http": 80, "https": 443}


class ThroughProxy(Mechanism):
    """A mechanism whose probes take a proxy to the target for the whole run."""

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        return None

    def route(self, where: Surroundings, *, seconds: float, token: str) -> Route:
        parts = urlsplit(where.url)
        upstream = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
        port = _free_port()
        own, limit = f"{token}-proxy", ("--seconds", f"{seconds:g}")
        step = Step(
            name=f"proxy to {upstream}",
            do=(*_PROXY, "serve", own, *("--listen", f"127.0.0.1:{port}"), *("--upstream", upstream), *limit),
            undo=(sys.executable, "-m", "chaoslab.agent.processes", "end", own),
            token=own,
            deadline=seconds,
            holds=True,
        )
        return Route(connect_to=("127.0.0.1", port), step=step)

    def toxic(
        self, name: str, options: tuple[str, ...], evidence: tuple[str, ...], where: Surroundings, seconds: float
    ) -> Step:
        """Return the step that sets a toxic on the route's proxy; the proxy's end is also the toxic's."""
        assert where.route is not None
        proxy = where.route.step.token
        return Step(
            name=name,
            do=(*_PROXY, "set", proxy, *options),
            undo=(*_PROXY, "clear", proxy),
            evidence=evidence,
            token=f"{proxy}-toxic",
            deadline=seconds + MARGIN_SECONDS,
        )


class ProxyDelay(ThroughProxy):
    """The proxy holds each chunk back."""

    name = "tcp proxy"

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert isinstance(scenario, NetworkLatency)
        assert where.route is not None
        delay = f"{scenario.parameters.delay_ms:g}"
        host, port = where.route.connect_to
        evidence = (sys.executable, "-m", "chaoslab.agent.crossing", where.url, "--to", f"{host}:{port}")
        step = self.toxic(f"delay of {delay} ms", ("--delay-ms", delay), evidence, where, seconds)
        return delay_injection(scenario, self.name, (step,))


class EmulatedLoss(ThroughProxy):
    """The proxy stalls chunks as TCP does when a packet is lost."""

    name = "tcp proxy, loss emulated as retransmission stalls"

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert isinstance(scenario, PacketLoss)
        asked = scenario.parameters.loss_percent
        options = ("--loss-percent", f"{asked:g}", "--seed", str(where.seed))
        step = self.toxic(f"emulated loss of {asked:g} %", options, stats_command(where), where, seconds)

        def took_effect(readings: Sequence[Reading]) -> bool:
            return bool(readings[-1].data.get("loss") and readings[-1].data["chunks"])

        def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
            count, stalled = (int(readings[-1].data.get(name, 0)) for name in ("chunks", "stalled"))
            low, high = chance(asked / 100, count)
            return (
                Dose(
                    quantity="loss, emulated",
                    unit="%",
                    asked=asked,
                    delivered=100 * stalled / count if count else None,
                    low=100 * low,
                    high=100 * high,
                    how=f"stalled {stalled} of {count} chunks that passed the proxy; 99 % binomial interval",
                    mechanism=self.name,
                ),
            )

        return Injection(mechanism=self.name, steps=(step,), took_effect=took_effect, doses=doses)


def stats_command(where: Surroundings) -> tuple[str, ...]:
    """Return the command that prints how the toxics of the route's proxy stand."""
    assert where.route is not None
    return (*_PROXY, "stats", where.route.step.token)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

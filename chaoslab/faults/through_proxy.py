"""Network faults by the proxy in front of the target: the way that needs no privileges."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from chaoslab.faults.base import MARGIN_SECONDS, Injection, Mechanism, Obstacle, Reading, Route, Surroundings
from chaoslab.faults.traffic import NetworkLatency, PacketLoss, chance, delay_injection
from chaoslab.journal import Step
from chaoslab.looks import THROUGH_PROXY
from chaoslab.records import Dose
from chaoslab.scenario import Parameters, Scenario

PROXY = (sys.executable, "-m", "chaoslab.agent.proxy")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Toxic:
    """A toxic to be set on a route's proxy: its kind, its name there, and the options that say what it does."""

    kind: str
    name: str
    options: tuple[str, ...]


class ThroughProxy(Mechanism):
    """A mechanism whose probes take a proxy to the target for the whole run.

    `carries` has the parameters that it can deliver, each with the option that sets it; None: it need not be told.
    """

    only_here = True
    carries: ClassVar[Mapping[str, str | None]] = {}

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if scenario is None:
            return None
        asked = set(_dose(scenario)) - set(Parameters.model_fields) - set(self.carries)
        if asked:
            return Obstacle(f"the proxy cannot deliver {', '.join(sorted(asked))}")
        if THROUGH_PROXY in where.features:
            return Obstacle(
                "the health check goes through a proxy of yours, and would not come by the one that this fault needs",
                "take monitoring.health_check.proxy away",
            )
        return None

    def options(self, scenario: Scenario) -> tuple[str, ...]:
        """Return the options of the toxic that delivers what the scenario asks for."""
        asked = _dose(scenario)
        given = ((option, asked[name]) for name, option in self.carries.items() if option and name in asked)
        return tuple(word for option, value in given for word in (option, f"{value:g}"))

    def route(self, where: Surroundings, *, seconds: float, token: str) -> Route:
        parts = urlsplit(where.url)
        upstream = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
        port = _free_port()
        own, limit = f"{token}-proxy", ("--seconds", f"{seconds:g}")
        step = Step(
            name=f"proxy to {upstream}",
            do=(*PROXY, "serve", own, *("--listen", f"127.0.0.1:{port}"), *("--upstream", upstream), *limit),
            undo=(sys.executable, "-m", "chaoslab.agent.processes", "end", own),
            token=own,
            deadline=seconds,
            holds=True,
            touches={"listens": f"127.0.0.1:{port}", "upstream": upstream, "processes_of": own},
        )
        return Route(connect_to=("127.0.0.1", port), step=step)

    def step(self, name: str, toxic: Toxic, evidence: tuple[str, ...], where: Surroundings, seconds: float) -> Step:
        """Return the step that sets a toxic on the route's proxy; the proxy's end is also the toxic's."""
        assert where.route is not None
        proxy = where.route.step.token
        return Step(
            name=name,
            do=(*PROXY, toxic.kind, proxy, toxic.name, *toxic.options),
            undo=(*PROXY, "clear", proxy, toxic.name),
            evidence=evidence,
            token=f"{toxic.name}-toxic",
            deadline=seconds + MARGIN_SECONDS,
            touches={"proxy": proxy, "toxic": toxic.name},
        )


class ProxyDelay(ThroughProxy):
    """The proxy holds each chunk back."""

    name = "tcp proxy"
    # What goes to the target goes through the proxy, whichever interface it takes then.
    carries: ClassVar = {"delay_ms": "--delay-ms", "interface": None}

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert isinstance(scenario, NetworkLatency)
        evidence = (sys.executable, "-m", "chaoslab.agent.crossing", where.url, "--to", entrance(where))
        toxic = Toxic("stream", token, (*self.options(scenario), *seed(where)))
        name = f"delay of {scenario.parameters.delay_ms:g} ms"
        return delay_injection(scenario, self.name, (self.step(name, toxic, evidence, where, seconds),))


class EmulatedLoss(ThroughProxy):
    """The proxy stalls chunks as TCP does when a packet is lost."""

    name = "tcp proxy, loss emulated as retransmission stalls"
    carries: ClassVar = {"loss_percent": "--loss-percent", "interface": None}

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert isinstance(scenario, PacketLoss)
        asked = scenario.parameters.loss_percent
        toxic = Toxic("stream", token, (*self.options(scenario), *seed(where)))
        step = self.step(f"emulated loss of {asked:g} %", toxic, stats_command(where, token), where, seconds)

        def took_effect(readings: Sequence[Reading]) -> bool:
            return bool(readings[-1].data.get("chunks"))

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


class ProxyBlackHole(ThroughProxy):
    """The proxy accepts connections and lets nothing through, either way, until the fault is over.

    Dose: the share of what came in while it stood, connections and chunks, that went unanswered.
    """

    name = "tcp proxy, black hole"

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        toxic = Toxic("stream", token, ("--black-hole",))
        evidence = stats_command(where, token, passage=where.url)
        step = self.step("black hole on the way to the target", toxic, evidence, where, seconds)

        def took_effect(readings: Sequence[Reading]) -> bool:
            return _unanswered(readings[-1])

        def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
            return (self._share(readings),)

        return Injection(mechanism=self.name, steps=(step,), took_effect=took_effect, doses=doses)

    def _share(self, readings: Sequence[Reading]) -> Dose:
        stood = [reading for reading in readings if reading.data.get("black_hole")]
        lost, last = sum(map(_unanswered, stood)), stood[-1].data if stood else {}
        return Dose(
            quantity="requests that went unanswered",
            unit="%",
            asked=100.0,
            delivered=100 * lost / len(stood) if stood else None,
            low=100.0,
            high=100.0,
            how=f"{lost} of {len(stood)} requests sent through it to see; it swallowed "
            f"{last.get('connections', 0)} connections and {last.get('chunks', 0)} chunks of open ones",
            mechanism=self.name,
        )


def _unanswered(reading: Reading) -> bool:
    passage = reading.data.get("passage") or {}
    return bool(reading.data.get("black_hole")) and passage.get("outcome") == "unanswered"


def _dose(scenario: Scenario) -> dict[str, float | str]:
    """Return the parameters that differ from what they are when nobody asks."""
    return scenario.parameters.model_dump(exclude_defaults=True)


def seed(where: Surroundings) -> tuple[str, ...]:
    """Return the option that makes a toxic's chances those of the run's seed."""
    return ("--seed", str(where.seed))


def entrance(where: Surroundings) -> str:
    """Return the address at which the route's proxy takes what goes to the target."""
    assert where.route is not None
    host, port = where.route.connect_to
    return f"{host}:{port}"


def stats_command(where: Surroundings, toxic: str, *, passage: str = "") -> tuple[str, ...]:
    """Return the command that prints how a toxic stands, and what becomes of a request for the URL `passage`."""
    assert where.route is not None
    look = ("--send", passage, "--to", entrance(where)) if passage else ()
    return (*PROXY, "stats", where.route.step.token, toxic, *look)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""Network faults by the TCP proxy: the way that needs no privileges."""

from __future__ import annotations

import socket
import sys
from urllib.parse import urlsplit

from chaoslab.faults.base import MARGIN_SECONDS, Mechanism, Obstacle, Route, Surroundings
from chaoslab.journal import Step
from chaoslab.scenario import AnyScenario

_PROXY = (sys.executable, "-m", "chaoslab.faults.proxy")
_PORTS = {"http": 80, "https": 443}


class ThroughProxy(Mechanism):
    """A mechanism whose probes take a proxy to the target for the whole run."""

    def obstacle(self, scenario: AnyScenario | None, where: Surroundings) -> Obstacle | None:
        return None

    def route(self, where: Surroundings, *, seconds: float, token: str) -> Route:
        parts = urlsplit(where.url)
        upstream = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
        port = _free_port()
        own, limit = f"{token}-proxy", ("--seconds", f"{seconds:g}")
        step = Step(
            name=f"proxy to {upstream}",
            do=(*_PROXY, "serve", own, *("--listen", f"127.0.0.1:{port}"), *("--upstream", upstream), *limit),
            undo=(sys.executable, "-m", "chaoslab.processes", "end", own),
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


def stats_command(where: Surroundings) -> tuple[str, ...]:
    """Return the command that prints how the toxics of the route's proxy stand."""
    assert where.route is not None
    return (*_PROXY, "stats", where.route.step.token)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""network_latency and packet_loss by the kernel's own network emulator, tc-netem(8).

We put a tree of our own at the interface's root: two bands, of which only the target's packets take the second one,
that of the emulator; everything else takes the first one, a plain queue. The tree is known by its handle, made from the
run's token. An interface that somebody has configured is refused, never replaced: taking ours away again leaves the
interface with the kernel's default, as it was.
"""

from __future__ import annotations

import json
import sys
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Final

from chaoslab.errors import NotDelivered
from chaoslab.faults import traffic
from chaoslab.faults.base import Injection, Mechanism, Obstacle, Surroundings
from chaoslab.faults.traffic import (
    SAMPLE,
    Address,
    LatencyParameters,
    LossParameters,
    NetworkLatency,
    PacketLoss,
    Traffic,
    delay_injection,
    first,
    loss,
    towards,
)
from chaoslab.hosts import Host
from chaoslab.journal import Step
from chaoslab.scenario import Scenario

_COMMAND: Final = (sys.executable, "-m", "chaoslab.agent.netem")
_LIMIT: Final = 2.0
_MOST_PACKETS_HELD: Final = 100_000
"""The emulator drops what it cannot hold; its default of 1,000 packets is soon reached, and nobody asked for that."""

_HANDLES: Final = 0x7C00
_MATCHES: Final = {
    # tc's name of the protocol, the matches' name, and the prefix that means one address
    4: ("ip", "ip", 32),
    6: ("ipv6", "ip6", 128),
}


class _Netem(Mechanism):
    """A tree of queueing disciplines that takes the target's packets through netem."""

    name = "tc netem"

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        return first(
            traffic.no_privilege,
            partial(traffic.no_program, "tc", "iproute2"),
            partial(traffic.no_program, "ip", "iproute2"),
            partial(self._no_netem, where.host),
            partial(self._nowhere, scenario, where),
        )

    @staticmethod
    def _no_netem(host: Host) -> Obstacle | None:
        trial = _commands(SAMPLE, "lo", _HANDLES, ("delay", "1ms"))
        return traffic.no_kernel_support(host, [command for _, command in trial])

    def _nowhere(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        """Return why the scenario's traffic has no interface that we may use, or None."""
        if scenario is None:
            return None
        asked = _asked(scenario).interface
        if (obstacle := traffic.no_interface(asked)) is not None:
            return obstacle
        try:
            hit = towards(where.url)
            interface = _interface(where.host, hit, asked)
        except NotDelivered as refusal:
            return Obstacle(str(refusal))
        return _taken(where.host, interface)

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        hit = towards(where.url)
        interface = _interface(where.host, hit, _asked(scenario).interface)
        handle = _handle(token)
        ours = ("--dev", interface, "--handle", f"{handle:x}:")
        steps = traffic.reversible(
            _commands(hit, interface, handle, self.emulation(scenario)),
            undo=(*_COMMAND, "remove", *ours),
            evidence=self.evidence(where, ours),
            seconds=seconds,
            token=token,
        )
        return self.injection(scenario, steps)

    @abstractmethod
    def emulation(self, scenario: Scenario) -> tuple[str, ...]:
        """Return what netem is told to do."""

    @abstractmethod
    def evidence(self, where: Surroundings, ours: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command that shows the effect; `ours` are the options that name our tree."""

    @abstractmethod
    def injection(self, scenario: Scenario, steps: tuple[Step, ...]) -> Injection:
        """Return `steps` with how their evidence is read."""


class NetemLatency(_Netem):
    """Each packet to the target is held back."""

    def emulation(self, scenario: Scenario) -> tuple[str, ...]:
        asked = _asked(scenario)
        assert isinstance(asked, LatencyParameters)
        return ("delay", f"{asked.delay_ms:g}ms")

    def evidence(self, where: Surroundings, ours: tuple[str, ...]) -> tuple[str, ...]:
        return (sys.executable, "-m", "chaoslab.agent.crossing", where.url)

    def injection(self, scenario: Scenario, steps: tuple[Step, ...]) -> Injection:
        assert isinstance(scenario, NetworkLatency)
        return delay_injection(scenario, self.name, steps)


class NetemLoss(_Netem):
    """Packets to the target are dropped at random."""

    def emulation(self, scenario: Scenario) -> tuple[str, ...]:
        return ("loss", f"{loss(scenario).loss_percent:g}%")

    def evidence(self, where: Surroundings, ours: tuple[str, ...]) -> tuple[str, ...]:
        return (*_COMMAND, "count", *ours)

    def injection(self, scenario: Scenario, steps: tuple[Step, ...]) -> Injection:
        return traffic.losing(scenario, mechanism=self.name, steps=steps, counted="the emulator's own counters")


def _asked(scenario: Scenario) -> LatencyParameters | LossParameters:
    assert isinstance(scenario, NetworkLatency | PacketLoss)
    return scenario.parameters


def _handle(token: str) -> int:
    """Return the major number of a run's tree; the emulator in it has the next one."""
    return _HANDLES | zlib.crc32(token.encode()) & 0x3FE


def _commands(hit: Traffic, interface: str, handle: int, emulation: tuple[str, ...]) -> list[tuple[str, Sequence[str]]]:
    root, band = f"{handle:x}:", f"{handle:x}:2"
    bands = ("prio", "bands", "2", "priomap", *("0" * 16))
    netem = ("netem", "limit", str(_MOST_PACKETS_HELD), *emulation)
    added = ("dev", interface)
    return [
        (f"bands on {interface}", ("tc", "qdisc", "add", *added, "root", "handle", root, *bands)),
        (
            f"{' '.join(emulation)} on {interface}",
            ("tc", "qdisc", "add", *added, "parent", band, "handle", f"{handle + 1:x}:", *netem),
        ),
        # Last: the fault begins here.
        *(
            (
                f"the way to {address} port {hit.port}",
                ("tc", "filter", "add", *added, "parent", root, *_match(address, hit.port), "flowid", band),
            )
            for address in hit.addresses
        ),
    ]


def _match(address: Address, port: int) -> tuple[str, ...]:
    protocol, ip, prefix = _MATCHES[address.version]
    conditions = (("dst", f"{address}/{prefix}"), ("protocol", "6", "0xff"), ("dport", str(port), "0xffff"))
    # One filter may hold only one protocol at each priority.
    matches = (word for condition in conditions for word in ("match", ip, *condition))
    return ("protocol", protocol, "prio", str(address.version), "u32", *matches)


def _interface(host: Host, hit: Traffic, asked: str | None) -> str:
    """Return the interface that packets to the target leave by; `asked` overrides what the kernel says.

    Raises:
        NotDelivered: there is no way to the target, or there are several.
    """
    ways = {str(address): way for address in hit.addresses if (way := _way(host, address))}
    if not ways:
        raise NotDelivered(f"there is no route to {', '.join(map(str, hit.addresses))}")
    leaving = sorted(set(ways.values()))
    if asked is not None and leaving == ["lo"] != [asked]:
        raise NotDelivered(f"packets to {', '.join(ways)} never leave this machine: they take lo, not {asked}")
    if asked is not None:
        return asked
    if len(leaving) > 1:
        described = ", ".join(f"{address} by {way}" for address, way in ways.items())
        raise NotDelivered(f"the target's addresses are reached by several interfaces: {described}; name one address")
    return leaving[0]


def _way(host: Host, address: Address) -> str | None:
    result = host.run(("ip", "-j", "route", "get", str(address)), timeout=_LIMIT)
    routes = json.loads(result.stdout) if result.ok and result.stdout.strip() else []
    return next((str(route["dev"]) for route in routes if "dev" in route), None)


def _taken(host: Host, interface: str) -> Obstacle | None:
    """Return that somebody has configured how `interface` queues its packets, or None."""
    listed = host.run(("tc", "-j", "qdisc", "show", "dev", interface), timeout=_LIMIT)
    if not listed.ok:
        return Obstacle(f"tc does not say how {interface} queues its packets: {listed.problem}")
    # The kernel's own have no handle; clsact and ingress stand beside the root, not in our way.
    own = [qdisc for qdisc in json.loads(listed.stdout) if qdisc["kind"] not in ("clsact", "ingress")]
    for qdisc in own:
        if qdisc["handle"] != "0:":
            return Obstacle(
                f"{interface} has a queueing discipline that is not ours to replace: {qdisc['kind']} {qdisc['handle']}",
                "remove it yourself, or `chaoslab recover` if a run of chaoslab left it",
            )
    return None

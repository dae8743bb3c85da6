"""What the network faults of the kernel share: which packets they hit, what they need, and how a loss is counted.

The packets are those to the target: TCP, to its addresses and its port, on their way out. Nothing else is touched.
"""

from __future__ import annotations

import ipaddress
import shlex
import shutil
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field

from chaoslab.errors import NotDelivered
from chaoslab.faults.base import MARGIN_SECONDS, Injection, Obstacle, Reading
from chaoslab.hosts import Host
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Parameters, Scenario

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNDO_LIMIT: Final = 5.0

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_CAP_NET_ADMIN: Final = 12
_TRIAL_LIMIT: Final = 5.0
_LEVEL: Final = 0.99
_FEW_PACKETS: Final = 50
_EFFECT_SHARE: Final = 0.7


class LatencyParameters(Parameters):
    """Dose of network_latency."""

    delay_ms: float = Field(gt=0, le=60_000, description="delay added to each packet")
    interface: str | None = None


class LossParameters(Parameters):
    """Dose of packet_loss."""

    loss_percent: float = Field(gt=0, le=100, description="share of packets that is dropped")
    interface: str | None = None


class NetworkLatency(Scenario):
    """Delay on the way to the target."""

    type: Literal["network_latency", "network_delay"]
    parameters: LatencyParameters


class PacketLoss(Scenario):
    """Packets dropped on the way to the target."""

    type: Literal["packet_loss", "network_loss"]
    parameters: LossParameters


@dataclass(frozen=True, slots=True)
class Traffic:
    """TCP packets to a port of one or more addresses."""

    addresses: tuple[Address, ...]
    port: int

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.addresses))} port {self.port}"

    def of(self, version: int) -> tuple[Address, ...]:
        """Return the addresses of one IP version, 4 or 6."""
        return tuple(address for address in self.addresses if address.version == version)


SAMPLE: Final = Traffic((ipaddress.ip_address("127.0.0.1"),), 9)
"""Stands for the target's packets where there is no target yet."""


def towards(url: str) -> Traffic:
    """Return the packets to the service at `url`: a name counts with all its addresses, for any may be taken.

    >>> str(towards("http://127.0.0.1:8080/api")), str(towards("https://[::1]"))
    ('127.0.0.1 port 8080', '::1 port 443')

    Raises:
        NotDelivered: the host does not resolve.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotDelivered(f"the host {host!r} of the target does not resolve: {error.strerror}") from error
    names = dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found)
    return Traffic(tuple(ipaddress.ip_address(name) for name in names), port)


def no_privilege() -> Obstacle | None:
    """Return that this process may not change the network, or None."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    if int(fields["CapEff"], 16) >> _CAP_NET_ADMIN & 1:
        return None
    return Obstacle("changing the network needs CAP_NET_ADMIN", "run as root")


def no_program(name: str, package: str) -> Obstacle | None:
    """Return that a program is not installed, or None."""
    return None if shutil.which(name) else Obstacle(f"{name} is not installed", f"apt-get install {package}")


def no_interface(name: str | None) -> Obstacle | None:
    """Return that there is no such network interface, or None."""
    existing = [interface for _, interface in socket.if_nameindex()]
    if name is None or name in existing:
        return None
    return Obstacle(f"there is no network interface {name!r}", f"parameters.interface: one of {', '.join(existing)}")


def no_kernel_support(host: Host, commands: Iterable[Sequence[str]]) -> Obstacle | None:
    """Return what the kernel says against `commands`, tried in a network namespace that goes with them, or None.

    Where no namespace can be made nothing is known, and the injection itself will tell.
    """
    script = " && ".join(shlex.join(command) for command in commands)
    result = host.run(("unshare", "--net", "sh", "-c", script), timeout=_TRIAL_LIMIT)
    words = result.stderr.strip().splitlines() or [result.problem]
    if result.ok or result.exit_code == 127 or words[0].startswith("unshare:"):
        return None
    return Obstacle(f"this machine's kernel refuses it: {words[0]}", "load or build the kernel module it needs")


def reversible(
    commands: Sequence[tuple[str, Sequence[str]]],
    *,
    undo: tuple[str, ...],
    evidence: tuple[str, ...],
    seconds: float,
    token: str,
) -> tuple[Step, ...]:
    """Return steps from (name, argv) pairs; any one of their undos removes whatever all of them have made so far."""
    return tuple(
        Step(
            name=name,
            do=tuple(command),
            undo=undo,
            evidence=evidence,
            token=f"{token}-{number}",
            deadline=seconds + MARGIN_SECONDS,
            undo_limit=UNDO_LIMIT,
        )
        for number, (name, command) in enumerate(commands)
    )


def loss(scenario: Scenario) -> LossParameters:
    """Return the dose that is asked of packet_loss."""
    assert isinstance(scenario, PacketLoss)
    return scenario.parameters


def losing(scenario: Scenario, *, mechanism: str, steps: tuple[Step, ...], counted: str) -> Injection:
    """Return an injection whose evidence is counters, {"seen", "dropped"}, that start at 0 with the fault.

    It takes effect with the first packet: a rule that no packet meets is no fault. `counted` says what counts.
    """

    def took_effect(readings: Sequence[Reading]) -> bool:
        return readings[-1].exit_code == 0 and int(readings[-1].data.get("seen", 0)) > 0

    def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
        last = readings[-1].data if readings[-1].exit_code == 0 else {}
        return (loss_dose(loss(scenario), last.get("seen", 0), last.get("dropped", 0), counted, mechanism),)

    return Injection(mechanism=mechanism, steps=steps, took_effect=took_effect, doses=doses)


def loss_dose(asked: LossParameters, seen: int, dropped: int, counted: str, mechanism: str) -> Dose:
    """Return the share of packets that was dropped, beside what chance allows for so many packets at what was asked.

    Chance is the central binomial interval, at 99 %. With few packets it is wide, and the dose says so.
    """
    low, high = chance(asked.loss_percent / 100, seen)
    few = f"; only {seen} packets, so that chance alone allows {low:.0%} to {high:.0%}" if seen < _FEW_PACKETS else ""
    return Dose(
        quantity="packets dropped on the way to the target",
        unit="%",
        asked=asked.loss_percent,
        delivered=100 * dropped / seen if seen else None,
        low=100 * low,
        high=100 * high,
        how=f"{dropped} of {seen} packets, by {counted}; the kernel's random numbers take no seed{few}",
        mechanism=mechanism,
    )


def chance(share: float, count: int, level: float = _LEVEL) -> tuple[float, float]:
    """Return the central interval of a binomial share: `count` trials, each a success with probability `share`.

    >>> chance(0.5, 100)
    (0.37, 0.63)
    >>> chance(1.0, 7), chance(0.3, 0)
    ((1.0, 1.0), (0.0, 1.0))
    """
    if not count:
        return 0.0, 1.0
    from scipy.stats import binom  # takes half a second, and only a dose needs it

    tail = (1 - level) / 2
    return float(binom.ppf(tail, count, share)) / count, float(binom.ppf(1 - tail, count, share)) / count


def first(*checks: Callable[[], Obstacle | None]) -> Obstacle | None:
    """Return the first obstacle that one of `checks` finds; the later ones are not asked any more."""
    return next((obstacle for check in checks if (obstacle := check())), None)


def added_ms(readings: Sequence[Reading]) -> float | None:
    """Return by how much the last reading's round trip is longer than the first one's, in ms."""
    before, now = readings[0].data.get("rtt_ms"), readings[-1].data.get("rtt_ms")
    return None if before is None or now is None else float(now) - float(before)


def delay_injection(scenario: NetworkLatency, mechanism: str, steps: tuple[Step, ...]) -> Injection:
    """Return the injection of a delay whose last step's evidence is `chaoslab.agent.crossing`."""
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

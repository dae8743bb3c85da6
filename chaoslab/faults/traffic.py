"""What the network faults of the kernel share: which packets they hit, and what they need.

The packets are those of the target: TCP, its addresses, its port, on their way out; or those that the scenario's
filters name. Nothing else is touched. From the prober's side the port is the far one; a fault that acts on another host
acts beside the service, where the port is the near one and any address may be the far one.
"""

from __future__ import annotations

import ipaddress
import json
import shlex
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from chaoslab.agent import namespaces
from chaoslab.errors import NotDelivered
from chaoslab.faults.base import MARGIN_SECONDS, Obstacle, Surroundings
from chaoslab.faults.doses import delay_injection
from chaoslab.faults.impairment import Filters, NetworkLatency, PacketLoss, beyond, cannot
from chaoslab.faults.shares import chance
from chaoslab.hosts import Host, LocalHost
from chaoslab.journal import Step

__all__ = [
    "NetworkLatency",
    "PacketLoss",
    "Traffic",
    "beyond",
    "cannot",
    "chance",
    "delay_injection",
    "hit_by",
    "reversible",
    "towards",
]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Way = Literal["egress", "ingress"]
Side = Literal["src", "dst"]

UNDO_LIMIT: Final = 5.0

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_CAP_NET_ADMIN: Final = 12
_ASK_LIMIT: Final = 2.0
_TRIAL_LIMIT: Final = 5.0
ANYWHERE: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
"""Every address."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets between here and one or more networks; without a port, all of whatever protocol.

    `serving` says that the port is this side's own.
    """

    networks: tuple[Network, ...]
    port: int | None
    protocols: tuple[str, ...] = ("tcp",)
    serving: bool = False

    def __str__(self) -> str:
        where = ", ".join(str(network).removesuffix("/32").removesuffix("/128") for network in self.networks)
        near = "any address" if set(self.networks) == set(ANYWHERE) else where
        return near if self.port is None else f"{near} port {self.port}"

    def of(self, version: int) -> tuple[Network, ...]:
        """Return the networks of one IP version, 4 or 6."""
        return tuple(network for network in self.networks if network.version == version)

    def sides(self, way: Way) -> tuple[Side, Side]:
        """Return on which side of a packet that goes `way` the far address is, and on which side the port."""
        far: Side = "dst" if way == "egress" else "src"
        near: Side = "src" if way == "egress" else "dst"
        return far, near if self.serving else far

    @property
    def address(self) -> Address | None:
        """The first far address, if the far side is known by addresses rather than networks."""
        whole = [network for network in self.networks if network.num_addresses == 1]
        return whole[0].network_address if whole else None


SAMPLE: Final = Traffic((ipaddress.ip_network("127.0.0.1"),), 9)
"""Stands for the target's packets where there is no target yet."""


def is_anywhere(network: Network) -> bool:
    """Whether a network has every address."""
    return network in ANYWHERE


def towards(url: str) -> Traffic:
    """Return the packets to the service at `url`: a name counts with all its addresses, for any may be taken.

    >>> str(towards("http://127.0.0.1:8080/api")), str(towards("https://[::1]"))
    ('127.0.0.1 port 8080', '::1 port 443')

    Raises:
        NotDelivered: the host does not resolve.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", port_of(url)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotDelivered(f"the host {host!r} of the target does not resolve: {error.strerror}") from error
    names = dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found)
    return Traffic(tuple(ipaddress.ip_network(name) for name in names), port)


def port_of(url: str) -> int:
    """Return the port of a URL, written or implied."""
    parts = urlsplit(url)
    return parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)


def hit_by(filters: Filters, where: Surroundings) -> Traffic:
    """Return the packets that the scenario's filters name, or the target's own.

    Raises:
        NotDelivered: the target's host does not resolve.
    """
    serving = where.host.name != LocalHost.name
    if filters.address is not None:
        networks: tuple[Network, ...] = (ipaddress.ip_network(filters.address),)
        return Traffic(networks, filters.port, ("tcp",) if filters.port else (), serving)
    if serving:
        return Traffic(ANYWHERE, filters.port or port_of(where.url), serving=True)
    found = towards(where.url)
    return Traffic(found.networks, filters.port or found.port)


def leaving(host: Host, hit: Traffic, asked: str | None) -> str:
    """Return the interface that packets to the far side leave by; `asked` overrides what the kernel says.

    Raises:
        NotDelivered: there is no way to the far side, or there are several.
    """
    if hit.address is None and asked is not None:
        return asked
    ways = {str(network): way for network in hit.networks if (way := _way(host, network))}
    if not ways:
        raise NotDelivered(f"there is no route to {hit}")
    found = sorted(set(ways.values()))
    if asked is not None and found == ["lo"] != [asked]:
        raise NotDelivered(f"packets to {hit} never leave this machine: they take lo, not {asked}")
    if asked is not None:
        return asked
    if len(found) > 1:
        described = ", ".join(f"{network} by {way}" for network, way in ways.items())
        raise NotDelivered(f"packets leave by several interfaces: {described}; name one: parameters.interface")
    return found[0]


def _way(host: Host, network: Network) -> str | None:
    """Return the interface of the route to a network's first address; to anywhere, that of the default route."""
    family = "-6" if network.version == 6 else "-4"
    question = ("show", "default") if is_anywhere(network) else ("get", str(network.network_address))
    result = host.run(("ip", family, "-j", "route", *question), timeout=_ASK_LIMIT)
    routes = json.loads(result.stdout) if result.ok and result.stdout.strip() else []
    return next((str(route["dev"]) for route in routes if "dev" in route), None)


def no_privilege(host: Host) -> Obstacle | None:
    """Return that our commands may not change the network of `host`, or None."""
    status = host.run(("cat", "/proc/self/status"), timeout=_ASK_LIMIT)
    if not status.ok:
        return Obstacle(f"whether the network may be changed cannot be told: {status.problem}")
    fields = dict(line.split(":", 1) for line in status.stdout.splitlines() if ":" in line)
    if int(fields.get("CapEff", "0"), 16) >> _CAP_NET_ADMIN & 1:
        return None
    return Obstacle("changing the network needs CAP_NET_ADMIN", "run as root")


def no_program(host: Host, name: str, package: str) -> Obstacle | None:
    """Return that a program is not installed, or None."""
    found = host.run(("sh", "-c", f"command -v {shlex.quote(name)}"), timeout=_ASK_LIMIT).ok
    return None if found else Obstacle(f"{name} is not installed", f"apt-get install {package}")


def no_interface(host: Host, name: str | None) -> Obstacle | None:
    """Return that there is no such network interface, or None."""
    if name is None:
        return None
    listed = host.run(("ip", "-j", "link", "show"), timeout=_ASK_LIMIT)
    existing = [str(link["ifname"]) for link in json.loads(listed.stdout)] if listed.ok else []
    if name in existing:
        return None
    return Obstacle(f"there is no network interface {name!r}", f"parameters.interface: one of {', '.join(existing)}")


def no_kernel_support(host: Host, commands: Iterable[Sequence[str]], *, module: str) -> Obstacle | None:
    """Return what the kernel says against `commands`, tried in a network namespace that goes with them, or None.

    `module` is the kernel's module that they need. Where no namespace can be made nothing is known, and the injection
    itself will tell.
    """
    script = " && ".join(shlex.join(command) for command in commands)
    result = host.run(("unshare", "--net", "sh", "-c", script), timeout=_TRIAL_LIMIT)
    words = result.stderr.strip().splitlines() or [result.problem]
    if result.ok or result.exit_code == 127 or words[0].startswith("unshare:"):
        return None
    return Obstacle(f"this machine's kernel refuses it: {words[0]}", f"modprobe {module}")


def reversible(
    host: Host,
    commands: Sequence[tuple[str, Sequence[str]]],
    *,
    undo: tuple[str, ...],
    evidence: tuple[str, ...],
    seconds: float,
    token: str,
    touches: Mapping[str, Any],
) -> tuple[Step, ...]:
    """Return steps from (name, argv) pairs; any one of their undos removes whatever all of them have made so far.

    The pairs and `undo` act on `host`; `evidence` is taken as it is, for some of it looks from the prober's side.
    """
    return tuple(
        Step(
            name=name,
            do=host.reach(command, token=f"{token}-{number}"),
            undo=host.reach(undo, undo=True),
            evidence=evidence,
            token=f"{token}-{number}",
            deadline=seconds + MARGIN_SECONDS,
            undo_limit=UNDO_LIMIT,
            touches={**network_of(host), **touches},
        )
        for number, (name, command) in enumerate(commands)
    )


def network_of(host: Host) -> dict[str, str]:
    """Return which network a fault on `host` changes, for the journal: here also the namespace, which undo goes by."""
    here = {"network_namespace": namespaces.own()} if host.name == LocalHost.name else {}
    return {"host": host.name, **here}


def first(*checks: Callable[[], Obstacle | None]) -> Obstacle | None:
    """Return the first obstacle that one of `checks` finds; the later ones are not asked any more."""
    return next((obstacle for check in checks if (obstacle := check())), None)


def together(*looks: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command that takes several looks at once, and prints what they say as one object."""
    if len(looks) == 1:
        return looks[0]
    return (sys.executable, "-m", "chaoslab.agent.together", *(json.dumps(look) for look in looks))


def flows(hit: Traffic) -> Iterator[tuple[Network, str | None]]:
    """Yield each network with each protocol; None is whatever protocol."""
    for network in hit.networks:
        yield from ((network, protocol) for protocol in hit.protocols or (None,))

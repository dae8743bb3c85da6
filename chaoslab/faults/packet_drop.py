"""packet_loss by the packet filter: nftables, or iptables, drops packets to the target at random.

Rules stand before any address translation (priority mangle), so that a container's published port is still the port
that the target is known by. The filter has no other effect: everything else passes as if it were not there.
"""

from __future__ import annotations

import hashlib
import sys
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Final

from chaoslab.errors import NotDelivered
from chaoslab.faults import traffic
from chaoslab.faults.base import Injection, Mechanism, Obstacle, Surroundings
from chaoslab.faults.traffic import SAMPLE, Traffic, first, loss, towards
from chaoslab.scenario import Scenario

_COMMAND: Final = (sys.executable, "-m", "chaoslab.agent.packet_filter")
_OF_A_MILLION: Final = 1_000_000
_TOOLS: Final = {4: "iptables", 6: "ip6tables"}

Named = tuple[str, Sequence[str]]


class _PacketFilter(Mechanism):
    """Rules of our own, under a name of our own, that drop packets to the target at random."""

    package: str
    counted: str

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        hit, share, interface = SAMPLE, 0.5, None
        if scenario is not None:
            try:
                hit = towards(where.url)
            except NotDelivered as refusal:
                return Obstacle(str(refusal))
            share, interface = loss(scenario).loss_percent / 100, loss(scenario).interface
        commands = [command for _, command in self.commands(hit, share, interface, "trial")]
        return first(
            traffic.no_privilege,
            lambda: first(*(partial(traffic.no_program, argv[0], self.package) for argv in commands)),
            lambda: traffic.no_interface(interface),
            lambda: traffic.no_kernel_support(where.host, commands),
        )

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        hit, asked = towards(where.url), loss(scenario)
        mark = hashlib.sha256(token.encode()).hexdigest()[:8]
        named = self.named(hit, mark)
        steps = traffic.reversible(
            self.commands(hit, asked.loss_percent / 100, asked.interface, mark),
            undo=(*_COMMAND, "remove", *named),
            evidence=(*_COMMAND, "count", *named),
            seconds=seconds,
            token=token,
        )
        return traffic.losing(scenario, mechanism=self.name, steps=steps, counted=self.counted)

    @abstractmethod
    def commands(self, hit: Traffic, share: float, interface: str | None, mark: str) -> list[Named]:
        """Return the commands, each with its name, that drop `share` of the packets that are `hit`."""

    @abstractmethod
    def named(self, hit: Traffic, mark: str) -> tuple[str, ...]:
        """Return the options by which `count` and `remove` find what the commands make."""


class NftDrop(_PacketFilter):
    """A table of our own in nftables, made in one transaction: it is there as a whole, or not at all."""

    name = "nftables"
    package = "nftables"
    counted = "the counters of our own nftables table"

    def commands(self, hit: Traffic, share: float, interface: str | None, mark: str) -> list[Named]:
        table = f"inet {_table(mark)}"
        out = f'oifname "{interface}" ' if interface else ""
        parts = [
            f"create table {table}",
            f"add counter {table} seen",
            f"add counter {table} dropped",
            f"add chain {table} out {{ type filter hook output priority mangle; policy accept; }}",
        ]
        for version, match in ((4, "ip daddr"), (6, "ip6 daddr")):
            if addresses := hit.of(version):
                packets = f"{out}{match} {{ {', '.join(map(str, addresses))} }} tcp dport {hit.port}"
                parts.append(f"add rule {table} out {packets} counter name seen {_at_random(share)}")
        return [(f"loss on the way to {hit} by nftables", ("nft", "; ".join(parts)))]

    def named(self, hit: Traffic, mark: str) -> tuple[str, ...]:
        return ("--table", _table(mark))


def _table(mark: str) -> str:
    return f"chaoslab_{mark}"


def _at_random(share: float) -> str:
    below = max(1, round(share * _OF_A_MILLION))
    # The kernel's expression has no way to say "all": nft refuses a bound that no number reaches.
    chosen = f"numgen random mod {_OF_A_MILLION} < {below} " if below < _OF_A_MILLION else ""
    return f"{chosen}counter name dropped drop"


class IptablesDrop(_PacketFilter):
    """A chain of our own in iptables' mangle table, and a jump to it from OUTPUT."""

    name = "iptables"
    package = "iptables"
    counted = "the counters of our own iptables chain"

    def commands(self, hit: Traffic, share: float, interface: str | None, mark: str) -> list[Named]:
        return [
            (f"{what} by {tool}", (tool, *_MANGLE, *rule))
            for version, tool in _TOOLS.items()
            if hit.of(version)
            for what, rule in self._rules(hit, version, share, interface, mark)
        ]

    @staticmethod
    def _rules(hit: Traffic, version: int, share: float, interface: str | None, mark: str) -> list[Named]:
        chain = _chain(mark)
        at_random = ("-m", "statistic", "--mode", "random", "--probability", f"{share:.6f}") if share < 1 else ()
        out = ("-o", interface) if interface else ()
        packets = ("-d", ",".join(map(str, hit.of(version))), "-p", "tcp", "--dport", str(hit.port))
        note = ("-m", "comment", "--comment", f"chaoslab {mark}")
        return [
            (f"chain {chain}", ("-N", chain)),
            ("drop at random", ("-A", chain, *at_random, "-j", "DROP")),
            # Ahead of the user's own rules: one that accepts would keep packets from ours.
            (f"loss on the way to {hit}", ("-I", "OUTPUT", *out, *packets, *note, "-j", chain)),
        ]

    def named(self, hit: Traffic, mark: str) -> tuple[str, ...]:
        tools = [option for version, tool in _TOOLS.items() if hit.of(version) for option in ("--tool", tool)]
        return ("--chain", _chain(mark), *tools)


_MANGLE: Final = ("-w", "2", "-t", "mangle")


def _chain(mark: str) -> str:
    return f"CHAOSLAB-{mark}"

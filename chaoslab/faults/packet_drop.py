"""Packets dropped by the packet filter: nftables, or iptables, at random or all of them.

Rules stand before any address translation of what goes out, and behind that of what comes in, so that a container's
published port is still the port that the target is known by (iptables has no chain for the latter: there it is the port
behind the translation). The filter has no other effect: everything else passes as if it were not there.
"""

from __future__ import annotations

import hashlib
import sys
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Final, Literal

from chaoslab.errors import NotDelivered
from chaoslab.faults import doses, traffic
from chaoslab.faults.base import Injection, Mechanism, Obstacle, Surroundings
from chaoslab.faults.impairment import Filters, LossParameters, cannot
from chaoslab.faults.lifelines import endangered
from chaoslab.faults.shares import Share
from chaoslab.faults.traffic import SAMPLE, Network, Traffic, Way, first, flows, hit_by, is_anywhere
from chaoslab.journal import Step
from chaoslab.scenario import Parameters, Scenario

COMMAND: Final = (sys.executable, "-m", "chaoslab.agent.packet_filter")

_OF_A_MILLION: Final = 1_000_000
_TOOLS: Final = {4: "iptables", 6: "ip6tables"}

Named = tuple[str, Sequence[str]]
Verdict = Literal["drop", "reject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which packets are hit on which ways, what share of them, and whether their sender is told."""

    hit: Traffic
    ways: tuple[Way, ...] = ("egress",)
    share: float = 1.0
    interface: str | None = None
    verdict: Verdict = "drop"

    def __str__(self) -> str:
        done = {"drop": "loss", "reject": "refusal"}[self.verdict]
        return f"{done} on the {' and '.join(self.ways)} of {self.hit}"


class PacketFilter(Mechanism):
    """Rules of our own, under a name of our own."""

    package: str
    module: str
    counted: str
    able: tuple[str, ...] = (*Filters.model_fields, "loss_percent")

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        rule = Rule(hit=SAMPLE, share=0.5)
        parameters = Parameters() if scenario is None else scenario.parameters
        if (obstacle := cannot(self.name, parameters, self.able)) is not None:
            return obstacle
        if scenario is not None:
            try:
                rule = self.rule(scenario, where)
            except NotDelivered as refusal:
                return Obstacle(str(refusal))
        commands = [command for _, command in self.commands(rule, "trial")]
        return first(
            lambda: None if scenario is None else endangered(rule.hit, where.host),
            partial(traffic.no_privilege, where.host),
            lambda: first(
                *(partial(traffic.no_program, where.host, argv[0], self.package) for argv in commands),
            ),
            lambda: traffic.no_interface(where.host, rule.interface),
            lambda: traffic.no_kernel_support(where.host, commands, module=self.module),
        )

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        rule = self.rule(scenario, where)
        mark = hashlib.sha256(token.encode()).hexdigest()[:8]
        named = self.named(rule, mark)
        steps = traffic.reversible(
            where.host,
            list(self.commands(rule, mark)),
            undo=(*COMMAND, "remove", *named),
            evidence=self.evidence(scenario, where, where.host.reach((*COMMAND, "count", *named))),
            seconds=seconds,
            token=token,
            touches={"packets": str(rule), "rules": " ".join(named)},
        )
        return self.injection(scenario, steps)

    def rule(self, scenario: Scenario, where: Surroundings) -> Rule:
        """Return which packets the scenario hits, and how.

        Raises:
            NotDelivered: the target's host does not resolve.
        """
        asked = scenario.parameters
        assert isinstance(asked, LossParameters)
        return Rule(
            hit=hit_by(asked, where),
            ways=asked.directions,
            share=asked.loss_percent / 100,
            interface=asked.interface,
        )

    def evidence(self, scenario: Scenario, where: Surroundings, count: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command that shows the effect; `count` prints the counters."""
        return count

    def injection(self, scenario: Scenario, steps: tuple[Step, ...]) -> Injection:
        """Return `steps` with how their evidence is read."""
        assert isinstance(scenario.parameters, LossParameters)
        share = Share(scenario.parameters.loss_percent / 100)
        return doses.losing(share, mechanism=self.name, steps=steps, counted=self.counted)

    @abstractmethod
    def commands(self, rule: Rule, mark: str) -> Iterator[Named]:
        """Yield the commands, each with its name, that make the rule."""

    @abstractmethod
    def named(self, rule: Rule, mark: str) -> tuple[str, ...]:
        """Return the options by which `count` and `remove` find what the commands make."""


class NftDrop(PacketFilter):
    """A table of our own in nftables, made in one transaction: it is there as a whole, or not at all."""

    name = "nftables"
    package = "nftables"
    module = "nf_tables"
    counted = "the counters of our own nftables table"

    def commands(self, rule: Rule, mark: str) -> Iterator[Named]:
        table = f"inet {_table(mark)}"
        parts = [f"create table {table}", f"add counter {table} seen", f"add counter {table} dropped"]
        for way in rule.ways:
            hook, priority = _HOOKS[way]
            chain = f"{table} {hook}"
            parts.append(f"add chain {chain} {{ type filter hook {hook} priority {priority}; policy accept; }}")
            parts += [f"add rule {chain} {packets}" for packets in _nft_rules(rule, way)]
        yield f"{rule} by nftables", ("nft", "; ".join(parts))

    def named(self, rule: Rule, mark: str) -> tuple[str, ...]:
        return ("--table", _table(mark))


_VERSIONS: Final = {"ip": 4, "ip6": 6}
_HOOKS: Final = {"egress": ("output", "mangle"), "ingress": ("input", "150")}


def _table(mark: str) -> str:
    return f"chaoslab_{mark}"


def _nft_rules(rule: Rule, way: Way) -> Iterator[str]:
    device = {"egress": "oifname", "ingress": "iifname"}[way]
    interface = f'{device} "{rule.interface}" ' if rule.interface else ""
    for family, version in _VERSIONS.items():
        for protocol in (rule.hit.protocols or (None,)) if rule.hit.of(version) else ():
            packets = _nft_packets(rule.hit, way, family, protocol)
            yield f"{interface}{packets}counter name seen {_at_random(rule.share)}{_nft_end(rule, protocol)}"


def _nft_packets(hit: Traffic, way: Way, family: str, protocol: str | None) -> str:
    far, near = hit.sides(way)
    networks = hit.of(_VERSIONS[family])
    if any(map(is_anywhere, networks)):
        packets = f"meta nfproto ipv{_VERSIONS[family]} "
    else:
        packets = f"{family} {far[0]}addr {{ {', '.join(map(str, networks))} }} "
    return packets if protocol is None or hit.port is None else f"{packets}{protocol} {near[0]}port {hit.port} "


def _nft_end(rule: Rule, protocol: str | None) -> str:
    if rule.verdict == "drop":
        return "counter name dropped drop"
    return f"counter name dropped reject{' with tcp reset' if protocol == 'tcp' else ''}"


def _at_random(share: float) -> str:
    below = max(1, round(share * _OF_A_MILLION))
    # The kernel's expression has no way to say "all": nft refuses a bound that no number reaches.
    return f"numgen random mod {_OF_A_MILLION} < {below} " if below < _OF_A_MILLION else ""


class IptablesDrop(PacketFilter):
    """A chain of our own in iptables, and jumps to it: from the mangle table, or to refuse from the filter table."""

    name = "iptables"
    package = "iptables"
    module = "xt_statistic"
    counted = "the counters of our own iptables chain"

    def commands(self, rule: Rule, mark: str) -> Iterator[Named]:
        for version, tool in _TOOLS.items():
            if rule.hit.of(version):
                for what, words in _iptables_rules(rule, version, mark):
                    yield f"{what} by {tool}", (tool, "-w", "2", "-t", _TABLES[rule.verdict], *words)

    def named(self, rule: Rule, mark: str) -> tuple[str, ...]:
        tools = [option for version, tool in _TOOLS.items() if rule.hit.of(version) for option in ("--tool", tool)]
        return ("--chain", _chain(mark), "--within", _TABLES[rule.verdict], *tools)


# Only the filter table may refuse.
_TABLES: Final[dict[Verdict, str]] = {"drop": "mangle", "reject": "filter"}


def _chain(mark: str) -> str:
    return f"CHAOSLAB-{mark}"


def _iptables_rules(rule: Rule, version: int, mark: str) -> Iterator[Named]:
    chain, hit = _chain(mark), replace(rule.hit, networks=rule.hit.of(version))
    at_random = ("-m", "statistic", "--mode", "random", "--probability", f"{rule.share:.6f}") if rule.share < 1 else ()
    yield f"chain {chain}", ("-N", chain)
    if rule.verdict == "reject":
        yield "refusal of TCP", ("-A", chain, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
    yield f"{rule.verdict} of what comes to {chain}", ("-A", chain, *at_random, "-j", rule.verdict.upper())
    note = ("-m", "comment", "--comment", f"chaoslab {mark}")
    for way, (network, protocol) in product(rule.ways, flows(hit)):
        packets = _iptables_packets(rule, way, network, protocol)
        name = f"{replace(rule, hit=replace(hit, networks=(network,)), ways=(way,))}, {protocol or 'any protocol'}"
        # Ahead of the user's own rules: one that accepts would keep packets from ours.
        yield name, ("-I", *packets, *note, "-j", chain)


def _iptables_packets(rule: Rule, way: Way, network: Network, protocol: str | None) -> tuple[str, ...]:
    """Return the chain, and the packets of it that are hit."""
    words, (far, near) = [{"egress": "OUTPUT", "ingress": "INPUT"}[way]], rule.hit.sides(way)
    if rule.interface:
        words += [{"egress": "-o", "ingress": "-i"}[way], rule.interface]
    if not is_anywhere(network):
        words += [{"src": "-s", "dst": "-d"}[far], str(network)]
    if protocol is not None:
        words += ["-p", protocol]
    if rule.hit.port is not None:
        words += [{"src": "--sport", "dst": "--dport"}[near], str(rule.hit.port)]
    return tuple(words)

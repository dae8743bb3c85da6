"""packet_loss by the packet filter: nftables, or iptables, drops packets to the target at random.

    python -m chaoslab.faults.packet_drop count  --table NAME | --chain NAME --tool TOOL [--tool TOOL]
    python -m chaoslab.faults.packet_drop remove --table NAME | --chain NAME --tool TOOL [--tool TOOL]

`count` prints {"seen", "dropped"}: packets that met the rule and packets that it dropped; it exits 1 where there is no
such rule. `remove` exits 0 once nothing of that name is left, also where nothing was.

Rules stand before any address translation (priority mangle), so that a container's published port is still the port
that the target is known by. The filter has no other effect: everything else passes as if it were not there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from chaoslab.errors import NotDelivered
from chaoslab.faults import traffic
from chaoslab.faults.base import Injection, Mechanism, Obstacle, Surroundings
from chaoslab.faults.traffic import SAMPLE, Traffic, first, loss, towards
from chaoslab.scenario import AnyScenario

_COMMAND: Final = (sys.executable, "-m", "chaoslab.faults.packet_drop")
_LIMIT: Final = 2.0
_OF_A_MILLION: Final = 1_000_000
_TOOLS: Final = {4: "iptables", 6: "ip6tables"}

Named = tuple[str, Sequence[str]]


class _PacketFilter(Mechanism):
    """Rules of our own, under a name of our own, that drop packets to the target at random."""

    package: str
    counted: str

    def obstacle(self, scenario: AnyScenario | None, where: Surroundings) -> Obstacle | None:
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

    def inject(self, scenario: AnyScenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
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


class _Failed(Exception):
    """A command did not do what it was asked."""


def _run(*argv: str) -> str:
    """Run a command and return what it printed.

    Raises:
        _Failed: it cannot be started, does not end in time, or ends with an error.
    """
    try:
        result = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Failed(str(error)) from error
    if result.returncode:
        raise _Failed(f"{shlex.join(argv)}: {result.stderr.strip()}")
    return result.stdout


def _has_table(name: str) -> bool:
    listed = json.loads(_run("nft", "-j", "list", "tables"))["nftables"]
    return {"family": "inet", "name": name} in [
        {key: entry["table"][key] for key in ("family", "name")} for entry in listed if "table" in entry
    ]


def _remove_table(name: str) -> None:
    if _has_table(name):
        # In one transaction `add` makes sure that there is something to delete, whoever else is removing it too.
        _run("nft", f"add table inet {name}; delete table inet {name}")
    if _has_table(name):
        raise _Failed(f"the nftables table {name} is still there")


def _count_in_table(name: str) -> dict[str, int]:
    listed = json.loads(_run("nft", "-j", "list", "counters", "table", "inet", name))["nftables"]
    counters = [entry["counter"] for entry in listed if "counter" in entry]
    return {counter["name"]: int(counter["packets"]) for counter in counters}


def _rules(tool: str, *options: str) -> list[list[str]]:
    """Return the rules of the mangle table, each as the arguments that would make it; "-v" adds -c PACKETS BYTES."""
    return [shlex.split(line) for line in _run(tool, *_MANGLE, *options, "-S").splitlines()]


def _remove_chain(tool: str, chain: str) -> None:
    found = _rules(tool)
    for _, origin, *rule in (rule for rule in found if rule[0] == "-A" and rule[-2:] == ["-j", chain]):
        _run(tool, *_MANGLE, "-D", origin, *rule)
    if ["-N", chain] in found:
        _run(tool, *_MANGLE, "-F", chain)
        _run(tool, *_MANGLE, "-X", chain)
    if any(chain in rule for rule in _rules(tool)):
        raise _Failed(f"the {tool} chain {chain} is still there")


def _count_in_chain(tool: str, chain: str) -> dict[str, int]:
    rules = [rule for rule in _rules(tool, "-v") if rule[0] == "-A" and chain in (rule[1], rule[-1])]
    jumps, drops = ([rule for rule in rules if rule[-1] == target] for target in (chain, "DROP"))
    if not jumps or not drops:
        raise _Failed(f"the {tool} chain {chain} is not in place")
    return {"seen": sum(map(_packets, jumps)), "dropped": sum(map(_packets, drops))}


def _packets(rule: list[str]) -> int:
    return int(rule[rule.index("-c") + 1])


def _count(options: argparse.Namespace) -> None:
    if options.table:
        counts = [_count_in_table(options.table)]
    else:
        counts = [_count_in_chain(tool, options.chain) for tool in options.tool]
    print(json.dumps({name: sum(count[name] for count in counts) for name in ("seen", "dropped")}))


def _remove(options: argparse.Namespace) -> None:
    if options.table:
        _remove_table(options.table)
    for tool in options.tool:
        _remove_chain(tool, options.chain)


def _own(prefix: str) -> Callable[[str], str]:
    """Return what lets only names pass that are ours: `remove` must never reach a foreign rule."""

    def check(name: str) -> str:
        if not re.fullmatch(rf"{prefix}\w+", name):
            raise argparse.ArgumentTypeError(f"{name!r} is not ours: {prefix}…")
        return name

    return check


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m chaoslab.faults.packet_drop")
    parser.add_argument("command", choices=("count", "remove"))
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--table", type=_own("chaoslab_"))
    which.add_argument("--chain", type=_own("CHAOSLAB-"))
    parser.add_argument("--tool", action="append", choices=tuple(_TOOLS.values()))
    options = parser.parse_args(argv)
    if (options.chain is None) != (options.tool is None):
        parser.error("--chain and --tool go together")
    options.tool = options.tool or []
    try:
        (_count if options.command == "count" else _remove)(options)
    except _Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

"""What our own rules in nftables or iptables have counted, and how they are taken away again.

    python -m chaoslab.agent.packet_filter count  --table NAME | --chain NAME --within TABLE --tool TOOL [--tool TOOL]
    python -m chaoslab.agent.packet_filter remove --table NAME | --chain NAME --within TABLE --tool TOOL [--tool TOOL]

A table is one of nftables, a chain stands within one of iptables' own tables, mangle or filter.

`count` prints {"seen", "dropped"}: packets that met the rule and packets that it dropped; it exits 1 where there is no
such rule. `remove` exits 0 once nothing of that name is left, also where nothing was.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Final

from chaoslab.agent.programs import Failed, run

_TOOLS: Final = ("iptables", "ip6tables")
_WITHIN: Final = ("mangle", "filter")
_VERDICTS: Final = ("DROP", "REJECT")


def _has_table(name: str) -> bool:
    listed = json.loads(run("nft", "-j", "list", "tables"))["nftables"]
    return {"family": "inet", "name": name} in [
        {key: entry["table"][key] for key in ("family", "name")} for entry in listed if "table" in entry
    ]


def _remove_table(name: str) -> None:
    if _has_table(name):
        # In one transaction `add` makes sure that there is something to delete, whoever else is removing it too.
        run("nft", f"add table inet {name}; delete table inet {name}")
    if _has_table(name):
        raise Failed(f"the nftables table {name} is still there")


def _count_in_table(name: str) -> dict[str, int]:
    listed = json.loads(run("nft", "-j", "list", "counters", "table", "inet", name))["nftables"]
    counters = [entry["counter"] for entry in listed if "counter" in entry]
    return {counter["name"]: int(counter["packets"]) for counter in counters}


def _iptables(tool: str, within: str, *words: str) -> str:
    return run(tool, "-w", "2", "-t", within, *words)


def _rules(tool: str, within: str, *options: str) -> list[list[str]]:
    """Return the rules of a table, each as the arguments that would make it; "-v" adds -c PACKETS BYTES."""
    return [shlex.split(line) for line in _iptables(tool, within, *options, "-S").splitlines()]


def _remove_chain(tool: str, within: str, chain: str) -> None:
    found = _rules(tool, within)
    for _, origin, *rule in (rule for rule in found if rule[0] == "-A" and rule[-2:] == ["-j", chain]):
        _iptables(tool, within, "-D", origin, *rule)
    if ["-N", chain] in found:
        _iptables(tool, within, "-F", chain)
        _iptables(tool, within, "-X", chain)
    if any(chain in rule for rule in _rules(tool, within)):
        raise Failed(f"the {tool} chain {chain} is still there")


def _count_in_chain(tool: str, within: str, chain: str) -> dict[str, int]:
    rules = [rule for rule in _rules(tool, within, "-v") if rule[0] == "-A"]
    jumps = [rule for rule in rules if rule[-1] == chain]
    drops = [rule for rule in rules if rule[1] == chain and rule[rule.index("-j") + 1] in _VERDICTS]
    if not jumps or not drops:
        raise Failed(f"the {tool} chain {chain} is not in place")
    return {"seen": sum(map(_packets, jumps)), "dropped": sum(map(_packets, drops))}


def _packets(rule: list[str]) -> int:
    return int(rule[rule.index("-c") + 1])


def _count(options: argparse.Namespace) -> None:
    if options.table:
        counts = [_count_in_table(options.table)]
    else:
        counts = [_count_in_chain(tool, options.within, options.chain) for tool in options.tool]
    print(json.dumps({name: sum(count[name] for count in counts) for name in ("seen", "dropped")}))


def _remove(options: argparse.Namespace) -> None:
    if options.table:
        _remove_table(options.table)
    for tool in options.tool:
        _remove_chain(tool, options.within, options.chain)


def _own(prefix: str) -> Callable[[str], str]:
    """Return what lets only names pass that are ours: `remove` must never reach a foreign rule."""

    def check(name: str) -> str:
        if not re.fullmatch(rf"{prefix}\w+", name):
            raise argparse.ArgumentTypeError(f"{name!r} is not ours: {prefix}…")
        return name

    return check


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.packet_filter")
    parser.add_argument("command", choices=("count", "remove"))
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--table", type=_own("chaoslab_"))
    which.add_argument("--chain", type=_own("CHAOSLAB-"))
    parser.add_argument("--within", choices=_WITHIN, default=_WITHIN[0])
    parser.add_argument("--tool", action="append", choices=_TOOLS)
    options = parser.parse_args(argv)
    if (options.chain is None) != (options.tool is None):
        parser.error("--chain and --tool go together")
    options.tool = options.tool or []
    try:
        (_count if options.command == "count" else _remove)(options)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

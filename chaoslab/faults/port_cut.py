"""Cutting a TCP port off by the packet filter: a table of our own in nftables, or a chain of our own in iptables.

Without an address, packets that come in to the port are cut, whoever sends them: the database is on this machine. With
one, only packets to it are, on their way out too: the database may be on another machine.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from chaoslab.faults.base import Obstacle
from chaoslab.hosts import Host

Cut = Literal["reject", "drop"]
IpAddress = IPv4Address | IPv6Address

_COMMAND: Final = (sys.executable, "-m", "chaoslab.agent.packet_filter")
_TRIAL_LIMIT: Final = 5.0
_MANGLE: Final = ("-w", "2", "-t", "mangle")
_TOOLS: Final = {4: "iptables", 6: "ip6tables"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A TCP port, of one address or of whatever this machine has, and how packets to it are cut."""

    number: int
    address: IpAddress | None
    cut: Cut

    @property
    def hooks(self) -> tuple[str, ...]:
        """Where the packets pass."""
        return ("input", "output") if self.address else ("input",)

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions that they may have."""
        return (self.address.version,) if self.address else (4, 6)

    def __str__(self) -> str:
        return f"port {self.number} of {self.address}" if self.address else f"port {self.number}"


class Tool(ABC):
    """A program that can cut a port off."""

    name: str
    package: str

    def lacking(self, host: Host) -> Obstacle | None:
        """Return what a machine says against it, tried in a network namespace that goes with the trial, or None."""
        trial = Port(number=9, address=None, cut="drop")
        script = " && ".join(shlex.join(command) for command in self.commands(trial, "trial"))
        result = host.run(("unshare", "--net", "sh", "-c", script), timeout=_TRIAL_LIMIT)
        remedy = f"run as root; apt-get install {self.package}"
        return None if result.ok else Obstacle(f"the port cannot be cut: {result.problem}", remedy)

    def unfit(self, cut: Cut) -> Obstacle | None:
        """Return that it cannot cut in such a way, or None."""
        return None

    @abstractmethod
    def commands(self, port: Port, mark: str) -> list[Sequence[str]]:
        """Return the commands that cut the port off; `mark` is in the name of all that they make."""

    @abstractmethod
    def remove(self, port: Port, mark: str) -> tuple[str, ...]:
        """Return the command that takes away whatever of it is there."""


class Nft(Tool):
    """A table of our own, made in one transaction: it is there as a whole, or not at all."""

    name = package = "nftables"

    def commands(self, port: Port, mark: str) -> list[Sequence[str]]:
        table = f"inet {_table(mark)}"
        verdict = "reject with tcp reset" if port.cut == "reject" else "drop"
        match = ""
        if port.address is not None:
            match = f"{'ip' if port.address.version == 4 else 'ip6'} daddr {port.address} "
        parts = [f"create table {table}"]
        for hook in port.hooks:
            parts.append(f"add chain {table} {hook} {{ type filter hook {hook} priority mangle; policy accept; }}")
            parts.append(f"add rule {table} {hook} {match}tcp dport {port.number} counter {verdict}")
        return [("nft", "; ".join(parts))]

    def remove(self, port: Port, mark: str) -> tuple[str, ...]:
        return (*_COMMAND, "remove", "--table", _table(mark))


class Iptables(Tool):
    """A chain of our own in the mangle table, and jumps to it."""

    name = package = "iptables"

    def unfit(self, cut: Cut) -> Obstacle | None:
        if cut == "reject":
            return Obstacle(
                "iptables rejects only in its filter table, after the rules that stand there",
                "cut_by: drop, or apt-get install nftables",
            )
        return None

    def commands(self, port: Port, mark: str) -> list[Sequence[str]]:
        to = ("-d", str(port.address)) if port.address else ()
        packets = (*to, "-p", "tcp", "--dport", str(port.number), "-m", "comment", "--comment", f"chaoslab {mark}")
        commands: list[Sequence[str]] = []
        for tool in (_TOOLS[version] for version in port.versions):
            commands.append((tool, *_MANGLE, "-N", _chain(mark)))
            commands.append((tool, *_MANGLE, "-A", _chain(mark), "-j", "DROP"))
            # Ahead of the user's own rules: one that accepts would keep packets from ours.
            commands += [(tool, *_MANGLE, "-I", hook.upper(), *packets, "-j", _chain(mark)) for hook in port.hooks]
        return commands

    def remove(self, port: Port, mark: str) -> tuple[str, ...]:
        tools = (part for version in port.versions for part in ("--tool", _TOOLS[version]))
        return (*_COMMAND, "remove", "--chain", _chain(mark), *tools)


def mark_of(token: str) -> str:
    """Return the short name that all of one fault carries."""
    return hashlib.sha256(token.encode()).hexdigest()[:8]


def _table(mark: str) -> str:
    return f"chaoslab_{mark}"


def _chain(mark: str) -> str:
    return f"CHAOSLAB-{mark}"

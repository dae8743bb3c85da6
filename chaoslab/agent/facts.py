"""What there is where a fault would act: cores, memory, room on a disk, programs, privileges, network.

    python -m chaoslab.agent.facts [--folder DIR] [--program NAME]…

prints it as JSON. Cores and memory are what a process in this one's control groups can get.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaoslab.agent import cgroups
from chaoslab.agent.processes import boot_id

_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder, whether it exists, the type of its file system, and the bytes that are free there."""

    path: str
    exists: bool
    filesystem: str
    free: int

    @property
    def in_memory(self) -> bool:
        """Whether nothing that is written there reaches a disk."""
        return self.filesystem in _IN_MEMORY


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a place has. Memory is in bytes, `capabilities` the effective set of capabilities(7) as a number.

    `machine` is equal for two places exactly when they are one boot of one kernel and one network; `programs` are those
    that were asked for and are there, with their paths; `groups` are the control groups.
    """

    python: str
    kernel: str
    machine: str
    cores: float
    memory_total: int
    memory_available: int
    capabilities: int
    folder: Folder
    programs: dict[str, str]
    interfaces: tuple[str, ...]
    addresses: tuple[str, ...]
    groups: tuple[str, ...]

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Facts:
        """Return the facts that this command printed.

        Raises:
            KeyError, TypeError: they are no such facts.
        """
        lists = {name: tuple(fields[name]) for name in ("interfaces", "addresses", "groups")}
        return cls(**fields | lists | {"folder": Folder(**fields["folder"])})


def collect(folder: str = "", programs: Sequence[str] = ()) -> Facts:
    """Return what there is here; without a name the folder is a temporary one, on a disk where there is one."""
    memory = _numbers("/proc/meminfo")
    return Facts(
        python=platform.python_version(),
        kernel=platform.release(),
        machine=_machine(),
        cores=cgroups.cores(),
        memory_total=min(memory["MemTotal"] * 1024, cgroups.memory_limit()),
        memory_available=min(memory["MemAvailable"] * 1024, cgroups.memory_left()),
        capabilities=int(_field("/proc/self/status", "CapEff"), 16),
        folder=_described(Path(folder)) if folder else _usual_folder(),
        programs={name: path for name in programs if (path := shutil.which(name))},
        interfaces=tuple(name for _, name in socket.if_nameindex()),
        addresses=tuple(sorted({*_ipv4(), *_ipv6()})),
        groups=tuple(map(str, cgroups.of())),
    )


def _machine() -> str:
    return f"{boot_id()} {Path('/proc/self/ns/net').readlink()}"


def _field(file: str, name: str) -> str:
    lines = Path(file).read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _numbers(file: str) -> dict[str, int]:
    lines = (line.replace(":", "").split() for line in Path(file).read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines}


def _usual_folder() -> Folder:
    usual = _described(Path(tempfile.gettempdir()))
    return _described(Path("/var/tmp")) if usual.in_memory else usual


def _described(folder: Path) -> Folder:
    folder = folder.absolute()
    if not folder.is_dir():
        return Folder(path=str(folder), exists=False, filesystem="", free=0)
    return Folder(
        path=str(folder), exists=True, filesystem=_filesystem(folder.resolve()), free=shutil.disk_usage(folder).free
    )


def _filesystem(folder: Path) -> str:
    """Return the type of the file system that `folder` lies on; of mounts upon each other the last one counts."""
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mounts[Path(before.split()[4].encode().decode("unicode_escape"))] = after.split()[0]
    return next((mounts[parent] for parent in (folder, *folder.parents) if parent in mounts), "")


def _ipv4() -> set[str]:
    """Return this network's own addresses, from the kernel's routing trie: each is the leaf of a "/32 host LOCAL"."""
    found, leaf = set(), ""
    for line in _lines("/proc/net/fib_trie"):
        words = line.split()
        if words[0] == "|--":
            leaf = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            found.add(leaf)
    return found


def _ipv6() -> set[str]:
    packed = (bytes.fromhex(line.split()[0]) for line in _lines("/proc/net/if_inet6"))
    return {socket.inet_ntop(socket.AF_INET6, address) for address in packed}


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text().splitlines()
    except OSError:  # a kernel without that protocol
        return []


def main(argv: Sequence[str]) -> int:
    """Print the facts."""
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.facts")
    parser.add_argument("--folder", default="")
    parser.add_argument("--program", action="append", default=[])
    options = parser.parse_args(argv)
    print(json.dumps(asdict(collect(options.folder, options.program))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

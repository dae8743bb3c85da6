"""A container of this machine: our own tools, in its control groups and its network.

Nothing need be in its image, and nothing is put there; entering it takes root.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import ClassVar, Final
from urllib.parse import urlsplit

from chaoslab.agent import containers, processes
from chaoslab.agent.launch import module_of
from chaoslab.errors import UsageError
from chaoslab.hosts.local import Host, LocalHost, addresses_of

_PROCESSES: Final = "chaoslab.agent.processes"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class DockerHost(Host):
    """The container `container`, as it was found."""

    prefix: ClassVar[str] = "docker:"

    container: containers.Container

    @classmethod
    def found(cls, name: str) -> DockerHost:
        """Return the host "docker:NAME".

        Raises:
            UsageError: no such container runs on this machine, Docker does not answer, or we may not enter.
        """
        try:
            host = cls(containers.find(name.removeprefix(cls.prefix)))
        except (containers.NotRunning, containers.EngineError) as error:
            raise UsageError(f"the host {name!r} cannot be used: {error}") from error
        if os.geteuid() != 0:
            raise UsageError(f"the host {name!r} cannot be used: entering a container takes root; run as root")
        host.facts()
        return host

    @property
    def name(self) -> str:  # type: ignore[override]
        """What a scenario calls it."""
        return f"{self.prefix}{self.container.name}"

    @property
    def place(self) -> str:  # type: ignore[override]
        """What it is called in a sentence."""
        return f"the container {self.container.name}"

    @property
    def machine(self) -> Host:
        """This machine."""
        return LocalHost()

    def reach(self, argv: Sequence[str], *, token: str = "", undo: bool = False) -> tuple[str, ...]:
        """Return the command that runs `argv` in the container's control groups and network.

        What only looks for processes stays outside: from there they are seen, also when the container has gone.
        """
        if module_of(argv) == _PROCESSES:
            return tuple(argv)
        options = ("--container", self.container.name, "--network", *(("--undo",) if undo else ()))
        return (sys.executable, "-m", "chaoslab.agent.within", *options, "--", *argv)

    def serves(self, url: str) -> bool:
        """Whether `url` leads to the container's own address, or to a port of this machine that is the container's."""
        found, parts = addresses_of(url), urlsplit(url)
        if found and found <= frozenset(self.container.addresses):
            return True
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        return LocalHost().serves(url) and (self._listens(port) or all(self._publishes(way, port) for way in found))

    def _listens(self, port: int) -> bool:
        if self.container.own_network:
            return False
        found = processes.listener(port)
        return found is not None and self.container.holds(found)

    def _publishes(self, address: str, port: int) -> bool:
        outside = [where for where, number in self.container.published if number == port]
        return any(ip_address(where).is_unspecified or where == address for where in outside)

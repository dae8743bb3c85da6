"""Another machine, over OpenSSH: the user's own configuration, keys and known hosts; nothing is installed there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

from chaoslab.agent.facts import collect
from chaoslab.errors import UsageError
from chaoslab.hosts.local import Host, LocalHost, Unreachable, addresses_of

CONFIG_VARIABLE: Final = "CHAOSLAB_SSH_CONFIG"
"""Names a configuration file for ssh (its -F), in place of the user's own."""

_DESTINATION: Final = re.compile(r"(?:[\w.][\w.+-]*@)?[\w:.][\w.:%-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshHost(Host):
    """The machine that ssh calls `destination` ([user@]host); `port` and `config` override the user's own."""

    prefix: ClassVar[str] = "ssh://"

    name: str
    destination: str
    port: int | None = None
    config: str | None = None

    @classmethod
    def reached(cls, name: str) -> SshHost:
        """Return the host "ssh://[USER@]HOST[:PORT]", once it has answered.

        Raises:
            UsageError: `name` is not of that form, or the machine cannot be used; the message has ssh's own words.
        """
        host = cls.named(name)
        try:
            host.facts()
        except Unreachable as error:
            raise UsageError(f"the host {name!r} cannot be used: {_explained(str(error))}") from error
        return host

    @classmethod
    def named(cls, name: str) -> SshHost:
        """Return the host of that name; nothing is asked yet.

        Raises:
            UsageError: `name` is not of that form, or names a password.
        """
        try:
            parts = urlsplit(name)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"the host {name!r} is not accepted: {error}") from error
        user = f"{parts.username}@" if parts.username else ""
        destination = f"{user}{parts.hostname or ''}"
        if not _DESTINATION.fullmatch(destination) or parts.password or parts.path.strip("/") or parts.query:
            raise UsageError(f"the host {name!r} is not accepted; accepted: ssh://[USER@]HOST[:PORT]")
        config = os.environ.get(CONFIG_VARIABLE)
        return cls(
            name=name, destination=destination, port=port, config=str(Path(config).resolve()) if config else None
        )

    @property
    def place(self) -> str:  # type: ignore[override]
        """What it is called in a sentence."""
        return f"the machine {self.destination}"

    def reach(self, argv: Sequence[str], *, token: str = "", undo: bool = False) -> tuple[str, ...]:
        """Return the command that runs `argv` there."""
        config = ("--config", self.config) if self.config else ()
        port = ("--port", str(self.port)) if self.port else ()
        marked = ("--mark", token) if token else ()
        options = (*config, *port, *marked, self.destination)
        return (sys.executable, "-m", "chaoslab.agent.ssh", *options, "--", *argv)

    def serves(self, url: str) -> bool:
        """Whether the addresses of `url` are that machine's own, or it is this machine and they are this one's."""
        facts = self.facts()
        if facts.machine == collect().machine:
            return LocalHost().serves(url)
        found = addresses_of(url)
        return bool(found) and found <= frozenset(facts.addresses) and not LocalHost().serves(url)


def _explained(problem: str) -> str:
    """Return ssh's last words with what would help."""
    if "python3" in problem and "(ended with 127)" in problem:
        return f"{problem}; install Python 3.11 or newer there"
    if "Host key verification failed" in problem:
        return f"{problem}; connect once with ssh, and accept its key"
    if "Permission denied" in problem:
        return f"{problem}; give ssh a key that it need not ask for"
    return problem

"""What no network fault may hit: the ways by which a fault is undone, and by which its operator is there to do it.

These are ssh, Docker's API, and the ports by which a Jupyter kernel that we run in is spoken to. The proxy needs no
entry: it is asked over a Unix socket, and touches nobody's packets but the prober's.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil

from chaoslab.agent import process_table
from chaoslab.faults.base import Obstacle
from chaoslab.faults.traffic import Address, Traffic
from chaoslab.hosts import DockerHost, Host, SshHost

_SSH: Final = 22
_DOCKER: Final = (2375, 2376)
_ASK_LIMIT: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifeline:
    """A connection that must last: a TCP port, the address at its other end (None: any), and what it is for."""

    port: int
    address: Address | None
    what: str

    def hit_by(self, hit: Traffic) -> bool:
        """Whether some of its packets are among those."""
        in_reach = self.address is None or any(self.address in network for network in hit.networks)
        if hit.port is None:
            # All packets between here and somewhere: the port of ssh alone says nothing of who is connected.
            return self.address is not None and in_reach
        return hit.port == self.port and in_reach


def endangered(hit: Traffic, host: Host) -> Obstacle | None:
    """Return which lifeline a fault that hits such packets on `host` would cut, or None."""
    cut = next((line for line in lifelines(host) if line.hit_by(hit)), None)
    if cut is None:
        return None
    return Obstacle(
        f"it would hit {cut.what} (port {cut.port}), by which the fault is undone, or its operator is there",
        "name other packets: parameters.port, parameters.address",
    )


def lifelines(host: Host) -> Iterator[Lifeline]:
    """Yield what must last on a host; nothing in a container with a network of its own, which is entered without it."""
    if isinstance(host, DockerHost) and host.container.own_network:
        return
    yield Lifeline(port=_SSH, address=None, what="ssh")
    yield from (Lifeline(port=port, address=None, what="Docker's API") for port in _DOCKER)
    if isinstance(host, SshHost):
        yield Lifeline(port=host.port or _SSH, address=None, what=f"the way to {host.place}")
        shown = host.run(("printenv", "SSH_CONNECTION"), timeout=_ASK_LIMIT)
        yield from _of_session(shown.stdout if shown.ok else "")
        return
    yield from _of_session(os.environ.get("SSH_CONNECTION", ""))
    yield from _ssh_sessions()
    yield from _docker_host(os.environ.get("DOCKER_HOST", ""))
    yield from _kernels()


def _of_session(variable: str) -> Iterator[Lifeline]:
    """Yield the session that ssh(1) describes in SSH_CONNECTION: client address and port, server address and port."""
    words = variable.split()
    if len(words) == 4:
        yield _session(words[0], int(words[3]))


def _session(client: str, port: int) -> Lifeline:
    address = ipaddress.ip_address(client.removeprefix("::ffff:").partition("%")[0])
    return Lifeline(port=port, address=address, what=f"the ssh session from {client}")


def _ssh_sessions() -> Iterator[Lifeline]:
    """Yield the sessions that anybody has open here: sudo and cron hide their variable."""
    for connection in psutil.net_connections("tcp"):
        near, far = connection.laddr, connection.raddr
        if connection.status == psutil.CONN_ESTABLISHED and near and far and near.port == _SSH:
            yield _session(far.ip, _SSH)


def _docker_host(variable: str) -> Iterator[Lifeline]:
    parts = urlsplit(variable)
    if parts.scheme == "tcp" and parts.hostname:
        yield Lifeline(port=parts.port or _DOCKER[0], address=None, what="Docker's API")


def _kernels() -> Iterator[Lifeline]:
    """Yield the ports of the Jupyter kernel that we run in or below, and of the server that holds it."""
    table = process_table.look()
    own = [process for process in (table.get(os.getpid()), *process_table.ancestors(table, os.getpid())) if process]
    files = [Path(word) for process in own for word in process.arguments.split() if word.endswith(".json")]
    for file in files:
        connection = _read(file)
        for name, port in connection.items():
            if name.endswith("_port") and isinstance(port, int):
                yield from _loopback(port, "the Jupyter kernel that this runs in")
    for file in (folder / f"jpserver-{process.pid}.json" for folder in {f.parent for f in files} for process in own):
        if isinstance(port := _read(file).get("port"), int):
            yield from _loopback(port, "the Jupyter server that this runs in")


def _loopback(port: int, what: str) -> Iterator[Lifeline]:
    for address in ("127.0.0.1", "::1"):
        yield Lifeline(port=port, address=ipaddress.ip_address(address), what=what)


def _read(file: Path) -> Mapping[str, object]:
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}

"""Containers of this machine, as the Docker engine describes them over its socket.

The standard library alone, so that it works on another machine too: one request, `GET /containers/NAME/json` of the
Docker Engine API.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

_SOCKET: Final = "/var/run/docker.sock"
_LIMIT: Final = 5.0
_MOUNTED_BY_DOCKER: Final = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")


class EngineError(Exception):
    """The engine does not answer, or not with what was asked."""


class NotRunning(Exception):
    """There is no such container, or it does not run; the message says what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A running container: its first process as this machine sees it, its addresses, and its published ports.

    `published` are the addresses and ports of this machine that lead into it; `own_network` is False for one that has
    this machine's.
    """

    id: str
    name: str
    pid: int
    addresses: tuple[str, ...]
    published: tuple[tuple[str, int], ...]
    own_network: bool = True

    def holds(self, pid: int) -> bool:
        """Whether a process of this machine is one of the container's."""
        try:
            return self.id in Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            return False


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=_LIMIT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_LIMIT)
        self.sock.connect(self._path)


def is_ours(container_id: str) -> bool:
    """Whether this process runs in that container: its control groups name it, or the files that Docker mounts do."""
    texts = (Path(f"/proc/self/{name}") for name in ("cgroup", "mountinfo"))
    # What a container mounts lies below a folder of its id; the host sees such mounts of all of them, but not at /etc.
    groups, mounts = (text.read_text() for text in texts)
    lines = [line for line in mounts.splitlines() if line.split()[4] in _MOUNTED_BY_DOCKER]
    return container_id in groups or any(container_id in line for line in lines)


def find(name: str) -> Container:
    """Return the running container `name` (or id) of this machine.

    Raises:
        NotRunning: there is none.
        EngineError: the engine cannot be asked, or is another machine's.
    """
    status, found = _ask(f"/containers/{quote(name, safe='')}/json")
    if status == http.client.NOT_FOUND:
        raise NotRunning(f"there is no container {name!r}; running: {', '.join(_running()) or 'none'}")
    if status != http.client.OK:
        raise EngineError(f"the Docker engine answers {status}: {found.get('message', '')}")
    pid = int(found["State"]["Pid"])
    if not pid:
        raise NotRunning(f"the container {name!r} is {found['State']['Status']}, not running")
    container = Container(
        id=found["Id"],
        name=found["Name"].lstrip("/"),
        pid=pid,
        addresses=_addresses(found["NetworkSettings"]),
        published=_published(found["NetworkSettings"]),
        own_network=found["HostConfig"]["NetworkMode"] != "host",
    )
    if not container.holds(pid):  # an engine elsewhere counts its own processes
        raise EngineError(f"the container {name!r} is not one of this machine")
    return container


def _running() -> list[str]:
    _, listed = _ask("/containers/json")
    return sorted(entry["Names"][0].lstrip("/") for entry in listed)


def _ask(path: str) -> tuple[int, Any]:
    connection = _Connection(_socket_path())
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EngineError(f"the Docker engine does not answer: {error}; start dockerd, or join its group") from error
    finally:
        connection.close()


def _socket_path() -> str:
    scheme, _, path = os.environ.get("DOCKER_HOST", f"unix://{_SOCKET}").partition("://")
    if scheme != "unix":
        raise EngineError(f"DOCKER_HOST is {scheme}://{path}, another machine; accepted: unix://SOCKET")
    return path


def _addresses(network: dict[str, Any]) -> tuple[str, ...]:
    fields = ("IPAddress", "GlobalIPv6Address")
    found = (part[field] for part in (network.get("Networks") or {}).values() for field in fields)
    return tuple(dict.fromkeys(address for address in found if address))


def _published(network: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    bound = (entry for outside in (network.get("Ports") or {}).values() for entry in outside or ())
    return tuple((entry["HostIp"], int(entry["HostPort"])) for entry in bound)

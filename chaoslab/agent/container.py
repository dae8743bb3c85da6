"""A Docker container as a victim, through the Docker Engine API.

    python -m chaoslab.agent.container kill ID --signal NAME
    python -m chaoslab.agent.container stop | restart ID --grace SECONDS
    python -m chaoslab.agent.container pause ID
    python -m chaoslab.agent.container look ID       print {"status", "pid", "started_at"}
    python -m chaoslab.agent.container up ID [--life STARTED_AT --patience SECONDS]
                                                     exit 0 once it runs: unpaused, or started if nothing else does soon

A container is known by its ID: another one that has taken over its name is another one. One that was removed cannot be
brought back; `up` then fails, and says so. The life that began at STARTED_AT counts only when it still lasts after the
patience: it may be ending on a request whose sender is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from chaoslab.agent.patience import comes_about

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_HOST_VARIABLE: Final = "DOCKER_HOST"
_DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
_FIRST_ANSWER_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 15
_UP_SECONDS: Final = 20.0
_STEADY_SECONDS: Final = 0.1
_POLICY_SECONDS: Final = 0.3
_REMOVED: Final = ("removing", "dead")


class NoEngine(Exception):
    """No Docker engine answers, or it does not do what it was asked."""


class Lost(Exception):
    """A container was removed: nothing brings it back."""


@contextmanager
def engine() -> Iterator[DockerClient]:
    """Yield a client of the engine that DOCKER_HOST names.

    Raises:
        NoEngine: none answers, or it refuses what it is asked meanwhile.
    """
    _require_answer(os.environ.get(_HOST_VARIABLE) or _DEFAULT_HOST)
    import docker
    from docker.errors import DockerException

    try:
        with closing(docker.from_env(timeout=_ANSWER_SECONDS)) as client:
            yield client
    except (DockerException, OSError) as error:
        raise NoEngine(f"Docker: {getattr(error, 'explanation', None) or error}") from error


def _require_answer(host: str) -> None:
    """Ask a local engine for a sign of life: the docker package leaves a socket open where there is none."""
    scheme, _, path = host.partition("://")
    if scheme not in ("unix", "http+unix"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_FIRST_ANSWER_SECONDS)
        try:
            connection.connect(path)
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            answered = bool(connection.recv(1))
        except OSError as error:
            raise NoEngine(f"Docker does not answer at {host}: {error.strerror or error}") from error
        if not answered:
            raise NoEngine(f"Docker does not answer at {host}: it hangs up")


def look(client: DockerClient, name: str) -> dict[str, Any]:
    """Return how a container stands; its status is "removed" where there is none."""
    from docker.errors import NotFound

    try:
        container = client.containers.get(name)
    except NotFound:
        return {"status": "removed", "pid": 0, "started_at": ""}
    state = container.attrs["State"]
    return {"status": container.status, "pid": state["Pid"], "started_at": state["StartedAt"]}


def bring_up(client: DockerClient, name: str, *, life: str = "", patience: float = 0.0) -> None:
    """See that a container runs, and goes on running for a moment: Docker hears of a death a little later.

    Of the `life` that was to be ended the moment is `patience` seconds.

    Raises:
        Lost: it was removed.
        NoEngine: it does not run in time.
    """
    steadily, limit = _Steadily(client, name, {life: patience}), _UP_SECONDS + patience
    if not comes_about(steadily.runs, seconds=limit):
        raise NoEngine(f"the container {name} does not run after {limit:g} s: {look(client, name)['status']}")


class _Steadily:
    """Whether a container runs in one life for a moment, and what helps where it does not."""

    def __init__(self, client: DockerClient, name: str, patience: Mapping[str, float]) -> None:
        self._client, self._name, self._patience = client, name, patience
        self._policy_until = time.monotonic() + _POLICY_SECONDS
        self._life, self._since = "", 0.0

    def runs(self) -> bool:
        container = self._helped()
        if container is None or container.status != "running":
            self._life = ""
            return False
        life, now = container.attrs["State"]["StartedAt"], time.monotonic()
        if life != self._life:
            self._life, self._since = life, now
        return now - self._since >= self._patience.get(life, _STEADY_SECONDS)

    def _helped(self) -> Container | None:
        """Return the container after whatever brings it nearer to running; None where it is just changing."""
        from docker.errors import APIError, NotFound

        try:
            container: Container = self._client.containers.get(self._name)
            self._help(container)
            container.reload()
        except NotFound:
            raise Lost(f"the container {self._name} was removed meanwhile, and cannot be brought back") from None
        except APIError as error:
            if error.status_code == 409:  # somebody else may be bringing it up
                return None
            raise
        return container

    def _help(self, container: Container) -> None:
        if container.status in _REMOVED:
            raise Lost(f"the container {self._name} is being removed, and cannot be brought back")
        if container.status == "paused":
            container.unpause()
        elif container.status in ("exited", "created"):
            container.start()
        elif container.status == "restarting" and time.monotonic() > self._policy_until:
            # Docker lets a container that keeps dying wait, twice as long each time, up to a minute.
            container.restart(timeout=1)


def _obey(client: DockerClient, options: argparse.Namespace) -> None:
    match options.command:
        case "look":
            print(json.dumps(look(client, options.id)))
        case "up":
            bring_up(client, options.id, life=options.life, patience=options.patience)
        case "kill":
            client.containers.get(options.id).kill(f"SIG{options.signal}")
        case "pause":
            client.containers.get(options.id).pause()
        case "stop":
            client.containers.get(options.id).stop(timeout=options.grace)
        case "restart":
            client.containers.get(options.id).restart(timeout=options.grace)


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.container")
    commands = parser.add_subparsers(dest="command", required=True)
    made = {name: commands.add_parser(name) for name in ("kill", "stop", "restart", "pause", "look", "up")}
    for command in made.values():
        command.add_argument("id")
    made["kill"].add_argument("--signal", required=True)
    made["up"].add_argument("--life", default="")
    made["up"].add_argument("--patience", type=float, default=_STEADY_SECONDS)
    for name in ("stop", "restart"):
        made[name].add_argument("--grace", type=int, required=True)
    options = parser.parse_args(argv)
    try:
        with engine() as client:
            _obey(client, options)
    except (NoEngine, Lost) as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

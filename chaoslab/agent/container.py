"""A Docker container as a victim, through the Docker Engine API.

    python -m chaoslab.agent.container kill ID --signal NAME
    python -m chaoslab.agent.container stop | restart ID --grace SECONDS
    python -m chaoslab.agent.container pause ID
    python -m chaoslab.agent.container look ID       print {"status", "pid", "started_at"}
    python -m chaoslab.agent.container up ID         exit 0 once it runs: unpaused, or started if nothing else does

A container is known by its ID: another one that has taken over its name is another one. One that was removed cannot be
brought back; `up` then fails, and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from chaoslab.agent.patience import comes_about

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_HOST_VARIABLE: Final = "DOCKER_HOST"
_DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
_FIRST_ANSWER_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 15
_UP_SECONDS: Final = 20.0
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


def bring_up(client: DockerClient, name: str) -> None:
    """See that a container runs.

    Raises:
        Lost: it was removed.
        NoEngine: it does not run in time.
    """
    if not comes_about(lambda: _is_up(client, name), seconds=_UP_SECONDS):
        raise NoEngine(f"the container {name} does not run after {_UP_SECONDS:g} s: {look(client, name)['status']}")


def _is_up(client: DockerClient, name: str) -> bool:
    from docker.errors import APIError, NotFound

    try:
        container: Container = client.containers.get(name)
        if container.status in _REMOVED:
            raise Lost(f"the container {name} is being removed, and cannot be brought back")
        if container.status == "paused":
            container.unpause()
        elif container.status in ("exited", "created"):
            container.start()
        container.reload()
    except NotFound:
        raise Lost(f"the container {name} was removed meanwhile, and cannot be brought back") from None
    except APIError as error:
        if error.status_code == 409:  # it is just changing: somebody else may be bringing it up
            return False
        raise
    return bool(container.status == "running")


def _obey(client: DockerClient, options: argparse.Namespace) -> None:
    match options.command:
        case "look":
            print(json.dumps(look(client, options.id)))
        case "up":
            bring_up(client, options.id)
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

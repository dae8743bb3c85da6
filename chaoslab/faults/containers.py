"""Docker containers as victims: what keeps one from being hit, and the steps that hit it.

The commands run here, whatever the scenario's host: they speak to the engine that DOCKER_HOST names.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

from chaoslab.agent.container import NoEngine, engine
from chaoslab.agent.containers import is_ours
from chaoslab.agent.processes import Identity, boot_id, identify
from chaoslab.errors import NotDelivered
from chaoslab.faults.base import Obstacle, Reading
from chaoslab.faults.victims import VICTIM, dying_seconds
from chaoslab.journal import Step

Action = Literal["kill", "stop", "pause", "restart"]

DEFAULT_GRACE: Final = 10
UNDO_LIMIT: Final = 30.0

_COMMAND: Final = (sys.executable, "-m", "chaoslab.agent.container")
_RESTARTING: Final = ("always", "unless-stopped", "on-failure")
_LONGEST_CALL: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A running container. `pid` is that of its first process, as the engine's machine numbers it."""

    id: str
    name: str
    pid: int
    restart_policy: str
    is_removed_when_stopped: bool
    stop_signal: str
    started_at: str

    @property
    def is_restarted(self) -> bool:
        """Whether Docker starts it again when it ends by itself."""
        return self.restart_policy in _RESTARTING

    @property
    def touched(self) -> dict[str, Any]:
        """Which one it is, for the journal."""
        return {"container": self.name, "id": self.id, "pid": self.pid, "restart_policy": self.restart_policy}

    @property
    def first_process(self) -> Identity | None:
        """Its first process where it is on this machine: a remote engine's pids mean other processes here."""
        try:
            os.kill(self.pid, 0)
            belongs = self.id in Path(f"/proc/{self.pid}/cgroup").read_text()
        except OSError:
            return None
        return identify(self.pid) if belongs else None


def no_docker() -> Obstacle | None:
    """Return what keeps us from the Docker engine, or None."""
    if find_spec("docker") is None:
        return Obstacle("the Python package docker is not installed", "pip install 'chaoslab[docker]'")
    try:
        with engine() as client:
            client.ping()
    except NoEngine as problem:
        return Obstacle(str(problem), "start dockerd, or join its group: usermod -aG docker $USER")
    return None


def running(name: str) -> Container:
    """Return the running container `name` (or id).

    Raises:
        NotDelivered: there is none, it does not run, or chaoslab itself runs in it.
    """
    from docker.errors import NotFound

    try:
        with engine() as client:
            try:
                found = client.containers.get(name)
            except NotFound:
                known = ", ".join(sorted(other.name for other in client.containers.list())) or "none"
                raise NotDelivered(f"there is no container {name!r}; running: {known}") from None
    except NoEngine as problem:
        raise NotDelivered(str(problem)) from problem
    if found.status != "running":
        raise NotDelivered(f"the container {name!r} is {found.status}, not running")
    if is_ours(found.id):
        raise NotDelivered(f"the container {name!r} can be no victim: chaoslab itself runs in it")
    return _container(found.attrs)


def _container(attributes: dict[str, Any]) -> Container:
    host = attributes["HostConfig"]
    return Container(
        id=attributes["Id"],
        name=attributes["Name"].removeprefix("/"),
        pid=int(attributes["State"]["Pid"]),
        restart_policy=host["RestartPolicy"]["Name"] or "no",
        is_removed_when_stopped=bool(host["AutoRemove"]),
        stop_signal=attributes["Config"].get("StopSignal") or "SIGTERM",
        started_at=attributes["State"]["StartedAt"],
    )


def not_reversible(container: Container, action: Action) -> Obstacle | None:
    """Return that the container would not survive `action`, or None."""
    if action in ("kill", "stop") and container.is_removed_when_stopped:
        return Obstacle(
            f"the container {container.name!r} was made with --rm: it goes with its end, and cannot be brought back",
            "use action: pause or restart, or make it without --rm",
        )
    return None


def step(
    container: Container, action: Action, *, token: str, signal: str = "KILL", grace: int = DEFAULT_GRACE, **fields: Any
) -> Step:
    """Return the step that does `action` through the engine; its undo sees that the container runs, unpaused."""
    options = {"kill": ("--signal", signal), "pause": ()}.get(action, ("--grace", str(grace)))
    patience = 0.0 if action == "pause" else grace + 0.5 if action in ("stop", "restart") else dying_seconds(signal)
    return Step(
        name=f"{action} of container {container.name}",
        do=(*_COMMAND, action, container.id[:12], *options),
        undo=_up(container, patience),
        evidence=fields.pop("evidence", look(container)),
        token=token,
        do_limit=grace + _LONGEST_CALL,
        undo_limit=UNDO_LIMIT + patience,
        touches=container.touched,
        **fields,
    )


def crash(container: Container, victim: Identity, signal: str, *, token: str, **fields: Any) -> Step:
    """Return the step that ends the first process from outside.

    Docker takes its own `kill` for the user's will and lets the restart policy rest: a crash comes from outside.
    """
    return Step(
        name=f"crash of container {container.name}",
        do=(*VICTIM, "kill", str(victim.pid), str(victim.start_ticks), "--boot", boot_id(), "--signal", signal),
        undo=_up(container, dying_seconds(signal)),
        touches=container.touched,
        evidence=look(container),
        token=token,
        undo_limit=UNDO_LIMIT,
        **fields,
    )


def _up(container: Container, patience: float) -> tuple[str, ...]:
    """Return the undo; the life that was to end is believed in only after `patience` seconds."""
    life = ("--life", container.started_at, "--patience", f"{patience:g}") if patience else ()
    return (*_COMMAND, "up", container.id[:12], *life)


def look(container: Container) -> tuple[str, ...]:
    """Return the command that prints how the container stands."""
    return (*_COMMAND, "look", container.id[:12])


def runs(reading: Reading) -> bool | None:
    """Whether a reading of `look` shows the container running; None where Docker did not say."""
    status = reading.data.get("status")
    return None if status is None or reading.exit_code != 0 else bool(status == "running")

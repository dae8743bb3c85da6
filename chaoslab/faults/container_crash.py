"""container_crash: the application is killed, and whatever supervises it brings it back.

    python -m chaoslab.faults.container_crash CONTAINER-COMMAND | PROCESS-COMMAND

    container restart NAME         Docker kills it and starts it again
    container changed NAME PID     exit 0 once the container's first process is another one, or none
    container up NAME              start it if nothing else does; exit 0 once it runs
    process kill PID TICKS         SIGKILL to that very process: a container's first one, or a supervised one
    process gone PID TICKS         exit 0 once that very process is gone
    process back FILE              exit 0 once the pid file names a living process

Dose: one kill; delivered when the victim, by pid and start time, is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field

from chaoslab.agent.processes import Identity, identify
from chaoslab.errors import NotDelivered
from chaoslab.faults.base import MARGIN_SECONDS, FailureType, Injection, Mechanism, Obstacle, Reading, Surroundings
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Parameters, Scenario

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_COMMAND = (sys.executable, "-m", "chaoslab.faults.container_crash")
_UNDO_LIMIT = 30.0
_BACK_LIMIT = 20.0


class CrashParameters(Parameters):
    """Victim of container_crash: a Docker container by name, or the supervised process of the target."""

    container: str | None = Field(default=None, description="Docker container, by name or id")


class ContainerCrash(Scenario):
    """The service's container or process is killed."""

    destructive_type: ClassVar[bool] = True

    type: Literal["container_crash"]
    parameters: CrashParameters = CrashParameters()


def _injection(mechanism: str, step: Step, how: str) -> Injection:
    def took_effect(readings: Sequence[Reading]) -> bool:
        return readings[-1].exit_code == 0

    def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
        gone = float(any(reading.exit_code == 0 for reading in readings))
        fixed = {
            "quantity": "kills of the application",
            "unit": "kills",
            "asked": 1.0,
            "low": 1.0,
            "high": 1.0,
        }
        return (Dose(**fixed, delivered=gone, how=how, mechanism=mechanism),)  # type: ignore[arg-type]

    return Injection(mechanism=mechanism, steps=(step,), took_effect=took_effect, doses=doses, over_when_done=True)


class DockerContainer(Mechanism):
    """A container, killed through the Docker Engine API."""

    name = "docker"

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if find_spec("docker") is None:
            return Obstacle("the Python package docker is not installed", "pip install 'chaoslab[docker]'")
        if isinstance(scenario, ContainerCrash) and scenario.parameters.container is None:
            return Obstacle("the scenario names no container", "set parameters.container")
        import docker.errors

        try:
            with _client() as client:
                if isinstance(scenario, ContainerCrash):
                    _running(client, scenario.parameters.container or "")
        except NotDelivered as refusal:
            return Obstacle(str(refusal))
        except docker.errors.DockerException as error:
            return Obstacle(f"Docker does not answer: {error}", "start dockerd, or join its group")
        return None

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert isinstance(scenario, ContainerCrash)
        name = scenario.parameters.container or ""
        with _client() as client:
            container = _running(client, name)
        pid = str(container.attrs["State"]["Pid"])
        # Docker takes its own `kill` for the user's will and lets the restart policy rest: a crash comes from outside.
        victim = _first_process(container) if _is_restarted(container) else None
        kill = ("process", "kill", str(victim.pid), str(victim.start_ticks)) if victim else ()
        step = Step(
            name=f"crash of container {name}" if victim else f"restart of container {name}",
            do=(*_COMMAND, *(kill or ("container", "restart", name))),
            undo=(*_COMMAND, "container", "up", name),
            evidence=(*_COMMAND, "container", "changed", name, pid),
            token=token,
            deadline=seconds + MARGIN_SECONDS,
            undo_limit=_UNDO_LIMIT,
        )
        mechanism = f"{self.name}, {'its restart policy' if victim else 'restarted by Docker'}"
        return _injection(mechanism, step, f"the first process of {name}, as Docker reports it, is another one")


class SupervisedProcess(Mechanism):
    """The process that a supervisor published."""

    name = "supervised process"

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if isinstance(scenario, ContainerCrash) and scenario.parameters.container is not None:
            return Obstacle("the scenario names a container")
        if scenario is None:
            return None
        if where.target is None:
            return Obstacle(
                f"{where.url} has not published how it is supervised",
                "name a container in parameters.container, or try it on `chaoslab demo --serve`",
            )
        return None

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert where.target is not None
        victim = read_pid_file(Path(where.target.pid_file))
        if victim is None or not victim.alive:
            raise NotDelivered(f"the pid file of {where.target.name} names no living process")
        identity = (str(victim.pid), str(victim.start_ticks))
        step = Step(
            name=f"kill of process {victim.pid}, {where.target.name}",
            do=(*_COMMAND, "process", "kill", *identity),
            undo=(*_COMMAND, "process", "back", where.target.pid_file),
            evidence=(*_COMMAND, "process", "gone", *identity),
            token=token,
            deadline=seconds + MARGIN_SECONDS,
            undo_limit=_UNDO_LIMIT,
        )
        return _injection(self.name, step, "the process, by pid and start time, is gone")


def read_pid_file(path: Path) -> Identity | None:
    """Return the process that a pid file ("PID START_TICKS") names, or None when it names none."""
    try:
        pid, ticks = path.read_text().split()
        return Identity(int(pid), int(ticks))
    except (OSError, ValueError):
        return None


def _is_back(file: Path) -> bool:
    supervised = read_pid_file(file)
    return supervised is not None and supervised.alive


def _is_restarted(container: Container) -> bool:
    return container.attrs["HostConfig"]["RestartPolicy"]["Name"] in (
        "always",
        "unless-stopped",
        "on-failure",
    )


def _first_process(container: Container) -> Identity | None:
    """Return the container's first process where it is ours to kill: on this machine, and really the container's.

    The Docker engine may be a remote one, whose pids mean other processes here.
    """
    pid = int(container.attrs["State"]["Pid"])
    try:
        os.kill(pid, 0)
        belongs = container.id in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    return identify(pid) if belongs else None


def _client() -> DockerClient:
    import contextlib

    import docker

    return contextlib.closing(docker.from_env(timeout=30))


def _running(client: DockerClient, name: str) -> Container:
    from docker.errors import NotFound

    try:
        container = client.containers.get(name)
    except NotFound:
        known = ", ".join(sorted(found.name for found in client.containers.list())) or "none"
        raise NotDelivered(f"there is no container {name!r}; running: {known}") from None
    if container.status != "running":
        raise NotDelivered(f"the container {name!r} is {container.status}, not running")
    return container


FAULT: Final = FailureType(scenario=ContainerCrash, mechanisms=(DockerContainer(), SupervisedProcess()))


def _container(command: str, name: str, pid: int = 0) -> int:
    with _client() as client:
        container = client.containers.get(name)
        match command:
            case "restart":
                container.restart(timeout=0)
            case "changed":
                return int(container.attrs["State"]["Pid"] == pid)
            case "up":
                if container.status == "exited":
                    container.start()
                return int(not _comes_about(lambda: _status(container) == "running"))
    return 0


def _status(container: Container) -> str:
    container.reload()
    status: str = container.status
    return status


def _comes_about(condition: Callable[[], bool]) -> bool:
    """Wait until `condition` holds; False when it has not for 20 s."""
    deadline = time.monotonic() + _BACK_LIMIT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _process(command: str, victim: Identity) -> int:
    if command == "kill":
        if not victim.send(signal.SIGKILL):
            print(f"process {victim.pid} is gone already: not ours to claim", file=sys.stderr)
            return 1
        return 0
    return int(victim.alive)


def _main(argv: Sequence[str]) -> int:
    match argv:
        case ["container", ("restart" | "up") as command, name]:
            return _container(command, name)
        case ["container", "changed", name, pid]:
            return _container("changed", name, int(pid))
        case ["process", ("kill" | "gone") as command, pid, ticks]:
            return _process(command, Identity(int(pid), int(ticks)))
        case ["process", "back", file]:
            return int(not _comes_about(lambda: _is_back(Path(file))))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

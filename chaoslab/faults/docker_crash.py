"""container_crash of a Docker container."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaoslab.errors import NotDelivered
from chaoslab.faults import containers, victims
from chaoslab.faults.base import Injection, Mechanism, Obstacle, Reading, Surroundings
from chaoslab.faults.containers import Action, Container
from chaoslab.faults.crash import DEFAULT_SIGNAL, CrashParameters, Recovery, asked_of
from chaoslab.faults.victims import death, outage
from chaoslab.journal import Step
from chaoslab.scenario import Scenario


class DockerContainer(Mechanism):
    """A container, through the Docker Engine API."""

    name = "docker"
    only_here = True

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if scenario is None:
            return containers.no_docker()
        asked = asked_of(scenario)
        if asked.container is None:
            return Obstacle("the scenario names no container", "set parameters.container")
        if (obstacle := containers.no_docker()) is not None:
            return obstacle
        try:
            container = containers.running(asked.container)
        except NotDelivered as refusal:
            return Obstacle(str(refusal))
        return containers.not_reversible(container, _action(container, asked)) or _no_policy(container, asked)

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        asked = asked_of(scenario)
        container = containers.running(asked.container or "")
        action = _action(container, asked)
        fields: dict[str, Any] = {"token": token, "deadline": victims.deadline(seconds)}
        if _recovery(container, asked) == "policy":
            return self._crash(container, container.stop_signal if action == "stop" else asked.signal, fields)
        # A restart that the scenario did not ask for in so many words stands for a crash, which asks nobody first.
        grace = asked.grace_seconds if asked.action else 0
        step = containers.step(container, action, signal=asked.signal, grace=grace, **fields)
        if action == "restart":
            return _container_death(container, step, f"{self.name}, restarted by Docker")
        return outage(
            mechanism=f"{self.name}, {action}",
            steps=(step,),
            is_there=containers.runs,
            quantity="application away",
            how=f"Docker says that {container.name} does not run",
            seconds=seconds,
            claim=f"container {container.name}",
        )

    def _crash(self, container: Container, signal: str, fields: dict[str, Any]) -> Injection:
        victim = container.first_process
        if victim is None:
            raise NotDelivered(f"the first process of {container.name} is gone, or not on this machine")
        step = containers.crash(container, victim, signal.removeprefix("SIG"), **fields)
        return _container_death(container, step, f"{self.name}, its restart policy")


def _container_death(container: Container, step: Step, mechanism: str) -> Injection:
    def is_dead(readings: Sequence[Reading]) -> bool:
        before, now = readings[0].data, readings[-1].data
        return "pid" in before and "pid" in now and before != now

    return death(
        mechanism=mechanism,
        step=step,
        is_dead=is_dead,
        how=f"the first process of {container.name}, as Docker reports it, is another one",
        claim=f"container {container.name}",
    )


def _action(container: Container, asked: CrashParameters) -> Action:
    """Return what is done where the scenario does not say: a kill, but a restart where only Docker would follow up."""
    if asked.action is not None:
        return asked.action
    says_nothing = asked.recovery is None and asked.signal == DEFAULT_SIGNAL
    return "restart" if says_nothing and _recovery(container, asked) == "us" else "kill"


def _recovery(container: Container, asked: CrashParameters) -> Recovery:
    if asked.recovery is not None:
        return asked.recovery
    by_itself = container.is_restarted and container.first_process is not None
    return "policy" if asked.action in ("kill", None) and by_itself else "us"


def _no_policy(container: Container, asked: CrashParameters) -> Obstacle | None:
    """Return that nothing brings the container back where its policy is asked to, or None."""
    if _recovery(container, asked) != "policy":
        return None
    if not container.is_restarted:
        return Obstacle(
            f"the container {container.name!r} has no restart policy",
            f"docker update --restart=always {container.name}",
        )
    if container.first_process is None:
        return Obstacle(
            f"the container {container.name!r} runs on another machine, where it cannot be killed from outside Docker",
            "use recovery: us",
        )
    return None

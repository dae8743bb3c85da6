"""What container_crash may be asked: which victim, what is done to it, and who brings it back."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from chaoslab.faults import containers
from chaoslab.faults.containers import Action
from chaoslab.faults.victims import ProcessChoice, SignalName
from chaoslab.scenario import Command, Parameters, Scenario

Recovery = Literal["policy", "us"]

DEFAULT_SIGNAL: Final = "KILL"


class CrashParameters(ProcessChoice, Parameters):
    """Victim and dose of container_crash; without a victim it is the supervised process that the target published."""

    container: str | None = Field(default=None, min_length=1, description="Docker container, by name or id")
    action: Action | None = Field(
        default=None,
        description="kill; stop (TERM, and KILL after the grace); pause (freeze); restart (containers only). Without "
        "it: kill, or restart for a container that nothing else would bring back",
    )
    signal: SignalName = Field(default=DEFAULT_SIGNAL, description="what action: kill sends, by name or number")
    grace_seconds: int = Field(
        default=containers.DEFAULT_GRACE, ge=0, le=60, description="patience of stop and restart"
    )
    recovery: Recovery | None = Field(
        default=None,
        description="who brings it back: policy (Docker's restart policy, or a supervisor), or us, when the injection "
        "is over. Without it: for a kill of a container its policy if it has one, else us",
    )
    start_command: Command | None = Field(
        default=None,
        description="argv that starts a process again, for recovery: us; needs --allow-commands or a trusted file",
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        named = [*(("container",) if self.container else ()), *self.ways]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} name two victims; one is accepted")
        if self.recovery == "policy" and self.action in ("pause", "restart"):
            raise ValueError(f"recovery: policy does not go with action: {self.action}: no policy is asked there")
        if self.recovery == "us" and self.action == "restart":
            raise ValueError("recovery: us does not go with action: restart, which brings it back at once")
        if self.signal != DEFAULT_SIGNAL and self.action not in ("kill", None):
            raise ValueError(f"signal goes with action: kill, not {self.action}")
        self._check_process()
        return self

    def _check_process(self) -> None:
        if self.container is not None:
            if self.start_command is not None:
                raise ValueError("start_command is for a process; a container is started by Docker")
            return
        if self.action == "restart":
            raise ValueError("action: restart is for a container; a process is killed, with recovery: policy or us")
        if self.action == "pause":
            return
        if self.recovery == "us" and self.start_command is None:
            raise ValueError("recovery: us needs a start_command: nothing else could bring the process back")
        if self.recovery == "policy" and self.start_command is not None:
            raise ValueError("recovery: policy and a start_command exclude each other")
        if self.ways and self.recovery is None and self.start_command is None:
            raise ValueError(
                "nothing would bring the process back; give recovery: policy where a supervisor does, "
                "or a start_command"
            )


class ContainerCrash(Scenario):
    """The service's container or process is killed, stopped, frozen or restarted."""

    destructive_type: ClassVar[bool] = True

    type: Literal["container_crash"]
    parameters: CrashParameters = CrashParameters()


def asked_of(scenario: Scenario) -> CrashParameters:
    """Return what is asked of container_crash."""
    assert isinstance(scenario, ContainerCrash)
    return scenario.parameters

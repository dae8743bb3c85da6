"""What the crash of a service and the outage of its database share: their victims, and how an outage is measured."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from chaoslab.agent.processes import Identity
from chaoslab.errors import NotDelivered
from chaoslab.faults.base import MARGIN_SECONDS, Injection, Obstacle, Reading, Surroundings
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.redaction import redact

VICTIM: Final = (sys.executable, "-m", "chaoslab.agent.victim")

_SEARCH_LIMIT: Final = 10.0
_NO_KILL: Final = ("STOP", "TSTP", "TTIN", "TTOU", "CONT")


def _signal_name(value: object) -> object:
    """Return the name without SIG from a name or a number; other values come back as they are."""
    if isinstance(value, int) and value in set(signal.Signals):
        return signal.Signals(value).name.removeprefix("SIG")
    return value.upper().removeprefix("SIG") if isinstance(value, str) else value


def _deadly(name: str) -> str:
    if f"SIG{name}" not in signal.Signals.__members__:
        raise ValueError("not a signal; accepted: a name such as KILL or SIGTERM, or a number")
    if name in _NO_KILL:
        raise ValueError("this signal ends nothing; to freeze the victim, use action: pause")
    return name


SignalName = Annotated[
    str, BeforeValidator(_signal_name, json_schema_input_type=str | int), AfterValidator(_deadly), Field(min_length=1)
]


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


class ProcessChoice(BaseModel):
    """A process, named in one of three ways; a pid file is the surest one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pid_file: str | None = Field(default=None, min_length=1, description="file that begins with the victim's pid")
    port: int | None = Field(default=None, ge=1, le=65_535, description="TCP port that the victim listens on")
    process: Annotated[str, AfterValidator(_compiles)] | None = Field(
        default=None, min_length=1, description="regular expression that the victim's command line holds"
    )

    @property
    def ways(self) -> tuple[str, ...]:
        """The keys that are given."""
        return tuple(key for key in ("pid_file", "port", "process") if getattr(self, key) is not None)

    @property
    def options(self) -> tuple[str, ...]:
        """How `chaoslab.agent.victim` is told."""
        return tuple(part for key in self.ways for part in (f"--{key.replace('_', '-')}", str(getattr(self, key))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A process that was found; `shown` says which one, to whoever is to agree."""

    identity: Identity
    boot: str
    shown: str
    processes: int

    @property
    def argv(self) -> tuple[str, str]:
        """Its pid and start time, as commands take them."""
        return str(self.identity.pid), str(self.identity.start_ticks)

    @property
    def in_boot(self) -> tuple[str, str]:
        """The option that says in which boot it has that pid."""
        return "--boot", self.boot

    @property
    def touched(self) -> dict[str, Any]:
        """Which one it is, for the journal."""
        return {"victim": self.shown, **asdict(self.identity), "boot_id": self.boot}

    @property
    def claim(self) -> str:
        """What no second fault can have at the same time."""
        return f"process {self.identity.pid}"


def find(choice: ProcessChoice, where: Surroundings, *, family: bool = False) -> Victim:
    """Return the one process that is meant; with `family` its descendants must be free to be hit too.

    Raises:
        NotDelivered: there is none, there are several, or it can be no victim.
    """
    published = ("--published", where.target.pid_file) if where.target else ()
    whole = ("--family",) if family else ()
    result = where.host.run((*VICTIM, "find", *choice.options, *published, *whole), timeout=_SEARCH_LIMIT)
    if not result.ok:
        words = result.stderr.strip().splitlines()
        raise NotDelivered(words[-1] if words else result.problem)
    found = json.loads(result.stdout)
    return Victim(
        identity=Identity(found["pid"], found["start_ticks"]),
        boot=found["boot_id"],
        shown=f"process {found['pid']} of {found['user']}: {redact(found['command'])}",
        processes=found["processes"],
    )


def is_elsewhere(where: Surroundings, what: str) -> Obstacle | None:
    """Return that `what` would be hit on another machine than the target's, or None."""
    if where.hits_target:
        return None
    return Obstacle(
        f"{what} would be hit on {where.host.name}, which is not known to be the machine of {where.url}",
        "name the machine as the scenario's host; allow_other_host: true if it is the right one",
    )


def freezing(victim: Victim, where: Surroundings, *, token: str, **fields: Any) -> Step:
    """Return the step that freezes a victim with all that descend from it, and lets exactly those go on again."""
    which = (*victim.argv, *victim.in_boot, "--mark", token)
    return Step(
        name=f"freeze of {victim.shown}",
        do=where.host.reach((*VICTIM, "freeze", *which), token=token),
        undo=where.host.reach((*VICTIM, "thaw", *which)),
        token=token,
        touches={"host": where.host.name, **victim.touched},
        **fields,
    )


def dying_seconds(signal_name: str) -> float:
    """Return how long a victim may take to go after such a signal: whoever still lives then was not hit."""
    return 0.3 if signal_name == "KILL" else 2.0


def deadline(seconds: float) -> float:
    """Return the deadline of a step that lasts for `seconds`."""
    return seconds + MARGIN_SECONDS


def outage(
    *,
    mechanism: str,
    steps: tuple[Step, ...],
    is_there: Callable[[Reading], bool | None],
    quantity: str,
    how: str,
    seconds: float,
    claim: str,
) -> Injection:
    """Return an injection that takes something away until it is undone; `claim` names what.

    `is_there` judges a reading: True, False, or None where there is no telling. Dose: the seconds from the first look
    that saw it gone to the last one before the undo; one that came back before then was not away.
    """

    def took_effect(readings: Sequence[Reading]) -> bool:
        return len(readings) > 1 and is_there(readings[0]) is True and is_there(readings[-1]) is False

    def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
        gone = [reading.at_us for reading in readings if is_there(reading) is False]
        whole = bool(gone) and is_there(readings[-1]) is False
        return (
            Dose(
                quantity=quantity,
                unit="s",
                asked=seconds,
                delivered=(gone[-1] - gone[0]) / 1e6 if whole else 0.0,
                # What lies between the effect and the first look at it, and the last look and the undo, is not seen.
                low=min(0.8 * seconds, seconds - 0.5) if seconds > 1 else 0.5 * seconds,
                high=1.2 * seconds + 1.0,
                how=f"{how}, from the first look after it was done to the last one before the undo",
                mechanism=mechanism,
            ),
        )

    return Injection(mechanism=mechanism, steps=steps, took_effect=took_effect, doses=doses, claims=(claim,))


def death(
    *, mechanism: str, step: Step, is_dead: Callable[[Sequence[Reading]], bool], how: str, claim: str
) -> Injection:
    """Return an injection that ends something once, and that others bring back. Dose: one kill, or none."""

    def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
        died = float(any(is_dead(readings[: number + 1]) for number in range(len(readings))))
        return (
            Dose(
                quantity="kills of the application",
                unit="kills",
                asked=1.0,
                delivered=died,
                low=1.0,
                high=1.0,
                how=how,
                mechanism=mechanism,
            ),
        )

    return Injection(
        mechanism=mechanism, steps=(step,), took_effect=is_dead, doses=doses, over_when_done=True, claims=(claim,)
    )

"""What every failure type is made of.

A failure type has mechanisms, best first. A mechanism says what keeps it from working here, and turns a scenario's dose
into an `Injection`: reversible steps, which are data, and the reading of their evidence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from chaoslab.hosts import Host
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Scenario
from chaoslab.targets import Target
from chaoslab.trust import WAYS

MARGIN_SECONDS = 15.0
"""What a step's deadline, and a stressor's own time limit, leave beyond the planned length of the injection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A way round that a mechanism needs for the whole run: probes connect to `connect_to` while `step` is held."""

    connect_to: tuple[str, int]
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a fault would act: the host that runs its commands, the target's URL and what the target published.

    `hits_target` says that the host is the target's machine, or that the scenario means another one. `route` is the way
    that the run's probes take, where its mechanism asked for one; `seed` is the run's own. `features` are those of the
    health check, as `looks.Look` has them: by a proxy or in HTTP/2 it does not come by every way.
    """

    host: Host
    url: str
    target: Target | None
    hits_target: bool
    allow_commands: bool = False
    route: Route | None = None
    seed: int = 0
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a mechanism cannot be used here, and what would make it usable."""

    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.reason} ({self.remedy})" if self.remedy else self.reason


NO_COMMANDS = Obstacle("a scenario file may run commands only when asked to", WAYS)
"""What keeps a mechanism from running a command of the scenario file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a step's evidence: how its command ended, what it printed as JSON, and when (monotonic µs)."""

    at_us: int
    exit_code: int | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """A fault ready to be delivered.

    Readings of the last step's evidence are taken before its `do`, then until the effect is seen, then once more just
    before the undo. `took_effect` judges those so far, `doses` turns all of them into what was delivered.
    `over_when_done` says that nothing keeps the fault up after its `do` (a kill): recovery counts from there, not
    from the undo. `claims` name what no second fault can have at the same time ("queueing discipline of eth0").
    """

    mechanism: str
    steps: tuple[Step, ...]
    took_effect: Callable[[Sequence[Reading]], bool]
    doses: Callable[[Sequence[Reading]], tuple[Dose, ...]]
    over_when_done: bool = False
    effect_limit: float = 10.0
    claims: tuple[str, ...] = ()


class Mechanism(ABC):
    """One way to deliver a failure type.

    One that is `only_here` acts on this machine whatever host the scenario names: it is then not chosen.
    """

    name: str
    only_here: ClassVar[bool] = False

    @abstractmethod
    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        """Return what keeps the mechanism from delivering `scenario` here, or None.

        Without a scenario the question is about the machine alone.
        """

    def route(self, where: Surroundings, *, seconds: float, token: str) -> Route | None:
        """Return the way that probes must take for the whole run, at most `seconds` long; None: the direct one."""
        return None

    @abstractmethod
    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        """Return the steps that deliver `scenario` for `seconds`; nothing is done yet.

        Raises:
            NotDelivered: the victim is gone, or cannot be told from others.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureType:
    """A failure type: how a scenario file asks for it, and what can deliver it, best first."""

    scenario: type[Scenario]
    mechanisms: tuple[Mechanism, ...]

    @property
    def name(self) -> str:
        """What the type is called."""
        return self.scenario.type_names()[0]

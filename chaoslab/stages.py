"""The stages of a pipeline: each has a name, a time and an outcome, also those that were never begun."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from chaoslab.errors import Interrupted

Outcome = Literal["passed", "failed", "inconclusive", "interrupted", "skipped"]

CI: Final = (
    "setup",
    "deploy_service",
    "chaos_injection",
    "resilience_validation",
    "performance_comparison",
    "cleanup",
    "summary",
)
"""The stages of `chaoslab ci`, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: what became of it, how many seconds it took, and what a reader must know."""

    name: str
    outcome: Outcome
    seconds: float = 0.0
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self) | {"seconds": round(self.seconds, 3)}


@dataclass(slots=True)
class Note:
    """What a stage under way says of itself."""

    outcome: Outcome = "passed"
    detail: str = ""

    def skip(self, why: str) -> None:
        """Say that there was nothing to do."""
        self.outcome, self.detail = "skipped", why


def _silent(stage: Stage | str) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class Stages:
    """Stages as they come; `tell` hears the name of one that begins, and the stage once it is over."""

    names: Sequence[str] = CI
    clock: Callable[[], float] = time.monotonic
    why_skipped: str = "an earlier stage did not succeed"
    tell: Callable[[Stage | str], None] = _silent
    _over: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Note]:
        """Time a stage; one that raises has failed, or was interrupted, for that reason."""
        note, began = Note(), self.clock()
        self.tell(name)
        try:
            yield note
        except (Interrupted, KeyboardInterrupt) as signal:
            note.outcome, note.detail = "interrupted", str(signal) or "interrupted"
            raise
        except Exception as error:
            note.outcome, note.detail = "failed", str(error) or type(error).__name__
            raise
        finally:
            over = Stage(name=name, outcome=note.outcome, seconds=self.clock() - began, detail=note.detail)
            self._over.append(over)
            self.tell(over)

    @property
    def all(self) -> tuple[Stage, ...]:
        """Every stage in order; one that was never begun is skipped."""
        found = {stage.name: stage for stage in self._over}
        return tuple(
            found.get(name) or Stage(name=name, outcome="skipped", detail=self.why_skipped) for name in self.names
        )

"""A runner that holds one fault, and kills itself, its guardian or both at the instant that it is told.

Reads one JSON line, {"name", "steps", "hold", "victim", "instant"}, and says "killing MONOTONIC_NS" just before it
kills, or "done COUNT" with the number of instants that it came by. An instant is just before or just after an entry of
the journal, or a command (a do, an evidence, an undo).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

from chaoslab.delivery import Chosen, Delivery, Room
from chaoslab.errors import ChaoslabError
from chaoslab.experiment import Session, protected
from chaoslab.faults import Injection, Mechanism, Obstacle, Surroundings
from chaoslab.guardian import Guardian
from chaoslab.hosts import LocalHost
from chaoslab.journal import Journal, step_from
from chaoslab.records import Event
from chaoslab.scenario import Scenario

_TICK = 0.02


class Bomb:
    """Counts instants, and goes off at one of them; a guardian is killed at the first from there on that finds one."""

    def __init__(self, victim: str, instant: int) -> None:
        self.count = 0
        self.guardian: int | None = None
        self._victim, self._instant = victim, instant
        self._gone_off = False

    def tick(self) -> None:
        self.count += 1
        there = self._victim == "tool" or self.guardian is not None
        if there and not self._gone_off and 0 < self._instant <= self.count:
            self._gone_off = True
            print(f"killing {time.monotonic_ns()}", flush=True)
            if self._victim != "tool":
                assert self.guardian is not None
                os.kill(self.guardian, signal.SIGKILL)
            if self._victim != "guardian":
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with an instant before and one after it."""

        def watched(*arguments: Any, **options: Any) -> Any:
            self.tick()
            result = function(*arguments, **options)
            self.tick()
            return result

        return watched

    def meet(self, guardian: Guardian) -> None:
        self.guardian = guardian._process.pid


class Given(Mechanism):
    """Delivers the steps that it was given."""

    name = "given"
    steps: ClassVar[tuple[Any, ...]] = ()

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        return None

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        return Injection(mechanism=self.name, steps=self.steps, took_effect=lambda _: True, doses=lambda _: ())


class Nowhere:
    """A log that nobody reads."""

    def add(self, event: Event, step: str = "", *, at_us: int | None = None, **detail: Any) -> None:
        pass


def _look(session: Session) -> Callable[[], None]:
    def look() -> None:
        session.interrupts.check()
        session.guardian.check()

    return look


def run(order: dict[str, Any], session: Session) -> None:
    """Hold the fault for its time, as the runner does, and revert it."""
    look = _look(session)
    room = Room(run="r", journal=session.journal, log=Nowhere(), host=LocalHost(), look=look)
    where = Surroundings(host=room.host, url="", target=None, hits_target=True)
    Given.steps = tuple(step_from(fields) for fields in order["steps"])
    chosen = Chosen(fault=Scenario(name="S", type="given", duration=1), mechanism=Given(), where=where)
    delivery = Delivery(chosen, room, offset=0.0, seconds=order["hold"], token="given")
    try:
        delivery.look_before()
        while not delivery.advance(0):
            look()
            time.sleep(_TICK)
    finally:
        delivery.revert()


def main() -> int:
    order = json.loads(sys.stdin.readline())
    bomb = Bomb(order["victim"], order["instant"])
    Journal.append = bomb.around(Journal.append)  # type: ignore[method-assign]
    LocalHost.run, LocalHost.hold = bomb.around(LocalHost.run), bomb.around(LocalHost.hold)  # type: ignore[method-assign]
    try:
        with protected(order["name"]) as session:
            bomb.meet(session.guardian)
            run(order, session)
    except ChaoslabError as error:
        print(error, flush=True)
        return error.exit_code
    print(f"done {bomb.count}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

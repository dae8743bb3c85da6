"""Kills, and looks at the machine afterwards: what is left, and how long it took to go."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from chaoslab.agent import processes
from chaoslab.conformance import Trial, prepare
from chaoslab.journal import Journal, Step
from chaoslab.targets import STATE_VARIABLE

VICTIMS: Final = ("tool", "guardian", "both")
HOLD: Final = 0.15
_LIMIT: Final = 15.0
_CHILD: Final = [sys.executable, "-m", "tests.crash.child"]
_POLL: Final = 0.01


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: at a numbered instant, or with `after` at a moment that has no number, in seconds after the start."""

    victim: str
    instant: int = 0
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a kill; `seconds` is None where the run was over before its moment came."""

    kill: Kill
    seconds: float | None
    left: tuple[str, ...]


class Range:
    """The place where one mechanism is killed again and again."""

    def __init__(self, name: str, trial: Trial, state: Path) -> None:
        self.name = name
        self._trial = trial
        self._state = state
        self._environment = os.environ | {STATE_VARIABLE: str(state)}

    def instants(self) -> int:
        """Return by how many instants an undisturbed run comes."""
        outcome, words = self._run(Kill("tool"))
        assert not outcome.left, f"{self.name}: {outcome.left} with no kill at all"
        return int(words[-1].removeprefix("done "))

    def kill(self, kill: Kill) -> Outcome:
        """Run the fault, kill, and wait until the machine is as before."""
        return self._run(kill)[0]

    def _run(self, kill: Kill) -> tuple[Outcome, list[str]]:
        steps, name = prepare(self._trial).steps, f"crash-{os.urandom(6).hex()}"
        before = self._trial.state()
        order = {"name": name, "steps": [asdict(step) for step in steps], "hold": HOLD, **asdict(kill)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(_CHILD, env=self._environment, text=True, **pipes) as child:  # type: ignore[call-overload]
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(order) + "\n")
            child.stdin.close()
            killed_ns = self._shoot(child, kill) if kill.after is not None else None
            words = child.stdout.read().splitlines()
        for line in words:
            if line.startswith("killing "):
                killed_ns = int(line.removeprefix("killing "))
        journal = Journal(self._state / "journals" / f"{name}.jsonl")
        if kill.victim == "both" and journal.path.exists():
            killed_ns = self._recover(journal)
        left = self._settle(journal, steps, before)
        seconds = None if killed_ns is None else (time.monotonic_ns() - killed_ns) / 1e9
        return Outcome(kill, seconds, tuple(left)), words

    @staticmethod
    def _shoot(child: subprocess.Popen[str], kill: Kill) -> int:
        assert kill.after is not None
        time.sleep(kill.after)  # the moment itself is what is varied
        killed_ns = time.monotonic_ns()
        child.send_signal(signal.SIGKILL)
        return killed_ns

    def _recover(self, journal: Journal) -> int:
        """Nobody is left to undo: the next command names what is left, and `chaoslab recover` undoes it."""
        began = time.monotonic_ns()
        open_steps = journal.open_steps()
        listed = self._chaoslab("recover", "--list")
        assert all(found.step.name in listed for found in open_steps), listed
        self._chaoslab("recover")
        return began

    def _chaoslab(self, *arguments: str) -> str:
        argv = [sys.executable, "-m", "chaoslab", *arguments]
        return subprocess.run(argv, env=self._environment, capture_output=True, text=True, check=True).stdout

    def _settle(self, journal: Journal, steps: Sequence[Step], before: object) -> list[str]:
        deadline = time.monotonic() + _LIMIT
        while left := list(self._left(journal, steps, before)):
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        return left

    def _left(self, journal: Journal, steps: Sequence[Step], before: object) -> Iterator[str]:
        yield from (f"{found.step.name}, open in the journal" for found in journal.open_steps())
        for step in steps:
            yield from (f"process {member.pid} of {step.name}" for member in processes.family(step.token))
        if (now := self._trial.state()) != before:
            yield f"state {now!r}, before {before!r}"


def plan(instants: int, count: int, generator: random.Random) -> list[Kill]:
    """Return `count` kills: every instant for every victim as far as they go, else a sample, a fifth at any moment."""
    numbered = [Kill(victim, instant) for victim in VICTIMS for instant in range(1, instants + 1)]
    moments = [Kill("tool", after=generator.uniform(0.05, 1.2)) for _ in range(max(1, count // 5))]
    while len(numbered) < count - len(moments):
        numbered += numbered
    return [*generator.sample(numbered, count - len(moments)), *moments]

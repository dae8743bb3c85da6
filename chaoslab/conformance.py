"""What every mechanism must keep, ours or another package's: a kit for its tests.

    from chaoslab.conformance import Trial, conform

    def test_my_mechanism_keeps_its_promises() -> None:
        conform(Trial(mechanism=MyMechanism(), asked=scenario, where=surroundings, state=what_the_machine_looks_like))

`conform` takes the mechanism through four things: its steps are data that a journal can hold; its `do` takes effect,
its evidence shows the dose that was asked, and its undo, given twice, brings the machine back; a fault that was cut off
between any two steps can be undone; and so can one whose runner was killed with SIGKILL, by the guardian alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from chaoslab.agent import processes
from chaoslab.errors import ChaoslabError, NotDelivered
from chaoslab.faults import Injection, Mechanism, Reading, Surroundings
from chaoslab.guardian import Guardian
from chaoslab.hosts import LocalHost
from chaoslab.journal import Journal, Step, now_us, step_from
from chaoslab.records import Dose
from chaoslab.scenario import Scenario
from chaoslab.undo import undo

_EVIDENCE_LIMIT: Final = 10.0
_EVIDENCE_PAUSE: Final = 0.05
_GUARDIAN_LIMIT: Final = 30.0
_RUN: Final = "conformance"


class NotConforming(ChaoslabError):
    """A mechanism does not keep what every mechanism must keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A mechanism to be tried, with a dose that it can deliver in `where`.

    `state` returns what the mechanism may change, in a form that can be compared (rules, queues, containers): it must
    be equal before and after. Processes that carry the fault's tokens are looked for in any case.
    """

    mechanism: Mechanism
    asked: Scenario
    where: Surroundings
    seconds: float = 1.0
    state: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What one delivery showed: its doses, and how soon the fault was there and gone.

    `effect_seconds` run from the start of the first `do` to the end of the reading that first showed the effect, which
    bounds the effect from above; `undo_seconds` is what the undo took until the state was seen to be back.
    """

    doses: tuple[Dose, ...]
    effect_seconds: float
    undo_seconds: float


def conform(trial: Trial) -> Delivered:
    """Take a mechanism through everything; return what its delivery showed.

    Raises:
        NotConforming: it does not keep a promise; the message says which.
        NotDelivered: it has an obstacle here, or a step failed.
    """
    as_data(trial)
    delivered = deliver(trial)
    missed = [dose for dose in delivered.doses if not dose.ok]
    _require(not missed, trial, f"the dose was not delivered: {missed}")
    for done in range(len(prepare(trial).steps)):  # all of them were done, and undone, above
        cut(trial, after=done)
    kill(trial)
    return delivered


def prepare(trial: Trial) -> Injection:
    """Return the injection of a trial, under a token of its own.

    Raises:
        NotDelivered: the mechanism has an obstacle here.
    """
    obstacle = trial.mechanism.obstacle(trial.asked, trial.where)
    if obstacle is not None:
        raise NotDelivered(f"{trial.mechanism.name}: {obstacle}")
    token = f"{_RUN}-{os.urandom(6).hex()}"
    return trial.mechanism.inject(trial.asked, trial.where, seconds=trial.seconds, token=token)


def as_data(trial: Trial) -> None:
    """See that the steps are data that a journal can hold, and that each can be undone.

    Raises:
        NotConforming: they are not.
    """
    injection = prepare(trial)
    steps = injection.steps
    _require(bool(steps), trial, "it has no step")
    _require(len({step.name for step in steps}) == len(steps), trial, "its steps need different names")
    _require(bool(steps[-1].evidence), trial, "its last step has no evidence")
    for step in steps:
        again = step_from(json.loads(json.dumps(asdict(step))))
        _require(again == step, trial, f"{step.name} does not survive being written to a journal")
        _require(bool(step.undo) and step.deadline > 0, trial, f"{step.name} has no undo, or no deadline")


def deliver(trial: Trial, *, seconds: float | None = None) -> Delivered:
    """Take a mechanism through do, evidence, undo, and undo again.

    Raises:
        NotConforming: no effect was seen, or the machine did not come back.
        NotDelivered: it has an obstacle here, or a step failed.
        NotReverted: an undo failed.
    """
    injection, host = prepare(trial), LocalHost()
    with _untouched(trial, injection.steps):
        readings = [read(injection.steps[-1], host)]
        began = time.monotonic()
        try:
            for step in injection.steps:
                do(step, host)
            readings += until_effect(injection, host, readings, trial)
            effect_seconds = time.monotonic() - began
            # From when that reading began: one that a frozen service lets wait has taken its share of the time.
            held = (now_us() - readings[-1].at_us) / 1e6
            time.sleep(max(0.0, (trial.seconds if seconds is None else seconds) - held))
            readings.append(read(injection.steps[-1], host))
        finally:
            undo_seconds = [_revert(injection.steps, host) for _ in range(2)]
    return Delivered(
        doses=injection.doses(readings),
        effect_seconds=effect_seconds,
        undo_seconds=undo_seconds[0],
    )


def cut(trial: Trial, *, after: int) -> None:
    """Do the first `after` steps, then undo all of them, as after a crash.

    Raises:
        NotConforming: the machine did not come back.
        NotReverted: an undo failed.
    """
    injection, host = prepare(trial), LocalHost()
    with _untouched(trial, injection.steps):
        try:
            for step in injection.steps[:after]:
                do(step, host)
        finally:
            _revert(injection.steps, host)


def kill(trial: Trial) -> float:
    """Kill the process that holds the fault with SIGKILL; return the seconds until its guardian had undone it.

    Raises:
        NotConforming: the guardian did not undo it, or the machine did not come back.
    """
    injection = prepare(trial)
    with _untouched(trial, injection.steps):
        name = injection.steps[-1].token
        argv = [sys.executable, "-m", __spec__.name, name]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdin.write(json.dumps([asdict(step) for step in injection.steps]) + "\n")
            holder.stdin.flush()
            journal = Journal.named(name)
            begun = holder.stdout.readline() == "done\n"
            holder.send_signal(signal.SIGKILL)
            killed = time.monotonic()
        _require(begun, trial, "a step failed in a process of its own")
        while journal.path.exists():
            in_time = time.monotonic() < killed + _GUARDIAN_LIMIT
            _require(in_time, trial, f"the guardian left {[found.step.name for found in journal.open_steps()]}")
            time.sleep(0.01)
        return time.monotonic() - killed


def do(step: Step, host: LocalHost) -> None:
    """Run a step's `do` as the runner does.

    Raises:
        NotDelivered: it failed.
    """
    if step.holds:
        host.hold(step.do, token=step.token)
        return
    result = host.run(step.do, timeout=step.do_limit, token=step.token)
    if not result.ok:
        raise NotDelivered(f"{step.name}: {result.problem}")


def read(step: Step, host: LocalHost) -> Reading:
    """Look at a step's evidence."""
    at = now_us()
    result = host.run(step.evidence, timeout=_EVIDENCE_LIMIT)
    try:
        data: Any = json.loads(result.stdout)
    except ValueError:
        data = {}
    return Reading(at_us=at, exit_code=result.exit_code, data=data if isinstance(data, Mapping) else {})


def until_effect(injection: Injection, host: LocalHost, before: Sequence[Reading], trial: Trial) -> list[Reading]:
    """Read the evidence until it shows the effect; return the readings after those `before`.

    Raises:
        NotConforming: no effect was seen in time.
    """
    readings = [*before, read(injection.steps[-1], host)]
    deadline = time.monotonic() + injection.effect_limit
    while not injection.took_effect(readings):
        _require(time.monotonic() < deadline, trial, f"no effect was seen: {readings[-1]}")
        time.sleep(_EVIDENCE_PAUSE)
        readings.append(read(injection.steps[-1], host))
    return readings[len(before) :]


def _revert(steps: Sequence[Step], host: LocalHost) -> float:
    began = time.monotonic()
    journal = Journal.create(f"{_RUN}-{os.urandom(6).hex()}")
    for step in steps:
        journal.intend(_RUN, step)
    for step in reversed(steps):
        undo(step, run=_RUN, journal=journal, host=host)
    journal.close()
    return time.monotonic() - began


@contextmanager
def _untouched(trial: Trial, steps: Sequence[Step]) -> Iterator[None]:
    before = trial.state()
    yield
    after = trial.state()
    _require(after == before, trial, f"the machine was {before!r} before and is {after!r} afterwards")
    left = [step.name for step in steps if processes.family(step.token)]
    _require(not left, trial, f"processes of {left} are still there")


def _require(kept: bool, trial: Trial, problem: str) -> None:
    if not kept:
        raise NotConforming(f"{trial.asked.type} by {trial.mechanism.name}: {problem}")


def _hold(name: str, steps: Sequence[Step]) -> None:
    """Do the steps as a runner would, say so, and wait to be killed."""
    journal, host = Journal.create(name), LocalHost()
    Guardian(journal)
    for step in steps:
        journal.intend(_RUN, step)
        do(step, host)
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _hold(sys.argv[1], [step_from(fields) for fields in json.loads(sys.stdin.readline())])

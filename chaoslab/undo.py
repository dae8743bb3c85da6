"""Undoing steps: by the runner when a fault is over, by the guardian after a crash, by hand with `recover`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from contextlib import suppress

from chaoslab.agent import namespaces, processes
from chaoslab.errors import ChaoslabError, NotReverted
from chaoslab.hosts import Host
from chaoslab.journal import Journal, OpenStep, Phase, Step
from chaoslab.redaction import learn, redact_command

_POLL_SECONDS = 0.05


def undo(step: Step, *, run: str, journal: Journal, host: Host) -> None:
    """Undo one step and see that it is undone; both are journalled.

    Raises:
        NotReverted: the undo failed, or the state is not back within the step's limit.
    """
    learn([step.do, step.undo, step.restored])  # what they say when they fail may quote their secrets
    _note(journal, Phase.UNDO_STARTED, run=run, step=step.name)
    problem = _attempt(step, host)
    if problem:
        _note(journal, Phase.UNDO_FAILED, run=run, step=step.name, reason=problem)
        raise NotReverted(
            f"{step.name} could not be undone: {problem}", commands=[shlex.join(redact_command(step.undo))]
        )
    _note(journal, Phase.UNDONE, run=run, step=step.name)


def _note(journal: Journal, phase: Phase, **fields: str) -> None:
    # On a full disk the undo still happens; the step then stays open on record, and undoing it again does no harm.
    with suppress(ChaoslabError):
        journal.append(phase, **fields)


def _attempt(step: Step, host: Host) -> str:
    """Return what went wrong, or an empty string."""
    deadline = time.monotonic() + step.undo_limit
    if (place := step.touches.get("network_namespace", "")) not in ("", namespaces.own()):
        # From here its undo would find nothing, and take that for success.
        way = namespaces.way_into(place)
        return f"it is in another network namespace: nsenter --net={way} chaoslab recover" if way else ""
    if not step.holds and (survivors := processes.end_family(step.token)):
        # A `do` still under way would overtake its own undo.
        return f"the process {min(survivors).pid} that was doing it could not be ended"
    result = host.run(step.undo, timeout=step.undo_limit)
    if not result.ok:
        return result.problem
    while step.restored:
        result = host.run(step.restored, timeout=max(1.0, deadline - time.monotonic()))
        if result.ok:
            break
        if time.monotonic() > deadline:
            return f"not back after {step.undo_limit:g} s: {result.problem}"
        time.sleep(_POLL_SECONDS)
    return ""


def undo_all(journal: Journal, host: Host, *, only: list[OpenStep] | None = None) -> None:
    """Undo every open step, the last one first; one that fails does not keep the others from being tried.

    Raises:
        NotReverted: some steps could not be undone, or not be read; carries a command for each.
    """
    failures: list[NotReverted] = []
    try:
        steps = journal.open_steps() if only is None else only
    except ChaoslabError as error:
        raise NotReverted(str(error)) from error
    if steps:
        with suppress(ChaoslabError):  # a journal that cannot be read keeps nothing from being undone
            journal.learn_secrets()
    for found in steps:
        try:
            undo(found.step, run=found.run, journal=journal, host=host)
        except NotReverted as failure:
            failures.append(failure)
    if only is None and (problem := unreadable(journal)):
        failures.append(NotReverted(problem))
    raise_together(failures)


def unreadable(journal: Journal) -> str:
    """Return what can no longer be undone because its record is damaged, or an empty string."""
    try:
        lost = journal.read().lost
    except ChaoslabError as error:
        return str(error)
    if not lost:
        return ""
    numbers = ", ".join(map(str, dict.fromkeys(lost)))
    show = f"sed -n {lost[0]}p {shlex.quote(str(journal.path))}"
    return (
        f"line {numbers} of the journal {journal.path} is damaged: a step that it may have held cannot be undone; "
        f"look at it (`{show}`), undo by hand what it did, and remove the file"
    )


def raise_together(failures: Sequence[NotReverted]) -> None:
    """Raise one NotReverted that says all that could not be undone; nothing where there is none."""
    if failures:
        raise NotReverted(
            "; ".join(str(failure) for failure in failures),
            commands=[command for failure in failures for command in failure.commands],
        )

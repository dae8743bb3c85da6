"""`chaoslab recover` and `chaoslab doctor`."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from chaoslab.cli import console, json_option, print_json, printable, verbose_option
from chaoslab.errors import ChaoslabError, NotReverted
from chaoslab.redaction import redact, redact_command, redact_document

if TYPE_CHECKING:
    from chaoslab.journal import Journal


@click.command()
@click.option("--list", "only_list", is_flag=True, help="Show what a dead process left behind, and change nothing.")
@json_option
@verbose_option
def recover(only_list: bool, as_json: bool, **_: Any) -> None:
    """Revert whatever a dead process left behind.

    Every fault and every embedded target is journalled before it is started; this reads the journals of processes that
    are gone and runs what undoes their open steps. Secrets in commands are shown as `***`, and run as they are. Exit 6
    when something could not be reverted.
    """
    from chaoslab.hosts import LocalHost
    from chaoslab.journal import leftovers
    from chaoslab.undo import raise_together, undo_all

    journals = leftovers()
    found = [row for journal in journals for row in _left(journal)]
    if as_json:
        print_json(found)
    else:
        for left in found:
            _show(left)
        if not found:
            click.echo("nothing is left behind")
    if only_list:
        return
    failures: list[NotReverted] = []
    for journal in journals:
        try:
            undo_all(journal, LocalHost())
            journal.close()
        except NotReverted as failure:
            failures.append(failure)
        except ChaoslabError as error:
            failures.append(NotReverted(str(error)))
    raise_together(failures)
    if found and not as_json:
        click.echo(f"reverted: {len(found)}")


def _left(journal: Journal) -> list[dict[str, Any]]:
    """Return a row for each open step of a journal, and one that says what of it can no longer be read."""
    from chaoslab.agent.processes import boot_id
    from chaoslab.undo import unreadable

    rows: list[dict[str, Any]] = []
    with suppress(ChaoslabError):
        rows = [
            {
                "journal": journal.path.stem,
                "run": left.run,
                "step": redact(left.step.name),
                "touches": redact_document(left.step.touches),
                "prior": redact_document(left.prior),
                "this_boot": left.boot == boot_id(),
                "undo": shlex.join(redact_command(left.step.undo)),
                "problem": "",
            }
            for left in journal.open_steps()
        ]
    if problem := unreadable(journal):
        rows.append({"journal": journal.path.stem, "problem": problem})
    return rows


def _show(left: dict[str, Any]) -> None:
    if left["problem"]:
        click.echo(printable(left["problem"]))
        return
    since = "" if left["this_boot"] else "   (before the last reboot)"
    click.echo(printable(f"{left['step']}   undo: {left['undo']}{since}"))
    for what in ("touches", "prior"):
        words = ", ".join(f"{name} {value}" for name, value in left[what].items() if value not in ("", {}, None))
        if words:
            click.echo(printable(f"    {what}: {words}"))


@click.command()
@click.option("--host", "name", default="local", show_default=True, help="Host to ask, as scenarios name it.")
@json_option
@verbose_option
def doctor(name: str, as_json: bool, **_: Any) -> None:
    """Say what can be injected on this machine, by which mechanism, what is missing and the command that helps."""
    rows = _survey(name)
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table("failure type", "mechanism", "usable", "why not", "what helps", box=None, header_style="bold")
    for row in rows:
        table.add_row(row["type"], row["mechanism"], "yes" if row["usable"] else "no", row["reason"], row["remedy"])
    console().print(table)


def _survey(name: str) -> list[dict[str, Any]]:
    """Return a row for each failure type and mechanism, best mechanism first."""
    from chaoslab.faults import Obstacle, Surroundings, failure_types
    from chaoslab.hosts import host_of

    where = Surroundings(host=host_of(name), url="", target=None, hits_target=True)
    asked = [(kind, mechanism) for kind, fault in failure_types().items() for mechanism in fault.mechanisms]
    found = [(kind, mechanism, mechanism.obstacle(None, where)) for kind, mechanism in asked]
    return [
        {"type": kind, "mechanism": mechanism.name, "usable": obstacle is None, **asdict(obstacle or Obstacle(""))}
        for kind, mechanism, obstacle in found
    ]

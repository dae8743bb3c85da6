"""`chaoslab scenarios`: list, check or describe scenario files; `chaoslab trust`: let them run commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from chaoslab import scenario_file, share
from chaoslab import trust as trusting
from chaoslab.cli import console, json_option, print_json, printable, verbose_option
from chaoslab.redaction import redact_command, redact_document
from chaoslab.scenario import ScenarioFile


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Scenario file; the shipped one by default.")
@click.option("--check", type=click.Path(path_type=Path), help="Validate a scenario file and say so.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of scenario files.")
@json_option
@verbose_option
def scenarios(config: Path | None, check: Path | None, schema: bool, as_json: bool, verbose: bool) -> None:
    """List the scenarios and suites of a scenario file, check one, or print the JSON Schema."""
    if schema:
        print_json(scenario_file.json_schema())
        return
    file = scenario_file.load(check or config or share.scenario_file())
    if as_json:
        print_json(redact_document(file.model_dump(mode="json")))
    elif check:
        click.echo(f"{check}: {len(file.scenarios)} scenarios, {len(file.scenario_groups)} suites: valid")
    else:
        _list(file)


def _list(file: ScenarioFile) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("scenario", "type", "intensity", "duration", "parameters", box=None, header_style="bold")
    for found in file.scenarios:
        parameters = redact_document(found.parameters.model_dump(exclude_none=True, exclude_defaults=True))
        shown = ", ".join(f"{name} {_shown(name, value)}" for name, value in parameters.items())
        row = (found.name, found.type, found.intensity, f"{found.duration:g} s", shown)
        table.add_row(*(Text(printable(cell)) for cell in row))
    out = console()
    out.print(table)
    out.print()
    suites = Table("suite", "scenarios", box=None, header_style="bold")
    for name, group in file.scenario_groups.items():
        suites.add_row(*(Text(printable(cell)) for cell in (name, ", ".join(group.scenarios))))
    suites.add_row("all", "every scenario of the file")
    out.print(suites)


def _shown(name: str, value: object) -> str:
    return f"{value / 1024**2:g} MB" if name == "memory_size" and isinstance(value, int) else str(value)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--list", "only_list", is_flag=True, help="List the files that are trusted.")
@click.option("--remove", is_flag=True, help="Trust the FILES no more.")
@json_option
@verbose_option
def trust(files: tuple[Path, ...], only_list: bool, remove: bool, as_json: bool, **_: Any) -> None:
    """Let the scenario FILES run the commands that they name, without --allow-commands.

    It shows those commands, and holds for the files as they are now: one that has changed must be trusted again. Trust
    is kept in your own configuration (trust.json), which nobody else may be able to write.
    """
    if only_list == bool(files) or (only_list and remove):
        raise click.UsageError("accepted: FILES to trust, --remove with FILES, or --list alone.")
    if only_list:
        _list_trusted(as_json)
        return
    for file in files:
        if remove:
            trusting.remove(file)
            click.echo(f"{printable(str(file))}: trusted no more")
        else:
            _trust(file)


def _trust(path: Path) -> None:
    file, content_digest = scenario_file.load_with_digest(path)
    trusting.add(path, content_digest)
    commands = list(_commands(file.model_dump(mode="json")))
    click.echo(f"{printable(str(path))}: trusted as it is now; it may run {len(commands)} commands")
    for where, argv in commands:
        click.echo(printable(f"   {where}: {shlex.join(redact_command(argv))}"))


def _commands(document: object, where: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield what a scenario file may have run, by where it says so."""
    if isinstance(document, list):
        for part in document:
            name = part.get("name", "") if isinstance(part, dict) else ""
            yield from _commands(part, f"{where}.{name}" if name else where)
    if isinstance(document, dict):
        for key, value in document.items():
            inner = f"{where}.{key}".removeprefix(".")
            if key.endswith("command") and isinstance(value, list):
                yield inner, value
            elif key == "pg_bin" and value:
                yield inner, [f"{value}/pg_ctl"]
            else:
                yield from _commands(value, inner)


def _list_trusted(as_json: bool) -> None:
    files = trusting.trusted()
    if as_json:
        print_json(
            [{"file": name, "sha256": known, "unchanged": _unchanged(name, known)} for name, known in files.items()]
        )
        return
    for name, known in files.items():
        changed = "" if _unchanged(name, known) else "   (changed since, or gone: not trusted as it is)"
        click.echo(f"{printable(name)}{changed}")
    if not files:
        click.echo("no file is trusted")


def _unchanged(name: str, known: str) -> bool:
    try:
        return trusting.digest(Path(name).read_bytes()) == known
    except OSError:
        return False

"""`chaoslab scenarios`: list, check or describe scenario files."""

from __future__ import annotations

from pathlib import Path

import click

from chaoslab import scenario_file, share
from chaoslab.cli import console, json_option, print_json, verbose_option
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
        print_json(file.model_dump(mode="json"))
    elif check:
        click.echo(f"{check}: {len(file.scenarios)} scenarios, {len(file.scenario_groups)} suites: valid")
    else:
        _list(file)


def _list(file: ScenarioFile) -> None:
    from rich.table import Table

    table = Table("scenario", "type", "intensity", "duration", "parameters", box=None, header_style="bold")
    for found in file.scenarios:
        parameters = found.parameters.model_dump(exclude_none=True, exclude_defaults=True)
        shown = ", ".join(f"{name} {_shown(name, value)}" for name, value in parameters.items())
        table.add_row(found.name, found.type, found.intensity, f"{found.duration:g} s", shown)
    out = console()
    out.print(table)
    out.print()
    suites = Table("suite", "scenarios", box=None, header_style="bold")
    for name, group in file.scenario_groups.items():
        suites.add_row(name, ", ".join(group.scenarios))
    suites.add_row("all", "every scenario of the file")
    out.print(suites)


def _shown(name: str, value: object) -> str:
    return f"{value / 1024**2:g} MB" if name == "memory_size" and isinstance(value, int) else str(value)

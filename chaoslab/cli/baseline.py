"""`chaoslab baseline`: campaigns that are kept under a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chaoslab.cli import completion, console, json_option, print_json, verbose_option
from chaoslab.cli.options import baselines_folder


@click.group()
def baseline() -> None:
    """Keep campaigns under a name, to hold later ones against (`chaoslab compare NAME DIR`)."""


@baseline.command()
@click.argument("folder", type=click.Path(path_type=Path), shell_complete=completion.campaigns)
@click.argument("name")
@click.option("--force", is_flag=True, help="Replace a baseline of that name.")
@baselines_folder
@verbose_option
def save(folder: Path, name: str, force: bool, baselines: Path | None, **_: Any) -> None:
    """Keep the record of the campaign in FOLDER as the baseline NAME; reports are not kept."""
    from chaoslab import baselines as store
    from chaoslab.wording import plural

    found = store.save(folder, name, folder=baselines, force=force)
    fewest = min(found.runs.values())
    click.echo(f"baseline {name}: {plural(len(found.runs), 'scenario')}, {found.path}")
    if fewest < store.ENOUGH_RUNS:
        click.echo(
            f"a scenario has {plural(fewest, 'run')}: against {store.ENOUGH_RUNS}, three of a candidate are enough",
            err=True,
        )


@baseline.command("list")
@baselines_folder
@json_option
@verbose_option
def list_(baselines: Path | None, as_json: bool, **_: Any) -> None:
    """List the stored baselines."""
    from rich.table import Table
    from rich.text import Text

    from chaoslab import baselines as store

    found = store.stored(baselines)
    if as_json:
        print_json([one.as_dict() for one in found])
        return
    if not found:
        click.echo(f"no baselines in {store.base_folder(baselines)}: `chaoslab baseline save DIR NAME` keeps one")
        return
    table = Table("name", "saved", "build", "target", "usable runs by scenario", box=None, header_style="bold")
    for one in found:
        runs = ", ".join(f"{name} {count}" for name, count in one.runs.items())
        table.add_row(Text(one.name), one.saved_at, Text(one.build or ""), Text(one.target), Text(runs))
    console().print(table)


@baseline.command()
@click.argument("name", shell_complete=completion.stored)
@baselines_folder
@json_option
@verbose_option
def show(name: str, baselines: Path | None, as_json: bool, **_: Any) -> None:
    """Show the baseline NAME: where it came from, and its estimates."""
    from chaoslab import baselines as store
    from chaoslab.analysis import analyse
    from chaoslab.cli.analysis import print_analysis
    from chaoslab.store import Campaign

    found = store.load(name, folder=baselines)
    analysis = analyse(Campaign.open(found.path))
    if as_json:
        print_json(found.as_dict() | {"results": analysis.as_results()})
        return
    build = f", build {found.build}" if found.build else ""
    click.echo(f"{found.name}: campaign {found.campaign} against {found.target}{build}, saved {found.saved_at}\n")
    print_analysis(analysis)

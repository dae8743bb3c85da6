"""Run the study: see the package."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from chaoslab.study.coverage import GOAL, study, summary
from chaoslab.study.truths import grid

COVERAGE_FILE = "coverage.csv"


@click.command()
@click.option("--trials", default=2000, show_default=True, help="Trials of each cell.")
@click.option("--runs", default=2000, show_default=True, help="Runs drawn, recorded and measured of each truth.")
@click.option("--seed", default=1, show_default=True, help="Seed of everything that is drawn.")
@click.option("--only", default="", help="Only truths whose name holds this.")
@click.option("--output", type=click.Path(path_type=Path), help=f"Folder for {COVERAGE_FILE}.")
def main(trials: int, runs: int, seed: int, only: str, output: Path | None) -> None:
    """Measure how often each interval that chaoslab prints holds a known truth."""
    truths = [truth for truth in grid() if only in truth.name]
    if not truths:
        raise click.UsageError(f"no truth is named {only!r}; there are: {'; '.join(truth.name for truth in grid())}")
    began = time.monotonic()
    table = study(truths, trials=trials, runs=runs, seed=seed)
    click.echo(summary(table).to_string())
    click.echo(f"\n{table['reading'].value_counts().to_string()}")
    short = table.loc[table["reading"] == "short", ["truth", "metric", "repeats", "coverage", "frontier"]]
    if len(short):
        click.echo(f"\nbelow {GOAL[0]:g} %:\n{short.to_string(index=False)}")
    click.echo(f"\n{len(table)} cells of {trials} trials in {time.monotonic() - began:.0f} s")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        table.round(3).to_csv(output / COVERAGE_FILE, index=False, lineterminator="\n")
        click.echo(f"{output / COVERAGE_FILE} holds the table")


if __name__ == "__main__":
    sys.exit(main())

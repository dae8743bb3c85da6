"""`chaoslab plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaoslab.cli import completion, console, json_option, print_json, verbose_option
from chaoslab.cli.analysis import objectives
from chaoslab.cli.options import only_metrics, only_scenarios

if TYPE_CHECKING:
    import pandas as pd


@click.command(
    epilog="""Examples:

\b
    chaoslab plan campaigns/baseline
    chaoslab plan campaigns/baseline --detect 20%
    chaoslab plan campaigns/baseline --metric recovery_time_seconds --width 0.5 --detect 1
    chaoslab plan campaigns/baseline --scenario "Light CPU Stress" --environment production --json
"""
)
@click.argument("baseline", type=click.Path(path_type=Path), shell_complete=completion.campaigns)
@only_scenarios
@only_metrics
@click.option("--width", help="Wanted half-width of the intervals: '2' in the metric's unit, '20%' of its value.")
@click.option("--detect", help="Change for the worse that must be found, written like --width.")
@click.option("--power", type=float, default=0.8, show_default=True, help="Probability of keeping or finding it.")
@click.option(
    "--environment", shell_complete=completion.environments, help="Plan for the thresholds of this environment."
)
@click.option("--config", type=click.Path(path_type=Path), help="Scenario file with the thresholds.")
@json_option
@verbose_option
def plan(
    baseline: Path,
    scenarios: tuple[str, ...],
    metrics: tuple[str, ...],
    width: str | None,
    detect: str | None,
    power: float,
    environment: str | None,
    config: Path | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Say how many repeats the next campaign needs, from the spread between the runs of the one in BASELINE.

    For each scenario and metric: the smallest change for the worse that two campaigns of 3, 5, 10 and 20 repeats find
    (Welch's test, 5 %), the repeats that the interval needs to clear the SLO, and those for the --width and the change
    to --detect that were asked for. In brackets: the repeats for either end of the spread's own 95 % interval, which
    is wide where few runs are known. "Never" is more than 10,000, or what no number of repeats can do.
    """
    from chaoslab.design import design
    from chaoslab.store import Campaign

    found = design(
        Campaign.open(baseline),
        scenarios=scenarios,
        metrics=metrics,
        width=width,
        detect=detect,
        power=power,
        slos=objectives(environment, config),
    )
    if as_json:
        print_json(found.as_dict())
        return
    rows = found.words()
    print_sections(rows.drop(columns=["a repeat takes", "note"]), by="scenario")
    out = console()
    for row in rows[rows["note"] != ""].itertuples():
        out.print(f"{row.scenario}, {row.metric}: {row.note}", style="dim", highlight=False, markup=False)
    out.print(found.cost(), highlight=False, markup=False)


def print_sections(rows: pd.DataFrame, *, by: str) -> None:
    """Print `rows` as a table with a section for each value of the column `by`, without the columns that are empty."""
    from rich.table import Table
    from rich.text import Text

    shown = [name for name in rows.columns if name != by and rows[name].astype(bool).any()]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, heading in enumerate(shown):
        table.add_column(heading, no_wrap=place < 2)
    for name, section in rows.groupby(by, sort=False):
        if name:
            table.add_row(Text(str(name), style="bold"))
        for cells in section[shown].itertuples(index=False):
            table.add_row(*(Text(f"  {cell}" if place == 0 else str(cell)) for place, cell in enumerate(cells)))
    console().print(table)

"""`chaoslab compare`: is today's build worse than the stored baseline?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from chaoslab.cli import completion, console, json_option, print_json, verbose_option
from chaoslab.cli.options import baselines_folder, only_scenarios

if TYPE_CHECKING:
    from chaoslab.comparison import Comparison, Role

_STYLES: Final = {"worse": "bold red", "better": "green", "same": "blue", "inconclusive": "yellow"}


@click.command()
@click.argument("baseline", shell_complete=completion.baselines)
@click.argument("folder", type=click.Path(path_type=Path), shell_complete=completion.campaigns)
@click.option("--margin", "margins", multiple=True, metavar="METRIC=VALUE", help="Largest change that does not matter.")
@only_scenarios
@click.option("--level", default=0.95, show_default=True, help="Level of the intervals; the rest is the false alarms.")
@click.option("--all", "everything", is_flag=True, help="Print what was explored beside the gate, too.")
@click.option("--output", type=click.Path(path_type=Path), help="Where the comparison is written; FOLDER by default.")
@click.option("--fail-on-regression", is_flag=True, help="Exit 1 when something is worse, 3 when it is inconclusive.")
@baselines_folder
@json_option
@verbose_option
def compare(
    baseline: str,
    folder: Path,
    margins: tuple[str, ...],
    scenarios: tuple[str, ...],
    level: float,
    everything: bool,
    output: Path | None,
    fail_on_regression: bool,
    baselines: Path | None,
    as_json: bool,
    **_: Any,
) -> int:
    """Compare the campaign in FOLDER with BASELINE, a campaign's folder or the name of a stored baseline.

    Every scenario and metric is better, the same, worse or inconclusive. Writes comparison.json and comparison.md into
    FOLDER. A margin is in the metric's unit (error_rate_percent=0.5), or a share of the baseline
    (recovery_time_seconds=30%).
    """
    from chaoslab import report
    from chaoslab.baselines import find
    from chaoslab.comparison import compare as compared
    from chaoslab.store import Campaign

    found = compared(
        find(baseline, folder=baselines),
        Campaign.open(folder),
        margins=_margins(margins),
        level=level,
        scenarios=scenarios,
    )
    report.write_comparison(found, output or folder)
    if as_json:
        print_json(found.as_dict())
    else:
        print_comparison(found, everything=everything)
    return found.exit_code(fail_on_regression=fail_on_regression)


def _margins(given: tuple[str, ...]) -> dict[str, str]:
    for text in given:
        if "=" not in text:
            raise click.UsageError(f"--margin {text!r}: accepted is METRIC=VALUE, such as recovery_time_seconds=30%")
    return {name.strip(): value for name, _, value in (text.partition("=") for text in given)}


def print_comparison(comparison: Comparison, *, everything: bool = False) -> None:
    """Print the answer, what a reader must know, and the gate's table."""
    from rich.text import Text

    from chaoslab.export import comparison as words

    out = console()
    out.print(Text(comparison.answer.upper(), style=_STYLES[comparison.answer]), Text(comparison.headline()))
    out.print(Text(words.setting(comparison)))
    for mark in comparison.marks:
        out.print(Text(f"note: {mark}", style="yellow"))
    for what, names in (("only in the baseline", comparison.missing), ("only in the candidate", comparison.added)):
        if names:
            out.print(Text(f"{what}: {', '.join(names)}", style="yellow"))
    _print_table(comparison, "gate")
    if everything:
        _print_table(comparison, "explored")


def _print_table(comparison: Comparison, role: Role) -> None:
    from rich.table import Table
    from rich.text import Text

    from chaoslab.export import comparison as words

    table = Table(
        *(name.lower() for name in words.HEAD), box=None, header_style="bold", title=role, title_justify="left"
    )
    shown = ""
    for scenario, *cells, answer, why in words.rows(comparison, role):
        first = "" if scenario == shown else scenario
        shown = scenario
        table.add_row(Text(first), *map(Text, cells), Text(answer, style=_STYLES[answer]), Text(why))
    console().print(table)

"""`chaoslab report` and `chaoslab validate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from chaoslab.cli import completion, console, json_option, print_json, verbose_option

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis
    from chaoslab.scenario import Slo

_STYLES: Final = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), shell_complete=completion.campaigns)
@click.option(
    "--baseline",
    shell_complete=completion.baselines,
    help="Hold it against this one too: a campaign's folder, or the name of a stored baseline.",
)
@click.option("--show-code", is_flag=True, help="Keep the notebook's code in the HTML.")
@verbose_option
def report(folder: Path, baseline: str | None, show_code: bool, **_: Any) -> None:
    """Render the report of the campaign in FOLDER: one self-contained HTML file, the executed notebook, Markdown.

    Writes report.html, the executed notebook, chaos_report.md, chaos_results.json, resilience_validation.json and
    chaos_metrics.prom into FOLDER.
    """
    from chaoslab import report as reports
    from chaoslab.baselines import find

    # Relative, for the executed notebook must not tell where on this machine it was made.
    parameters = {} if baseline is None else {"baseline": os.path.relpath(find(baseline).path, folder)}
    click.echo(f"report: {reports.render(folder, show_code=show_code, parameters=parameters).resolve()}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), shell_complete=completion.campaigns)
@click.option(
    "--environment", shell_complete=completion.environments, help="Judge by the thresholds of this environment."
)
@click.option("--config", type=click.Path(path_type=Path), help="Scenario file with the thresholds.")
@click.option("--report", "markdown", type=click.Path(path_type=Path), help="Write the verdicts as Markdown.")
@click.option("--fail-on-violation", is_flag=True, help="Exit 1 when an SLO is violated, 3 when it is inconclusive.")
@json_option
@verbose_option
def validate(
    folder: Path,
    environment: str | None,
    config: Path | None,
    markdown: Path | None,
    fail_on_violation: bool,
    as_json: bool,
    **_: Any,
) -> int:
    """Judge the campaign in FOLDER against its SLOs.

    The thresholds are those the campaign ran with, unless --environment or --config names others. The campaign's own
    files are not changed.
    """
    from chaoslab.analysis import analyse
    from chaoslab.export import markdown as documents
    from chaoslab.store import Campaign

    analysis = analyse(Campaign.open(folder), slos=objectives(environment, config))
    if markdown is not None:
        _write(markdown, documents.render(analysis))
    if as_json:
        print_json(analysis.as_validation())
    else:
        print_analysis(analysis)
    return analysis.exit_code(fail_on_violation=fail_on_violation)


def objectives(environment: str | None, config: Path | None) -> tuple[Slo, ...] | None:
    """Return the thresholds that were asked for, or None for those the campaign ran with."""
    if environment is None and config is None:
        return None
    from chaoslab import scenario, scenario_file, share

    return scenario.resolve_slos(scenario_file.load(config or share.scenario_file()), environment)


def _write(path: Path, text: str) -> None:
    from chaoslab.errors import UsageError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--report {path} cannot be written: {error.strerror}") from error


def print_analysis(analysis: Analysis) -> None:
    """Print the table of verdicts, problems first."""
    from rich.table import Table
    from rich.text import Text

    from chaoslab import wording

    out = console()
    for left in analysis.residue:
        out.print(Text(f"NOT REVERTED: {left.scenario}: {left.step}: {left.reason}", style="bold red"))
        out.print(Text(f"  to undo it: {left.command}"))
    table = Table("scenario", "metric", "estimate", "SLO", "verdict", "why", box=None, header_style="bold")
    for result in analysis.scenarios:
        if not result.runs:
            style = _STYLES["inconclusive"]
            table.add_row(Text(result.name), "all", "", "", Text("inconclusive", style=style), Text(result.reason))
            continue
        for row, verdict in enumerate(result.verdicts):
            table.add_row(
                Text("" if row else result.name),
                wording.METRIC_NAMES[verdict.slo.metric],
                Text(wording.estimate(verdict.estimate)),
                f"{verdict.slo.comparison} {verdict.slo.threshold:g} {verdict.slo.unit}",
                Text(verdict.outcome, style=_STYLES[verdict.outcome]),
                Text("" if verdict.estimate.low is not None and verdict.outcome != "inconclusive" else verdict.reason),
                end_section=row == len(result.verdicts) - 1,
            )
    out.print(table)

"""`chaoslab trends`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chaoslab.cli import completion, console, json_option, print_json, say, verbose_option
from chaoslab.cli.options import only_metrics, only_scenarios
from chaoslab.cli.planning import print_sections


@click.command(
    epilog="""Examples:

\b
    chaoslab trends campaigns
    chaoslab trends campaigns --scenario "Database Brief Outage" --metric recovery_time_seconds
    chaoslab trends campaigns --budget 99.9
    chaoslab trends campaigns/20260105-nightly campaigns/20260112-nightly --output trends.html
"""
)
@click.argument(
    "folders",
    metavar="DIR...",
    type=click.Path(path_type=Path),
    nargs=-1,
    required=True,
    shell_complete=completion.campaigns,
)
@only_scenarios
@only_metrics
@click.option(
    "--budget", type=float, help="Availability in percent that the error budget is for; by default the SLO's."
)
@click.option("--days", type=float, default=30.0, show_default=True, help="Period of the error budget.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as one HTML page.")
@json_option
@verbose_option
def trends(
    folders: tuple[Path, ...],
    scenarios: tuple[str, ...],
    metrics: tuple[str, ...],
    budget: float | None,
    days: float,
    output: Path | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Show each metric of each scenario over the campaigns in DIR, and where it changed.

    A DIR is a campaign, or a folder that holds campaigns. Only campaigns that measured a scenario like the newest one
    (dose, phases, probe, target) stand in its history; the others are named with the reason. A change of level is
    claimed where it would come about by chance in less than 1 of 20 cases, among all histories shown; that takes 8
    campaigns for one history, and more for several.

    Then: what one such event, as in the newest campaign, costs of the error budget.
    """
    from chaoslab import budget as budgets
    from chaoslab.trends import trends as gather

    found = gather(folders, scenarios=scenarios, metrics=metrics)
    events = budgets.costs(found.newest, found.analysis, objective=budget, days=days, scenarios=found.scenarios)
    if output is not None:
        from chaoslab import report

        parameters = {
            "campaigns": [str(folder.resolve()) for folder in folders],
            "scenarios": list(scenarios),
            "metrics": list(metrics),
            "objective": budget,
            "days": days,
        }
        click.echo(f"trends: {report.write_trends(output, parameters).resolve()}", err=as_json)
    if as_json:
        print_json(found.as_dict() | {"budget": budgets.as_dict(events)})
        return
    print_sections(found.words(), by="scenario")
    out = console()
    for left in found.left_out:
        name = f"{left.campaign}, {left.scenario}" if left.scenario else left.campaign
        out.print(f"left out: {name}: {left.reason}", style="dim", highlight=False, markup=False)
    if events[0].warning:
        say(events[0].warning)
    out.print(f"\n{budgets.headline(events[0])}; one event as in {found.newest.name}:", highlight=False, markup=False)
    print_sections(budgets.words(events).assign(all=""), by="all")

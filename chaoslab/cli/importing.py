"""`chaoslab import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chaoslab.cli import completion, json_option, print_json, say, verbose_option


@click.command(
    "import",
    epilog="""Examples:

\b
    chaoslab import results.json --output campaigns/k6 --injection-start 60 --injection-end 90
    chaoslab import monday.jtl tuesday.jtl wednesday.jtl --output campaigns/jmeter \\
        --scenario "Database Brief Outage" --injection-start 60 --injection-end 70
    chaoslab import probe_success.json probe_duration.json --output campaigns/blackbox \\
        --injection-start 2026-01-31T12:00:00Z --injection-end 2026-01-31T12:00:30Z
    chaoslab import chaos_results.json --output campaigns/old
""",
)
@click.argument("files", metavar="FILE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Campaign folder; new or empty.")
@click.option("--format", "format_", help="Format of the files; by default what they look like.")
@click.option(
    "--scenario",
    shell_complete=completion.scenarios,
    help="What was done to the service; a name of the scenario file brings its type.",
)
@click.option("--type", "type_", help="Failure type, such as cpu_stress; that of the scenario by default.")
@click.option(
    "--injection-start",
    "starts",
    multiple=True,
    help="When the fault began: seconds from the first probe, or an instant with its time zone; repeatable.",
)
@click.option("--injection-end", "ends", multiple=True, help="When it was over; one for each --injection-start.")
@click.option("--select", multiple=True, metavar="NAME=VALUE", help="Only rows that have this tag, label or column.")
@click.option("--target", help="The service, for the record; by default the address that the files name.")
@click.option("--config", type=click.Path(path_type=Path), help="Scenario file with names and thresholds.")
@click.option("--environment", shell_complete=completion.environments, help="Take the thresholds of this environment.")
@json_option
@verbose_option
def import_(
    files: tuple[Path, ...],
    output: Path,
    format_: str | None,
    scenario: str | None,
    type_: str | None,
    starts: tuple[str, ...],
    ends: tuple[str, ...],
    select: tuple[str, ...],
    target: str | None,
    config: Path | None,
    environment: str | None,
    as_json: bool,
    **_: Any,
) -> None:
    """Turn recordings of other tools into a campaign folder that report, validate, compare and trends open.

    Reads k6 (JSON, CSV), vegeta (JSON, CSV), JMeter (JTL in CSV or XML), Prometheus (answers of its API for
    probe_success and probe_duration_seconds), Locust (stats_history.csv) and the files of the script suite; plain or
    compressed with gzip. Each file is a repeat; several injections in one file cut it into repeats.

    The files do not tell when a fault acted: say it with --injection-start and --injection-end. They never tell that
    one was delivered, so every verdict is inconclusive. Where the import fails, nothing is written.
    """
    from chaoslab import foreign
    from chaoslab.errors import UsageError
    from chaoslab.foreign.importing import SCENARIO
    from chaoslab.wording import plural

    if len(starts) != len(ends):
        raise UsageError(
            f"--injection-start was given {plural(len(starts), 'time')}, --injection-end {plural(len(ends), 'time')}; "
            "accepted: one end for each start"
        )
    imported = foreign.import_recordings(
        foreign.Request(
            files=files,
            output=output,
            format=format_,
            scenario=SCENARIO if scenario is None else scenario,
            type=type_,
            windows=tuple(foreign.Window(*pair) for pair in zip(starts, ends, strict=True)),
            select=dict(map(_pair, select)),
            target=target,
            config=config,
            environment=environment,
        )
    )
    if as_json:
        print_json(imported.as_dict())
        return
    for warning in imported.warnings:
        say(warning)
    counted = f"{plural(imported.probes, 'probe')} in {plural(imported.runs, 'run')}"
    click.echo(f"imported {counted} ({imported.format}): {imported.folder}")


def _pair(text: str) -> tuple[str, str]:
    from chaoslab.errors import UsageError

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--select is {text!r}; accepted: NAME=VALUE, such as instance=http://127.0.0.1:8080")
    return name, value

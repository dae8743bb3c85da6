"""`chaoslab batch`."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from chaoslab.cli import json_option, print_json, printable, verbose_option


@click.command(
    epilog="""Example of a FILE:

\b
    notebooks:
      - notebook: 02_run_experiment.ipynb
        parameters: {target: "http://127.0.0.1:8080", scenario: Light CPU Stress, output: campaigns/nightly}
      - notebook: 03_resilience_report.ipynb
        parameters: {campaign: campaigns/nightly}
        matrix: {latency_axis: [log, linear]}
"""
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Folder of pages and notebooks, new or empty.")
@click.option(
    "--parallel",
    type=int,
    default=min(2, os.cpu_count() or 1),
    show_default=True,
    help="Notebooks that only read, at once.",
)
@click.option("--dry-run", is_flag=True, help="Check the file, print what would be executed, and leave.")
@click.option(
    "--fail-on-violation",
    "--fail-on-regression",
    "strict",
    is_flag=True,
    help="Exit 1 when a notebook finds an SLO violated or a regression, 3 when that is inconclusive.",
)
@json_option
@verbose_option
def batch(file: Path, output: Path | None, parallel: int, dry_run: bool, strict: bool, as_json: bool, **_: Any) -> int:
    """Execute the notebooks of FILE, each once for every combination of its matrix, and write a page that sums up.

    Notebooks and paths in FILE are relative to it; a notebook that is not beside it is one that comes with chaoslab.
    All parameters are checked before anything runs. A notebook that injects runs alone; neighbours in FILE that only
    read run side by side. The exit code is the most urgent one.
    """
    from chaoslab import batch as batches
    from chaoslab.batch.page import word

    jobs = batches.load(file)
    if dry_run:
        for job in jobs:
            click.echo(printable(f"{job.slug}{' (injects)' if job.injects else ''}: {job.words()}"))
        return 0
    folder = output or Path("batches") / f"{datetime.now():%Y%m%d-%H%M%S}"

    def report(job: batches.Job, result: batches.Result) -> None:
        said = result.error or result.says
        click.echo(
            printable(f"{job.slug}: {word(result)}{f': {said}' if said else ''} ({result.seconds:g} s)"), err=as_json
        )

    results = batches.execute(jobs, folder, cwd=file.resolve().parent, parallel=parallel, report=report)
    code = batches.exit_code(results, strict=strict)
    if as_json:
        executions = [{"name": job.slug, **result.as_dict()} for job, result in zip(jobs, results, strict=True)]
        print_json({"folder": str(folder), "exit_code": code, "executions": executions})
    else:
        click.echo(f"\nsummary: {(folder / 'index.html').resolve()}")
    return code

"""Options that several commands have, with what completes them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from chaoslab.cli import completion

only_scenarios: Final = click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    shell_complete=completion.scenarios,
    help="Only this scenario; repeatable.",
)
only_metrics: Final = click.option(
    "--metric", "metrics", multiple=True, help="Only this metric, such as mttr_seconds; repeatable."
)
baselines_folder: Final = click.option(
    "--baselines",
    type=click.Path(path_type=Path),
    help="Folder of the baselines; $CHAOSLAB_BASELINES, else data/baselines, by default.",
)

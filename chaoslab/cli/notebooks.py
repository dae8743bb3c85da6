"""`chaoslab notebooks`."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from chaoslab.cli import printable, say, verbose_option


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@verbose_option
def notebooks(folder: Path, **_: Any) -> None:
    """Copy the notebooks, and the real recordings on which they open, into DIR, which is new or empty.

    They are yours from then on. JupyterLab itself comes with the extra lab.
    """
    from chaoslab import share
    from chaoslab.errors import UsageError

    try:
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} holds something already; accepted: a new or an empty folder")
        share.copy_lab(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from error
    if find_spec("jupyterlab") is None:
        say("JupyterLab is not installed: pip install 'chaoslab[lab]'")
    click.echo(printable(f"to open them: jupyter lab {shlex.quote(str(folder / 'notebooks'))}"))

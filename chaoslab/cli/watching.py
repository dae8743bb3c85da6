"""`chaoslab watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chaoslab.cli import completion, console, json_option, print_json, verbose_option


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path), shell_complete=completion.campaigns)
@click.option("--once", is_flag=True, help="Show it as it stands now, and leave.")
@json_option
@verbose_option
def watch(folder: Path, once: bool, as_json: bool, **_: Any) -> None:
    """Show the campaign in DIR while it runs, and leave when it is over.

    DIR is the campaign's folder, or one that holds campaigns: then the newest of them. Only the parts on disk are read;
    the prober and the runner know nothing of it, and Ctrl-C ends the watching, not the campaign. --json prints how it
    stands now.
    """
    from chaoslab.live import Reader, terminal
    from chaoslab.live.reader import newest

    reader = Reader(newest(folder))
    if as_json:
        print_json(reader.look().as_dict())
    elif once:
        console().print(terminal.view(reader.look()))
    else:
        terminal.follow(reader, console())

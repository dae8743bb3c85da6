"""A running campaign in a terminal, drawn anew a few times a second; elsewhere a line for each phase."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from chaoslab.live.reader import RUNNING, Reader, Standing
from chaoslab.wording import quantity

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

LOOK_SECONDS: Final = 0.5

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 72
_SHOWN_RUNS: Final = 6


def follow(reader: Reader, console: Console) -> Standing:
    """Show the campaign until it is over, and return how it then stands.

    Raises:
        CampaignFolderError: not a campaign.
    """
    if console.is_terminal:
        from rich.live import Live

        with Live(view(standing := reader.look()), console=console, auto_refresh=False) as shown:
            while standing.status == RUNNING:
                time.sleep(LOOK_SECONDS)
                standing = reader.look()
                shown.update(view(standing), refresh=True)
        return standing
    said = ""
    while True:
        standing = reader.look()
        if (line := _milestone(standing)) != said:
            said = line
            console.print(line, markup=False, highlight=False)
        if standing.status != RUNNING:
            return standing
        time.sleep(LOOK_SECONDS)


def _milestone(standing: Standing) -> str:
    return standing.line() if not standing.lost else "nothing new comes: was it killed?"


def view(standing: Standing) -> RenderableType:
    """Return all that a terminal shows of a campaign's standing."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    meta = standing.meta
    parts: list[RenderableType] = [
        Text(f"{meta.get('campaign', '')} · {meta.get('target', '')}", style="bold"),
        ProgressBar(total=max(1, standing.total), completed=len(standing.ended), width=_WIDTH),
        Text(standing.line(), style="bold red" if standing.lost else ""),
        Text(""),
        strip(standing),
    ]
    phases = standing.by_phase()
    if len(phases):
        table = Table(*phases.columns, box=None, header_style="bold")
        for row in phases.itertuples(index=False):
            table.add_row(*(Text(str(cell)) for cell in row))
        parts += [Text(""), table]
    ended = standing.ended[-_SHOWN_RUNS:]
    if ended:
        parts += [Text(""), *(Text(f"{name}, repeat {repeat}: {state}", style="dim") for name, repeat, state in ended)]
    return Group(*parts)


def strip(standing: Standing) -> Text:
    """Return the last seconds of the run as text: a block is the slowest answer of one second, × one that failed."""
    from rich.text import Text

    slowest, bad = standing.columns(_WIDTH)
    known = [value for value in slowest if value is not None]
    if not slowest:
        return Text("no probe yet", style="dim")
    low, high = (math.log(max(1e-3, end)) for end in ((min(known), max(known)) if known else (1.0, 1.0)))
    drawn = Text()
    for value, failed in zip(slowest, bad, strict=True):
        if failed or value is None:
            drawn.append("×" if failed else " ", style="bold red")
        else:
            share = (math.log(max(1e-3, value)) - low) / max(high - low, 0.7)
            drawn.append(_BLOCKS[min(7, int(8 * share))])
    scale = f"{quantity(min(known), 'ms')} to {quantity(max(known), 'ms')}" if known else "nothing succeeded"
    drawn.append(f"\nslowest answer of each second, {scale}; × a probe failed", style="dim")
    return drawn

"""A running campaign in a notebook: a figure that is replaced every few seconds, while the cell that runs it waits."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from chaoslab.errors import CampaignFolderError
from chaoslab.live.reader import Reader, Standing

if TYPE_CHECKING:
    from chaoslab.plots import Picture

_LOOK_SECONDS: Final = 2.0
_SHARE: Final = 0.1
"""Most of one core that drawing may take: what is measured here shall not be the figure."""
_NICENESS: Final = 10


@contextmanager
def watching(folder: Path | str) -> Iterator[None]:
    """Show the campaign in `folder` as a figure while the body runs it; what `chaoslab.run(show=...)` takes.

    A thread of low priority reads the parts on disk; neither the prober nor the runner knows of it. Outside a notebook
    nothing is shown.
    """
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        yield
        return
    handle: Any = display({"text/plain": "starting"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
    over = threading.Event()
    thread = threading.Thread(target=_follow, args=(Reader(folder), handle, over), name="chaoslab-live", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _follow(reader: Reader, handle: Any, over: threading.Event) -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)  # Linux: of this thread alone
    ending, took = False, 0.0
    while not ending:
        ending = over.wait(max(_LOOK_SECONDS, took / _SHARE))  # the last look is one at the end
        began = time.thread_time()
        try:
            standing = reader.look()
        except CampaignFolderError as error:
            handle.update({"text/plain": str(error)}, raw=True)
        else:
            handle.update(Sight(standing))
        took = time.thread_time() - began


class Sight:
    """A standing as a notebook shows it: a line, and the newest run's latencies over the host's CPU."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def __repr__(self) -> str:
        return self._standing.line()

    def _repr_html_(self) -> str:
        picture = figure(self._standing)
        line = Markup("<p>{}</p>").format(self._standing.line())
        return str(line + (Markup(picture._repr_html_()) if picture is not None else ""))


def figure(standing: Standing) -> Picture | None:
    """Draw the newest run as far as it came: each probe's latency, failures, the injection, the host's CPU.

    None before the first probe.
    """
    from dataclasses import replace

    from chaoslab import plots

    if standing.run is None or not len(standing.probes):
        return None
    run = standing.run
    newest = max(run.finished_us, int(standing.probes["scheduled_us"].max()))
    so_far = replace(run, finished_us=newest, recovery_us=run.recovery_us or (newest if run.injection_us else None))
    drawn = plots.figure(height=3.9)
    above, below = drawn.subplots(2, 1, sharex=True, height_ratios=[3.0, 0.9])
    plots.timeline([plots.Series(run=so_far, rows=standing.probes)], ax=above, fault=run.scenario)
    plots.resources([plots.Series(run=so_far, rows=standing.resources)], ax=below)
    above.set_xlabel("")
    if run.injection_us is None:
        below.set_xlabel("s since the run started", color=plots.MUTED, size=8.5)
    failed = int((standing.probes["outcome"] != "success").sum())
    words = f"{run.scenario}, repeat {run.repeat}: {len(standing.probes)} probes so far, {failed} of them failed."
    return plots.picture(drawn, alt=f"Latency of each probe over time. {words}", caption=words)

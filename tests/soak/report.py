"""What a soak has shown: a table for the reader, and a figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from rich.console import Console
from rich.table import Table

from tests.soak.growth import COUNTS, Grown, Slope
from tests.soak.rows import Count


def show_growth(grown: Sequence[Grown], console: Console) -> None:
    """Print a line for each process that lived from the beginning to the end."""
    memory_head = ("MB: start", "warm", "end", "most", "MB/h resident", "MB/h its own")
    counts_head = (f"{name}: warm → end (most)" for name in COUNTS)
    table = Table("process", *memory_head, *counts_head, "verdict", box=None, header_style="bold")
    for one in grown:
        memory = (one.started_mb, one.warm_mb, one.ended_mb, one.most_mb)
        counts = (f"{start} → {end} ({most})" for start, end, most in one.counts.values())
        slopes = (_shown(one.resident), _shown(one.unique))
        table.add_row(one.process, *(f"{value:.1f}" for value in memory), *slopes, *counts, one.verdict)
    console.print(table)
    for one in grown:
        for line in one.grown:
            console.print(f"{one.process}: {line}", style="red")


def _shown(slope: Slope | None) -> str:
    return f"{slope.value:+.2f} ({slope.low:+.2f} to {slope.high:+.2f})" if slope else "too short"


def show_short_lived(series: pd.DataFrame, names: Iterable[str], console: Console) -> None:
    """Print what the processes that live only as long as a run had at most."""
    table = Table("for each run", "seen", "most MB", "most descriptors", "most threads", box=None, header_style="bold")
    for name in names:
        mine = series[series["process"] == name]
        most = mine[["resident_mb", "descriptors", "threads"]].max()
        numbers = (f"{most['resident_mb']:.1f}", f"{most['descriptors']:.0f}", f"{most['threads']:.0f}")
        table.add_row(name, str(mine["pid"].nunique()), *numbers)
    console.print(table)


def show_rows(counts: Mapping[str, Count], console: Console) -> None:
    """Print what each campaign recorded, what is wrong with it, and which runs did not deliver."""
    head = ("runs", "delivered", "probes", "failures", "unsent", "resources", "worst lag ms", "problems")
    table = Table("campaign", *head, box=None, header_style="bold")
    for name, found in counts.items():
        numbers = (found.runs, found.delivered, found.probes, found.failures, found.unsent, found.resources)
        lag = f"{found.worst_lag_us / 1e3:.1f}"
        table.add_row(name, *(f"{number:,}" for number in numbers), lag, str(len(found.problems)))
    console.print(table)
    for name, found in counts.items():
        for problem in found.problems:
            console.print(f"{name}: {problem}", style="red")
        for reason in found.reasons:
            console.print(f"{name}: {reason}", style="dim")


def draw(series: pd.DataFrame, lasting: Sequence[str], path: Path, *, warm_up: float) -> None:
    """Draw memory and descriptors of the processes that lived from the beginning to the end."""
    figure, (memory, descriptors) = plt.subplots(2, 1, figsize=(10, 8), sharex=True, layout="constrained")
    for name in lasting:
        mine = series[series["process"] == name]
        memory.plot(mine["seconds"] / 60, mine["resident_mb"], label=name, linewidth=1)
        descriptors.plot(mine["seconds"] / 60, mine["descriptors"], label=name, linewidth=1)
    for axes in (memory, descriptors):
        axes.axvspan(0, warm_up / 60, color="0.9", label="warm-up")
        axes.set_ylim(bottom=0)
    memory.set_ylabel("resident memory, MB (2²⁰ bytes)")
    descriptors.set_ylabel("open descriptors")
    descriptors.set_xlabel("minutes since the start")
    memory.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)

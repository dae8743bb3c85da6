"""Figures and axes as every plot function sets them up: sizes, frame, grid, names and words of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from matplotlib.figure import Figure

from chaoslab.plots.palette import INK, MUTED, PAPER, RULE, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Limits = tuple[float, float]


def figure(width: float = 11.0, height: float = 3.6) -> Figure:
    """Return an empty figure that lays itself out; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)


def row_figure(height: float, *, left: float = 2.4, right: float = 3.0, width: float = 11.0) -> Figure:
    """Return an empty figure with fixed margins for names and words, so that equal axes are equally wide; inches."""
    made = Figure(figsize=(width, height), facecolor=PAPER)
    made.subplots_adjust(
        left=left / width, right=1 - right / width, bottom=0.4 / height, top=1 - 0.25 / height, hspace=1.4
    )
    return made


def printable(text: str, width: int = 44) -> str:
    """Return `text` on one line, without control characters and not longer than `width`.

    >>> printable("Heavy\\x00 CPU\\nStress")
    'Heavy CPU Stress'
    """
    clean = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return clean if len(clean) <= width else f"{clean[: width - 1]}…"


def axes_or_new(ax: Axes | None) -> Axes:
    """Return `ax`, or the axes of a new figure if None."""
    return figure().subplots() if ax is None else ax


def plain(ax: Axes) -> None:
    """Leave of the axes' frame what a reader needs: a base line and a faint grid."""
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(RULE)
    ax.set_facecolor("none")
    ax.grid(visible=True, color=RULE, lw=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(colors=MUTED, labelsize=SMALL, length=0)
    ax.tick_params(axis="x", pad=6)  # clear of the lowest number of the other axis


def named_rows(ax: Axes, names: Sequence[str]) -> None:
    """Give the value axis a row for each name, the first on top."""
    plain(ax)
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), [printable(name) for name in names], color=INK, size=SMALL)
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
    ax.grid(visible=False, axis="y")


def name_of_row(ax: Axes, place: int, name: str) -> None:
    """Write a name to the left of the row at `place`, for axes that have no ticks."""
    ax.annotate(
        printable(name),
        (0.0, place),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        size=SMALL,
        color=INK,
        parse_math=False,
    )


def words_of_row(ax: Axes, place: int, words: str, *, weight: str = "normal") -> None:
    """Write `words` to the right of the row at `place`."""
    ax.annotate(
        words,
        (1.0, place),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        size=SMALL,
        color=INK,
        weight=weight,
        parse_math=False,
    )


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten between the limits, and where they are few their double and fivefold.

    >>> log_ticks(1, 1000), log_ticks(20, 200)
    ([1.0, 10.0, 100.0, 1000.0], [20.0, 50.0, 100.0, 200.0])
    """
    first, last = math.floor(math.log10(low) - 1e-9), math.ceil(math.log10(high) + 1e-9)
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def beside(ax: Axes, across: float, share: float, text: str, *, ha: Literal["left", "right"]) -> None:
    """Write small, muted words at a place given in shares of the axes."""
    ax.text(across, share, text, transform=ax.transAxes, ha=ha, va="center", size=7, color=MUTED)

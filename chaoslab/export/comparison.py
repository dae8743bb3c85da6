"""A comparison in words and rows: the one source for Markdown, the page and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from chaoslab import forest
from chaoslab.comparison import NAMES
from chaoslab.export.markdown import bullets, escape, table
from chaoslab.wording import number

if TYPE_CHECKING:
    from chaoslab.comparison import Comparison, Role
    from chaoslab.comparison.changes import Margin

ANSWER_MARKS: Final = {"worse": "✕", "better": "●", "same": "■", "inconclusive": "◇"}
"""The shapes that the figure, tables and Markdown share."""

HEAD: Final = ("Scenario", "Metric", "Baseline", "Candidate", "Change", "Margin", "p", "Answer", "Why")


def render(comparison: Comparison) -> str:
    """Return the comparison as Markdown; equal comparisons give equal text."""
    parts = [
        "# Comparison with the baseline",
        f"**{ANSWER_MARKS[comparison.answer]} {comparison.answer.capitalize()}.** {escape(comparison.headline())}",
        escape(setting(comparison)),
        *bullets(comparison.marks, "What a reader must know"),
        "## The gate",
        _table(comparison, "gate", "No blocking objective's metric was compared under a fault."),
        "## Explored",
        "What follows decides nothing; among so many, some stand out by chance.",
        _table(comparison, "explored", "Nothing."),
        "## How this was compared",
        *bullets(method(comparison)),
    ]
    return "\n\n".join(parts) + "\n"


def setting(comparison: Comparison) -> str:
    """Return what was compared with what, as a sentence."""
    return f"Baseline: {_named(comparison.baseline)}. Candidate: {_named(comparison.candidate)}."


def _named(meta: Mapping[str, Any]) -> str:
    build = f", build {meta['target_build']}" if meta.get("target_build") else ""
    return f"{meta.get('campaign')}{build}, {meta.get('started_at')}"


def rows(comparison: Comparison, role: Role) -> list[tuple[str, ...]]:
    """Return a row for each cell of that role, with the columns of `HEAD`; a scenario without runs has one row."""
    found: list[tuple[str, ...]] = []
    for row in forest.records(comparison.table()):
        if row["role"] != role:
            continue
        if row["no_runs"]:
            line = (row["scenario"], "all", "", "", "", "", "", row["answer"], row["reason"])
            found += [line] if line not in found else []
        else:
            found.append(_row(row))
    return found


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    unit = "points" if row["unit"] == "%" else row["unit"]
    tested = row["baseline"] is not None or row["candidate"] is not None
    return (
        row["scenario"],
        row["name"],
        forest.side(row, "baseline"),
        forest.side(row, "candidate"),
        forest.effect(row) or "–",
        f"{number(row['margin'], row['unit'])} {unit}",
        f"{row['p']:.2g}" if tested else "–",
        row["answer"],
        row["reason"],
    )


def method(comparison: Comparison) -> list[str]:
    """Return how it was compared, a sentence each."""
    level, alarm = f"{100 * comparison.level:g} %", f"{100 * (1 - comparison.level):.2g} %"
    return [
        f"Intervals have {level} each and are over runs: shares are compared by their difference, times and quantiles "
        "by the ratio of their geometric means (Welch's t on logarithms).",
        "p values of the gate come from dealing the runs to the two sides in every other way, and are adjusted for the "
        f"whole gate (Westfall–Young step-down maxT): the chance of any false alarm is at most {alarm}.",
        "p values of what is explored are adjusted by Benjamini and Hochberg.",
        "Same: the interval of the equivalence test (two one-sided tests) lies within the margin.",
        "Margins: "
        + "; ".join(f"{NAMES[metric]} {_margin(metric, margin)}" for metric, margin in comparison.margins.items())
        + ".",
    ]


def _margin(metric: str, margin: Margin) -> str:
    units = {"percent": "points", "seconds": "s", "ms": "ms"}
    return margin.words(units[metric.rpartition("_")[2]])


def _table(comparison: Comparison, role: Role, without: str) -> str:
    found = rows(comparison, role)
    return table(HEAD, found) if found else without

"""An analysis as Markdown (GitHub's dialect): what the page says, for reviews and terminals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from chaoslab.export import narrative
from chaoslab.wording import brief, interval

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis, ScenarioResult
    from chaoslab.verdict import Verdict

MEASURED: Final = ("Scenario", "Metric", "Objective", "Estimate", "95 % interval")


def render(analysis: Analysis) -> str:
    """Return the report of `analysis`; equal analyses give equal text."""
    parts = [
        "# Resilience report",
        f"**{narrative.OUTCOME_WORDS[analysis.outcome]}.** {escape(narrative.headline(analysis))}",
        escape(narrative.setting(analysis)),
        *_problems(analysis),
        *bullets(narrative.missed(analysis), "What is missed"),
        *bullets(narrative.missed(analysis, "warning"), "Missed, but only a warning"),
        "## Verdicts",
        _verdicts(analysis),
        "## Was the fault there?",
        *_doses(analysis),
        "## Scenario by scenario",
        *(part for result in analysis.scenarios for part in _scenario(result)),
        "## What was not measured",
        _omissions(analysis),
        "## How this was measured",
        table(["Scenario", "What delivered the fault"], narrative.mechanisms(analysis)),
        table(["Metric", "Estimate and interval"], narrative.methods(analysis)),
        table(["", "Provenance"], narrative.provenance(analysis)),
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    r"""Return `text` so that Markdown shows it as it is, on one line, in a table as well.

    Square brackets stay as they are where they cannot make a link, so that intervals remain readable as text.

    >>> print(escape("a|b <i> [x](y) [3.00, 5.50]"))
    a\|b \<i\> [x\](y) [3.00, 5.50]
    """
    clean = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return re.sub(r"[\\`*_<>|~#&]|\](?=[(\[:])", r"\\\g<0>", clean)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows of plain text as a table."""
    lines = [head, ["---"] * len(head), *([escape(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measured(verdict: Verdict) -> list[str]:
    """Return what a verdict rests on, in the columns of `MEASURED`."""
    return [
        verdict.scenario,
        narrative.metric_name(verdict),
        narrative.objective(verdict),
        brief(verdict.estimate),
        interval(verdict.estimate) or "–",
    ]


def bullets(sentences: Sequence[str], title: str = "") -> list[str]:
    """Return sentences as a list under its title, or nothing where there is none."""
    if not sentences:
        return []
    return [*([f"**{title}**"] if title else []), "\n".join(f"- {escape(sentence)}" for sentence in sentences)]


def _fenced(command: str) -> str:
    """Return a code block whose fence no backticks inside can close."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", command)), 3)
    return f"{fence}sh\n{command}\n{fence}"


def _problems(analysis: Analysis) -> list[str]:
    problems = narrative.problems(analysis)
    grave = [problem for problem in problems if problem.grave]
    parts = [
        part
        for problem in grave
        for part in (f"**{escape(problem.text)}**", *([_fenced(problem.command)] if problem.command else []))
    ]
    return parts + bullets([problem.text for problem in problems if not problem.grave], "To know first")


def _verdicts(analysis: Analysis) -> str:
    head = [*MEASURED, "n", "Verdict", "Reason"]
    rows = [
        [*measured(verdict), verdict.estimate.n, narrative.outcome(verdict), verdict.reason]
        for verdict in analysis.verdicts
    ]
    return table(head, rows) if rows else "No objective was judged."


def _doses(analysis: Analysis) -> list[str]:
    rows = narrative.dose_rows(analysis)
    head = ["Scenario", "Quantity", "Asked", "Accepted", "Measured", "Within", "Mechanism", "Measured how"]
    cells = [
        (row.scenario, row.quantity, row.asked, row.accepted, row.measured, row.within, row.mechanism, row.how)
        for row in rows
    ]
    shown = table(head, cells) if rows else "No dose was measured in this campaign."
    return [*bullets(narrative.undosed(analysis)), shown]


def _scenario(result: ScenarioResult) -> list[str]:
    kind = f"{result.type.replace('_', ' ')}, {result.intensity}"
    return [f"### {escape(result.name)} ({escape(kind)})", *bullets(narrative.story(result))]


def _omissions(analysis: Analysis) -> str:
    rows = narrative.omissions(analysis)
    if not rows:
        return "Every metric that an objective names was measured, with an interval, in every scenario."
    return table(["Scenario", "Metric", "Why"], rows)

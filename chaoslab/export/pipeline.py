"""A pipeline run in words: Markdown for a summary or a comment, and annotations as GitHub's runner reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from chaoslab.export import narrative
from chaoslab.export.markdown import MEASURED, bullets, escape, measured, table
from chaoslab.redaction import redact

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis
    from chaoslab.comparison import Comparison
    from chaoslab.stages import Stage
    from chaoslab.verdict import Verdict

MARKS: Final = {"passed": "●", "failed": "✕", "inconclusive": "◇", "interrupted": "■", "skipped": "–"}
MARKER: Final = "<!-- chaoslab -->"
"""First line of the summary, by which a comment of ours is found again."""

_MOST_ANNOTATIONS: Final = 10
"""As many as GitHub shows of one kind for a step."""
_MOST_ROWS: Final = 200


def summary(
    stages: Sequence[Stage], analysis: Analysis | None = None, comparison: Comparison | None = None, *, folder: str = ""
) -> str:
    """Return what became of a pipeline as Markdown, the verdicts first; no secrets."""
    parts = [MARKER, "## Resilience"]
    if analysis is not None:
        parts += [
            f"**{narrative.OUTCOME_WORDS[analysis.outcome]}.** {escape(narrative.headline(analysis))}",
            _verdicts(analysis.verdicts),
        ]
    if comparison is not None:
        parts += ["### Against the baseline", f"**{comparison.answer.capitalize()}.** {escape(comparison.headline())}"]
        parts += bullets(comparison.marks)
    parts += ["### Stages", _stages(stages)]
    if folder:
        parts.append(f"Campaign: {escape(folder)}")
    return redact("\n\n".join(parts) + "\n")


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    head = [*MEASURED, "Verdict", "Why"]
    rows = [
        [*measured(verdict), narrative.outcome(verdict), "" if verdict.outcome == "pass" else verdict.reason]
        for verdict in verdicts
    ]
    more = len(rows) - _MOST_ROWS
    shown = table(head, rows[:_MOST_ROWS])
    return f"{shown}\n\n{more} more are in the report." if more > 0 else shown


def _stages(stages: Sequence[Stage]) -> str:
    rows = [
        [stage.name, f"{MARKS[stage.outcome]} {stage.outcome}", f"{stage.seconds:.1f} s", stage.detail]
        for stage in stages
    ]
    return table(["Stage", "Outcome", "Time", ""], rows)


def workflow_commands(stages: Sequence[Stage], analysis: Analysis | None = None) -> Iterator[str]:
    """Yield workflow commands: an error for each violation or stage that failed, a warning for what is undecided."""
    found: list[tuple[str, str, str]] = [
        ("error", stage.name, stage.detail)
        for stage in stages
        if stage.outcome == "failed" and not (analysis is not None and stage.name == "resilience_validation")
    ]
    for verdict in analysis.verdicts if analysis is not None else ():
        title = f"{verdict.scenario}: {narrative.metric_name(verdict)}"
        if verdict.outcome == "fail":
            found.append(("error" if verdict.slo.severity == "blocking" else "warning", title, verdict.reason))
        elif verdict.outcome == "inconclusive":
            found.append(("warning", title, f"inconclusive: {verdict.reason}"))
    for level in ("error", "warning"):
        alike = [(title, message) for kind, title, message in found if kind == level]
        most = _MOST_ANNOTATIONS if len(alike) <= _MOST_ANNOTATIONS else _MOST_ANNOTATIONS - 1
        yield from (command(level, title, message) for title, message in alike[:most])
        if alike[most:]:
            yield command(level, "chaoslab", f"{len(alike) - most} more are in the summary")


def command(level: str, title: str, message: str) -> str:
    r"""Return a workflow command; no name or message can end it or begin another.

    >>> command("error", "a: b, c", "100 %\n::set-output::")
    '::error title=a%3A b%2C c::100 %25%0A::set-output::'
    """
    return f"::{level} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return redact(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

"""What became of a pipeline, told in all places that want to know it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from chaoslab.cli import console, printable, say
from chaoslab.cli.export import write
from chaoslab.cli.github import Speak, add_to_step
from chaoslab.errors import ChaoslabError
from chaoslab.redaction import redact, redact_document
from chaoslab.stages import Stage

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis
    from chaoslab.comparison import Comparison

PIPELINE: Final = "pipeline.json"
SUMMARY: Final = "ci_summary.md"
JUNIT: Final = "junit.xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The stages of a pipeline, and what they found.

    Attributes:
        folder: of the campaign, once it has begun.
        junit: a second place for the JUnit file, if one is wanted; it is written also where there is no campaign.
        strict: whether what could not be judged is a failure there.
    """

    stages: tuple[Stage, ...]
    analysis: Analysis | None
    comparison: Comparison | None
    folder: Path | None
    junit: Path | None
    strict: bool

    def tell(self, speak: Speak) -> list[ChaoslabError]:
        """Write and print it; return the errors of places that cannot be written, since one of them stops no other."""
        from chaoslab.export import junit, pipeline

        text = pipeline.summary(self.stages, self.analysis, self.comparison, folder=str(self.folder or ""))
        shown: Any = "failure" if self.strict else "skipped"
        tests = junit.render(self.analysis, inconclusive=shown, troubles=self._troubles())
        files: list[tuple[Path, str]] = []
        if self.folder is not None:
            files += [(self.folder / SUMMARY, text), (self.folder / JUNIT, tests)]
            self._record(self.folder)
        if self.junit is not None and self.junit.parent.is_dir():
            files.append((self.junit, tests))
        errors = [error for path, content in files if (error := _try(path, content)) is not None]
        add_to_step(text)
        speak(pipeline.workflow_commands(self.stages, self.analysis))
        self._print()
        return errors

    def _troubles(self) -> list[tuple[str, str]]:
        """Return the stages that did not do their work, with the reason; a violation is a verdict, and no trouble."""
        judged = {"resilience_validation"} if self.analysis is not None else set()
        bad = ("failed", "interrupted")
        return [
            (stage.name, stage.detail) for stage in self.stages if stage.outcome in bad and stage.name not in judged
        ]

    def _record(self, folder: Path) -> None:
        from chaoslab.store import write_json

        with suppress(OSError):
            write_json(folder / PIPELINE, {"stages": [redact_document(stage.as_dict()) for stage in self.stages]})

    def _print(self) -> None:
        from rich.table import Table
        from rich.text import Text

        from chaoslab.export.pipeline import MARKS

        table = Table("stage", "outcome", "time", "", box=None, header_style="bold")
        for stage in self.stages:
            detail = printable(redact(stage.detail.partition("\n")[0]))
            table.add_row(stage.name, f"{MARKS[stage.outcome]} {stage.outcome}", f"{stage.seconds:.1f} s", Text(detail))
        console().print(table)
        if self.folder is not None:
            click.echo(f"\ncampaign: {self.folder}")


def tell_stage(stage: Stage | str) -> None:
    """Print that a stage begins, by its name, or what became of it."""
    if isinstance(stage, str):
        click.echo(f"\n── {stage} " + "─" * (40 - len(stage)))
    else:
        detail = f": {printable(redact(stage.detail))}" if stage.detail else ""
        click.echo(f"{stage.name} {stage.outcome} after {stage.seconds:.1f} s{detail}")


def _try(path: Path, text: str) -> ChaoslabError | None:
    try:
        write(path, text)
    except ChaoslabError as error:
        say(str(error))
        return error
    return None

"""What a section of the report is, and where the pages' templates lie; nothing here draws or measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

OUTCOME: Final = "application/vnd.chaoslab.outcome+json"
"""Type under which an answer travels in a notebook's outputs."""

TEMPLATE: Final = Path(__file__).parent / "template"


@dataclass(frozen=True, slots=True)
class Section:
    """A piece of the report; JupyterLab and nbconvert show its HTML.

    `outcome` is what an executed notebook tells programs: outcome, sentence, and exit code without and with failing.
    """

    html: str = field(repr=False)
    outcome: Mapping[str, Any] | None = field(default=None, repr=False)

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {} if self.outcome is None else {OUTCOME: dict(self.outcome)}

    def _repr_html_(self) -> str:
        return self.html

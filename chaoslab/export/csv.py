"""An analysis as CSV (RFC 4180): a row for each verdict, then for each estimate that no objective is about.

Numbers are written in full, and what was not measured is empty. No text can become a formula where a spreadsheet opens
the file; numbers are left as they are.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from chaoslab.redaction import redact

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis

COLUMNS: Final = (
    *("campaign", "scenario", "type", "intensity", "metric", "value", "low", "high", "level", "unit", "n"),
    *("comparison", "threshold", "severity", "outcome", "repeats_needed", "censored", "trusted", "method", "reason"),
)
_STARTS_FORMULA: Final = tuple("=+-@\t\r\n|%＝＋－＠")


def render(analysis: Analysis) -> str:
    """Return the verdicts and estimates of `analysis` as CSV with the columns of `COLUMNS`; no secrets."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in _rows(analysis):
        writer.writerow([_cell(row.get(name)) for name in COLUMNS])
    return out.getvalue()


def _rows(analysis: Analysis) -> Iterator[dict[str, Any]]:
    campaign = analysis.campaign.get("campaign")
    for result in analysis.scenarios:
        head = {"campaign": campaign, "scenario": result.name, "type": result.type, "intensity": result.intensity}
        for verdict in result.verdicts:
            yield verdict.estimate.as_dict() | verdict.as_dict() | head
        judged = {verdict.metric for verdict in result.verdicts}
        for metric, estimate in result.estimates.items():
            if metric not in judged:
                yield estimate.as_dict() | head | {"metric": metric}


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
    return guarded(redact(str(value)))


def guarded(text: str) -> str:
    """Return `text` with an apostrophe before what a spreadsheet would take for a formula.

    >>> guarded("=HYPERLINK(1)"), guarded("  @SUM(1)"), guarded("CPU")
    ("'=HYPERLINK(1)", "'  @SUM(1)", 'CPU')
    """
    clean = "".join(char if char.isprintable() or char in "\t\r\n" else "\ufffd" for char in text)
    return f"'{clean}" if clean.lstrip(" \u00a0").startswith(_STARTS_FORMULA) else clean

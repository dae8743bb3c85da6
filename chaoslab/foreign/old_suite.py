"""The script suite that chaoslab's users come from: `chaos_results.json` and `resilience_validation.json`.

Both hold what the suite concluded and none of what it saw: no probes, no dose. What they say is kept beside the
record as a report of others, and nothing is computed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaoslab.errors import RecordingError
from chaoslab.foreign import source
from chaoslab.foreign.source import Place

UNNAMED: Final = "All scenarios"
"""What a validation is of, which names no scenario."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the suite said of one scenario."""

    name: str
    type: str
    intensity: str
    duration: float | None
    said: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One file of the suite; `at` is its time stamp as it stands there, without a time zone."""

    target: str
    at: str
    claims: tuple[Claim, ...]


def read(path: Path) -> Report:
    """Return what a file of the suite says.

    Raises:
        RecordingError: it is neither of the two, or a scenario in it has no name.
    """
    document = source.document(path)
    place = Place(path)
    if "results_version" in document:
        raise RecordingError(
            f"{path}: is chaoslab's own analysis, not a recording; open the campaign folder it lies in"
        )
    at, target = source.text_of(document, "timestamp"), source.text_of(document, "target_url")
    if isinstance(document.get("metrics"), dict) and "passed" in document:
        claim = Claim(name=UNNAMED, type="unknown", intensity="", duration=None, said=document)
        return Report(target=target, at=at, claims=(claim,))
    results = document.get("results")
    if not isinstance(results, list) or not results:
        place.refuse("results", results, "the suite's list of results, or a validation with passed and metrics")
    return Report(
        target=target, at=at, claims=tuple(_claim(place, number, found) for number, found in enumerate(results))
    )


def _claim(place: Place, number: int, found: Any) -> Claim:
    where = f"results[{number}]"
    if not isinstance(found, dict):
        place.refuse(where, found, "an object")
    name, kind = found.get("scenario_name"), found.get("scenario_type", "unknown")
    for what, text in (("scenario_name", name), ("scenario_type", kind)):
        if not isinstance(text, str) or not text:
            place.refuse(f"{where}.{what}", text, "a name")
    duration = found.get("duration")
    return Claim(
        name=str(name),
        type=str(kind),
        intensity=source.text_of(found, "intensity"),
        duration=None if duration is None else source.number(place, f"{where}.duration", duration),
        said=found,
    )

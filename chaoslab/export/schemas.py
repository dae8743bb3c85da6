"""JSON Schemas (draft 2020-12) of the documents that a campaign's folder holds, made from the types behind them.

Every object names all of its keys and allows no others, so that a consumer who validates learns of any change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_type_hints

from pydantic import ConfigDict, TypeAdapter, create_model

from chaoslab import errors
from chaoslab.analysis import ESTIMATES, RESULTS_VERSION, Excluded, Residue
from chaoslab.drift import Drift
from chaoslab.intervals import Estimate
from chaoslab.metrics import RunMetrics
from chaoslab.records import Dose
from chaoslab.scenario import Slo
from chaoslab.verdict import Answer

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_Text = str | None
_Fields = Mapping[str, Any]

_HEAD: Final[_Fields] = {
    "results_version": Literal[RESULTS_VERSION],
    "campaign": str,
    "started_at": str,
    "target": str,
    "target_build": _Text,
    "environment": _Text,
    "seed": int | None,
    "status": str,
    "reason": _Text,
    "outcome": Answer,
    "residue": list[Residue],
}
_SCENARIO: Final[_Fields] = {
    "name": str,
    "type": str,
    "intensity": str,
    "outcome": Answer,
    "reason": str,
    "usable_runs": int,
    "excluded_runs": list[Excluded],
}


def _object(name: str, fields: _Fields) -> Any:
    definitions: Any = {key: (kind, ...) for key, kind in fields.items()}
    return create_model(name, __config__=ConfigDict(extra="forbid"), **definitions)


def _results() -> Any:
    run = get_type_hints(RunMetrics) | {
        "error_rate_percent": float | None,
        "availability_percent": float,
        "up_seconds": float,
    }
    scenario = {
        **_SCENARIO,
        "planned": dict[str, Any],
        "estimates": _object("Estimates", dict.fromkeys(ESTIMATES, Estimate)),
        "runs": list[_object("Run", run)],  # type: ignore[misc]
        "doses": list[_object("Dose", get_type_hints(Dose) | {"ok": bool})],  # type: ignore[misc]
    }
    return _object("Results", {**_HEAD, "scenarios": list[_object("Scenario", scenario)], "drift": list[Drift]})  # type: ignore[misc]


def _validation() -> Any:
    verdict = {
        "scenario": str,
        **get_type_hints(Slo),
        "outcome": Answer,
        "reason": str,
        "repeats_needed": int | None,
        "estimate": Estimate,
    }
    counts = _object("Counts", dict.fromkeys(("pass", "fail", "inconclusive"), int))
    scenario = {**_SCENARIO, "verdicts": list[_object("Verdict", verdict)]}  # type: ignore[misc]
    return _object("Validation", {**_HEAD, "verdicts": counts, "scenarios": list[_object("Scenario", scenario)]})  # type: ignore[misc]


_DOCUMENTS: Final = {"chaos_results.json": _results, "resilience_validation.json": _validation}
NAMES: Final = tuple(_DOCUMENTS)
"""Documents that have a schema."""


def schema(document: str) -> dict[str, Any]:
    """Return the JSON Schema of a document, by its file name.

    Raises:
        UsageError: there is no such document.
    """
    (name,) = errors.recognised((document,), NAMES, "document with a schema")
    found = TypeAdapter(_DOCUMENTS[name]()).json_schema(mode="serialization")
    return {"$schema": _DIALECT, **_closed(found), "title": f"chaoslab {name}"}


def _closed(part: Any) -> Any:
    """Return a schema whose objects have all of their keys, and no others."""
    if isinstance(part, list):
        return [_closed(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    inner = {key: _closed(value) for key, value in part.items() if key != "default"}
    if part.get("type") == "object" and isinstance(part.get("properties"), dict):
        inner |= {"required": list(part["properties"]), "additionalProperties": False}
    return inner

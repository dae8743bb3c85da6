"""Whether two campaigns asked the same question: what makes a comparison refused, and what its reader must know.

Refused is what would give the same numbers another meaning: another fault, other phases, another way to probe or to
count. Marked is what the same numbers may have another cause in: another machine, target, environment or version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from chaoslab.errors import UsageError
from chaoslab.wording import listed

_FAULT: Final = ("type", "duration", "phases", "mechanism", "host", "offset")
_NOT_THE_FAULT: Final = ("expected_impact", "recovery_time_expected")
_MEASUREMENT: Final = {
    ("schema_version",): "schema version",
    ("required_health_checks",): "required health checks",
    ("imported", "format"): "format that was imported",
    ("probe", "name"): "probe",
    ("probe", "rate_hz"): "probe rate (per second)",
    ("probe", "timeout_seconds"): "probe time-out (s)",
}
_CIRCUMSTANCES: Final = {
    ("target_name",): "target",
    ("target_build",): "build",
    ("environment",): "environment",
    ("host", "cpus"): "CPUs of the measuring host",
    ("host", "memory_bytes"): "memory of the measuring host (bytes)",
    ("host", "system"): "system of the measuring host",
    ("versions", "chaoslab"): "chaoslab",
    ("cooldown_seconds",): "cool-down between runs (s)",
}


def refuse(baseline: Mapping[str, Any], candidate: Mapping[str, Any], scenarios: Iterable[str]) -> None:
    """See that the numbers of two `campaign.json` mean the same, for the scenarios that are compared.

    Raises:
        UsageError: they do not; it names every difference, and what to do.
    """
    if baseline.get("campaign") == candidate.get("campaign") and baseline.get("anchor") == candidate.get("anchor"):
        raise UsageError(f"both are the campaign {candidate.get('campaign')}: there is nothing to compare")
    found = [
        _unlike(name, _get(baseline, path), _get(candidate, path))
        for path, name in _MEASUREMENT.items()
        if _get(baseline, path) != _get(candidate, path)
    ]
    paths = [urlsplit(str(_get(meta, ("probe", "url")) or "")).path for meta in (baseline, candidate)]
    if paths[0] != paths[1]:
        found.append(_unlike("probed path", *paths))
    faults = [{str(entry["name"]): _fault(entry) for entry in meta["scenarios"]} for meta in (baseline, candidate)]
    for name in scenarios:
        before, after = faults[0][name], faults[1][name]
        found += [
            _unlike(f"{name}: {key}", before.get(key), after.get(key))
            for key in sorted({*before, *after})
            if before.get(key) != after.get(key)
        ]
    if found:
        raise UsageError(
            f"the campaigns cannot be compared, their numbers do not mean the same: {'; '.join(found)}. Run the "
            "candidate as the baseline was run, record a new baseline, or name the scenarios that agree (--scenario)"
        )


def marks(baseline: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the comparison must know, a sentence each."""
    found = [
        f"{_unlike(name, _get(baseline, path), _get(candidate, path))}."
        for path, name in _CIRCUMSTANCES.items()
        if _get(baseline, path) != _get(candidate, path)
    ]
    places = [_place(meta) for meta in (baseline, candidate)]
    if places[0] != places[1]:
        found.append(f"{_unlike('address of the target', *places)}.")
    if _thresholds(baseline) != _thresholds(candidate):
        found.append("The objectives differ; those of the candidate say which metrics the gate looks at.")
    for meta, name in ((baseline, "baseline"), (candidate, "candidate")):
        if meta.get("status", "finished") != "finished":
            status = str(meta["status"]).replace("_", " ")
            found.append(f"The {name} did not finish ({status}): only its usable runs are compared.")
        if meta.get("imported"):
            found.append(f"The {name} is imported: nothing shows which fault was delivered in it, or how much of it.")
    return [f"{mark[:1].upper()}{mark[1:]}" for mark in found]


def _fault(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a scenario does, a key for each thing that can differ."""
    found = {key: entry[key] for key in _FAULT if key in entry}
    parameters = entry.get("parameters") or {}
    found |= {f"parameters.{key}": value for key, value in parameters.items() if key not in _NOT_THE_FAULT}
    for part in entry.get("faults", ()):
        found |= {f"{part.get('name')}: {key}": value for key, value in _fault(part).items()}
    return found


def _get(meta: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = meta
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _place(meta: Mapping[str, Any]) -> str:
    """Return where the target is; the port of a target that has a name may be another each time."""
    parts = urlsplit(str(meta.get("target")))
    return str(parts.hostname) if meta.get("target_name") else f"{parts.scheme}://{parts.netloc}"


def _thresholds(meta: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return sorted((slo.get("metric"), slo.get("threshold"), slo.get("severity")) for slo in meta.get("slos", ()))


def _unlike(name: str, before: Any, after: Any) -> str:
    return f"{name} was {_shown(before)}, is {_shown(after)}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return listed(
            f"{key} {inner:g}" if isinstance(inner, float) else f"{key} {inner}" for key, inner in value.items()
        )
    if value is None:
        return "not given"
    return f"{value:g}" if isinstance(value, float) else str(value)

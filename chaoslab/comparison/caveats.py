"""What the recordings themselves say against a comparison: a busy host, runs that were lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median
from typing import Final

from chaoslab.analysis import Analysis, ScenarioResult
from chaoslab.wording import listed, plural

SIDES: Final = ("baseline", "candidate")
BUSY: Final = 1.0
"""Load for each CPU from which processes wait for one another."""


def busy(sides: Sequence[Analysis], common: Collection[str]) -> list[str]:
    """Say so if the measuring host was busy before any fault: then what is compared may be its load.

    `sides` are baseline and candidate; the load is the median over the usable runs of the scenarios in `common`.
    """
    loads = [_load(side, common) for side in sides]
    known = [load for load in loads if load is not None]
    if len(known) < len(loads) or max(known) <= BUSY:
        return []
    said = listed(f"{load:.1f} for the {name}" for load, name in zip(known, SIDES, strict=True))
    return [f"The measuring host was busy before any fault (load for each CPU: {said}): a change may be its load."]


def lost(sides: Sequence[Analysis], common: Collection[str]) -> list[str]:
    """Say which runs of the scenarios in `common` cannot be used."""
    return [
        f"{result.name}: {plural(len(result.excluded), 'run')} of the {name} cannot be used ({_how(result)})."
        for side, name in zip(sides, SIDES, strict=True)
        for result in side.scenarios
        if result.name in common and result.excluded
    ]


def _how(result: ScenarioResult) -> str:
    return listed(dict.fromkeys(run.state.replace("_", " ") for run in result.excluded))


def _load(side: Analysis, common: Collection[str]) -> float | None:
    cpus = (side.campaign.get("host") or {}).get("cpus")
    found = [
        run.host["baseline"]["load_1m_max"]
        for result in side.scenarios
        if result.name in common
        for run in result.runs
        if "baseline" in run.host
    ]
    return median(found) / cpus if found and cpus else None

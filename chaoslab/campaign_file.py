"""`campaign.json` as readers may rely on it: the keys that are used, and what each may hold.

Other keys are kept as they are. What passes here can be analysed, rendered and resumed without a second look.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chaoslab.scenario import Metric, Severity

DEEPEST: Final = 50
"""Levels of nesting that a JSON document of a campaign may have."""

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Repeat = Annotated[int, Field(ge=1, le=32_767)]  # as the tables hold it
_MOST_PROBLEMS: Final = 3


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class Anchor(_Part):
    """The campaign's instant zero, on both clocks."""

    monotonic_ns: int
    wall_ns: int
    boot_id: str


class ProbeSettings(_Part):
    """How the target was looked at."""

    name: str = "health"
    url: str | None = None
    rate_hz: Annotated[_Number, Field(gt=0)] | None = None
    timeout_seconds: Annotated[_Number, Field(gt=0)] | None = None


class OneProbe(_Part):
    """One of the probes of a campaign that has several; its rows have its name."""

    name: str = Field(min_length=1)
    type: str = "http"
    rate_hz: Annotated[_Number, Field(gt=0)] | None = None


class PhaseLengths(_Part):
    """Seconds that were planned."""

    baseline: _Number
    injection: _Number
    recovery: _Number


class PlannedScenario(_Part):
    """One scenario as it was planned."""

    name: str = Field(min_length=1)
    type: str = Field(min_length=1)
    intensity: str = ""
    duration: _Number | None = None
    mechanism: str = ""
    phases: PhaseLengths | None = None


class Objective(_Part):
    """One SLO that the campaign ran with."""

    model_config = ConfigDict(extra="forbid")

    metric: Metric
    threshold: _Number
    comparison: Annotated[str, Field(pattern="^[<>]=$")]
    unit: str
    severity: Severity = "blocking"


class Configuration(_Part):
    """The scenario file; whoever passes a recording on may leave out where it lay."""

    file: str
    path: str | None = None
    sha256: str | None = None


class Machine(_Part):
    """Where chaoslab ran."""

    memory_bytes: _Number | None = None


class Imported(_Part):
    """Where a recording of another tool came from; `warnings` are sentences that a reader must know."""

    format: str
    tool: str
    files: list[dict[str, Any]] = []
    warnings: list[str] = []


class CampaignFile(_Part):
    """The whole file."""

    schema_version: int
    campaign: str = Field(min_length=1)
    dry_run: bool
    status: str = "finished"
    reason: str = ""
    commands: list[str] = []
    started_at: str | None = None
    finished_at: str | None = None
    anchor: Anchor | None = None
    target: str | None = None
    target_build: str | None = None
    target_name: str | None = None
    environment: str | None = None
    probe: ProbeSettings | None = None
    probes: list[OneProbe] = []
    seed: int | None = None
    repeats: Annotated[_Repeat, Field(ge=0)] = 1
    duration_scale: Annotated[_Number, Field(gt=0)] = 1.0
    scenarios: list[PlannedScenario]
    order: list[Annotated[tuple[str, _Repeat], Field(strict=False)]] = []
    repeated: list[Annotated[tuple[str, _Repeat, _Repeat], Field(strict=False)]] = []
    slos: list[Objective]
    required_health_checks: Annotated[int, Field(ge=1, le=1_000_000)] = 3
    configuration: Configuration | None = None
    host: Machine | None = None
    versions: Mapping[str, Any] | None = None
    command_line: str | None = None
    notes: dict[str, Any] = {}
    resumed_at: list[str] = []
    imported: Imported | None = None

    @model_validator(mode="after")
    def _names_what_it_plans(self) -> Self:
        names = [scenario.name for scenario in self.scenarios]
        if len(set(names)) < len(names):
            raise ValueError("two of its scenarios have the same name")
        for name in [entry[0] for entry in (*self.order, *self.repeated)]:
            if name not in names:
                raise ValueError(f"its order names {name!r}, which is not among its scenarios")
        if len(set(self.order)) < len(self.order):
            raise ValueError("its order names a run twice")
        return self


def check(document: object) -> dict[str, Any]:
    """Return `document`, the content of a `campaign.json`, if it is one.

    Raises:
        ValueError: it is not; says for each place what was found and what is accepted.
    """
    try:
        CampaignFile.model_validate(document)
    except ValidationError as error:
        said = [_explain(fault) for fault in error.errors()]
        more = [f"and {len(said) - _MOST_PROBLEMS} more"] if len(said) > _MOST_PROBLEMS else []
        raise ValueError("; ".join(said[:_MOST_PROBLEMS] + more)) from error
    assert isinstance(document, dict)  # a model takes nothing else
    return document


def parse(text: str) -> Any:
    """Return the JSON document that `text` is, if it can also be written and shown.

    Raises:
        ValueError: it is not JSON, holds a number that is none, text that is no Unicode, or is nested too deeply.
    """
    try:
        document = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from error
    level, depth = [document], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        level = [inner for part in level for inner in _inner(part)]
        depth += 1
    json.dumps(document, ensure_ascii=False).encode()
    return document


def _inner(part: object) -> list[Any]:
    if isinstance(part, dict):
        return list(part.values())
    return part if isinstance(part, list) else []


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number in JSON")


def _explain(fault: Any) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).removeprefix(".")
    message: str = fault["msg"][0].lower() + fault["msg"][1:]
    if fault["type"] == "missing":
        return f"the key {where!r} is missing"
    if not where:
        return message.removeprefix("value error, ")
    found = repr(fault["input"])
    return f"{where} is {found if len(found) <= 60 else found[:57] + '...'}: {message}"

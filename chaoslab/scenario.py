"""What to do: scenarios, suites, SLOs and safety settings as frozen values, each valid if it exists.

The keys of the older script suite are accepted as they are; its type names are read as today's. `scenario_file` reads
these values from YAML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from chaoslab import display
from chaoslab.errors import UsageError, nearest

Intensity = Literal["light", "medium", "heavy"]

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?\s*")
_DURATION_UNITS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parse_duration(value: object) -> object:
    """Return seconds from a number or from text such as "30s", "500ms" or "2m"; other values come back as they are.

    >>> parse_duration("2m"), parse_duration(30)
    (120.0, 30)
    """
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(match[1]) * _DURATION_UNITS[match[2]]
    return value


def parse_size(value: object) -> object:
    """Return bytes from a number or from text such as "256M" or "1 GB" (powers of 1024).

    >>> parse_size("256M")
    268435456
    """
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size = float(match[1]) * _SIZE_UNITS[match[2].upper()]
        return int(size) if math.isfinite(size) else size
    return value


_AnyDuration = Annotated[str, Field(description='a duration such as "30s", "500ms" or "2m"')]
_AnySize = Annotated[str, Field(description='a size such as "256M" or "1 GB", in powers of 1024')]
_Positive = Annotated[float, Field(gt=0, description="seconds")] | _AnyDuration
_NotNegative = Annotated[float, Field(ge=0, description="seconds")] | _AnyDuration
_Bytes = Annotated[int, Field(gt=0, description="bytes")] | _AnySize
Seconds = Annotated[
    float, Field(gt=0, allow_inf_nan=False), BeforeValidator(parse_duration, json_schema_input_type=_Positive)
]
Offset = Annotated[
    float, Field(ge=0, allow_inf_nan=False), BeforeValidator(parse_duration, json_schema_input_type=_NotNegative)
]
Size = Annotated[int, Field(gt=0), BeforeValidator(parse_size, json_schema_input_type=_Bytes)]
Command = Annotated[tuple[str, ...], Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Parameters(_Model):
    """What every failure type accepts; each adds its dose."""

    expected_impact: str | None = Field(default=None, description="what its author expects, for the record")
    recovery_time_expected: Seconds | None = Field(
        default=None, description="recovery time that its author expects, for the record"
    )


class Scenario(_Model):
    """One fault with its dose and duration; each failure type has its own subclass, in its own file of `faults`.

    `type` is a Literal there: the first name is the type's own, the others are what older files call it. `destructive`
    types end something rather than slow it; in production they need a confirmation.
    """

    destructive_type: ClassVar[bool] = False

    name: str = Field(min_length=1, description="what the scenario is called, in suites and on the command line too")
    type: str = Field(description="failure type")
    intensity: Intensity = Field(default="medium", description="level that `--intensity` chooses by")
    duration: Seconds = Field(description="length of the injection phase")
    offset: Offset = Field(default=0.0, description="time after the start; only among the faults of a combined one")
    description: str = Field(default="", description="what it is for, in words, for the record")
    target: str | None = Field(default=None, description="what is hit, for the record")
    host: str = Field(
        default="local", description='machine on which the fault acts: "local", "docker:NAME" or "ssh://USER@HOST"'
    )
    allow_other_host: bool = Field(
        default=False, description="let the fault act on a machine that is not known to be the target's"
    )
    parameters: Parameters = Field(default=Parameters(), description="dose, and what is hit, by failure type")

    @field_validator("type", mode="after", check_fields=False)
    @classmethod
    def _canonical(cls, value: str) -> str:
        names = cls.type_names()
        return names[0] if names else value

    @classmethod
    def type_names(cls) -> tuple[str, ...]:
        """Return what the type may be called in a file, its own name first; nothing where it is no failure type."""
        return get_args(cls.model_fields["type"].annotation)

    @property
    def parts(self) -> tuple[Scenario, ...]:
        """The faults that make up this scenario: itself, or those that a combined one lists."""
        return (self,)

    @property
    def dose_words(self) -> str:
        """What the fault is asked to do, in words, secrets hidden."""
        if self.parts != (self,):
            return ", ".join(part.name for part in self.parts)
        return display.pairs(self.parameters.model_dump(mode="json", exclude_defaults=True, exclude=_TOLD))

    def _repr_html_(self) -> str:
        fields = {
            "type": self.type,
            "intensity": self.intensity,
            "duration": f"{self.duration:g} s",
            "dose": self.dose_words,
            "host": None if self.host == "local" else self.host,
            "target": self.target,
            "description": self.description,
            "destructive": "yes" if self.destructive else None,
        }
        return display.card(self.name, fields)

    @property
    def destructive(self) -> bool:
        """Whether a fault of it ends something rather than slows it."""
        return any(part.destructive_type for part in self.parts)


_TOLD: Final = set(Parameters.model_fields)
"""Parameters that say nothing of the dose."""


class Combined(Scenario):
    """Faults that overlap, each with an offset from the start and a duration of its own."""

    type: Literal["combined"]
    faults: tuple[Scenario, ...] = Field(
        min_length=1, description="scenarios that need no name of their own, each with an offset and a duration"
    )

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, document: Any) -> Any:
        """Give each part what it leaves out: a name, the time that is left after its offset, the host."""
        if not isinstance(document, dict) or not isinstance(document.get("faults"), list):
            return document
        whole, parts = parse_duration(document.get("duration")), document["faults"]
        shared = {key: document[key] for key in ("host", "allow_other_host", "intensity") if key in document}
        kinds = [part.get("type") for part in parts if isinstance(part, dict)]
        filled = []
        for number, part in enumerate(parts, 1):
            if not isinstance(part, dict):
                filled.append(part)
                continue
            kind = part.get("type")
            implied: dict[str, Any] = {"name": f"{kind} {number}" if kinds.count(kind) > 1 else str(kind), **shared}
            offset = parse_duration(part.get("offset", 0.0))
            if isinstance(whole, int | float) and isinstance(offset, int | float) and whole > offset:
                implied["duration"] = whole - offset
            filled.append(implied | part)
        return document | {"faults": filled}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for part in self.faults:
            if part.offset + part.duration > self.duration:
                raise ValueError(
                    f"the fault {part.name!r} ends {part.offset + part.duration:g} s after the start, "
                    f"later than the scenario's {self.duration:g} s"
                )
        if len({part.name for part in self.faults}) < len(self.faults):
            raise ValueError("the faults of a combined scenario need different names")
        return self

    @property
    def parts(self) -> tuple[Scenario, ...]:
        """The faults that it lists."""
        return self.faults


_LONGEST_RECOVERY: Final = Field(default=None, description="longest recovery time, from the revert on")


class RecoveryTargets(_Model):
    """What counts as recovered, and how soon it must be."""

    max_recovery_time_seconds: Seconds | None = _LONGEST_RECOVERY
    required_health_checks: int = Field(default=3, ge=1, description="consecutive good probes that end an outage")
    health_check_interval_seconds: Seconds = Field(
        default=1.0, description="read for the older suite's sake; the pace of probes is --probe-rate"
    )


class Thresholds(_Model):
    """SLO thresholds; an absent one takes the default of the level above."""

    mttr_seconds: Seconds | None = Field(default=None, description="longest MTTR")
    max_error_rate_percent: float | None = Field(
        default=None, ge=0, le=100, description="highest error rate during injection"
    )
    min_availability_percent: float | None = Field(
        default=None, ge=0, le=100, description="lowest availability during injection"
    )
    max_latency_degradation_ms: float | None = Field(
        default=None, ge=0, description="highest latency degradation, in milliseconds"
    )


class SloTargets(Thresholds):
    """Thresholds, with the recovery block of the older suite."""

    recovery: RecoveryTargets = Field(default=RecoveryTargets(), description="what counts as recovered, and how soon")


Metric = Literal[
    "mttr_seconds",
    "error_rate_percent",
    "availability_percent",
    "latency_degradation_ms",
    "recovery_time_seconds",
]
Severity = Literal["blocking", "warning"]


class SeverityTargets(SloTargets):
    """Thresholds of one severity; files of the older suite have the recovery's here without a block of its own."""

    max_recovery_time_seconds: Seconds | None = _LONGEST_RECOVERY

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if None not in (self.max_recovery_time_seconds, self.recovery.max_recovery_time_seconds):
            raise ValueError("max_recovery_time_seconds is given here and in recovery: accepted once")
        return self


class SloSeverity(_Model):
    """Thresholds by what missing them means: `blocking` fails, `warning` is only reported."""

    blocking: SeverityTargets = Field(default=SeverityTargets(), description="missing one of them fails")
    warning: SeverityTargets = Field(default=SeverityTargets(), description="missing one of them is only reported")


class Environment(_Model):
    """What differs in one environment."""

    slo_targets: SloTargets = Field(default=SloTargets(), description="thresholds that are others here")
    allowed_scenarios: tuple[str, ...] | None = Field(
        default=None, description="the only scenarios that may run here; every one by default, in production none"
    )


class ScenarioGroup(_Model):
    """A suite: scenarios that run together."""

    description: str = Field(default="", description="what it is for, in words")
    scenarios: tuple[str, ...] = Field(description="names of scenarios of this file")


ProbeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]
Status = Annotated[int, Field(ge=100, le=599)]
HEALTH: Final = "health"
"""Name of the probe that is the health check."""


class JsonCondition(_Model):
    """What a JSON body must hold."""

    pointer: str = Field(pattern=r"^(/.*)?$", description="where: a JSON Pointer (RFC 6901) such as /checks/0/state")
    equals: str | int | float | bool | None = Field(
        default=None, description="what must stand there; anything but null by default"
    )


class SuccessRule(_Model):
    """What makes an answer a success, where its status alone does not say."""

    statuses: tuple[Status, ...] | None = Field(
        default=None, min_length=1, description="HTTP statuses that are a success; 200 to 399 by default"
    )
    contains: str | None = Field(default=None, min_length=1, description="text that the body must hold")
    json_: JsonCondition | None = Field(default=None, alias="json", description="what the body, as JSON, must hold")
    max_latency: Seconds | None = Field(
        default=None, description="a good answer that takes longer, from when it was sent, is a failure"
    )


class TimeLimit(_Model):
    """What other probes than those of HTTP have for `success`."""

    max_latency: Seconds | None = Field(default=None, description="a success that takes longer is a failure")


class BasicAuth(_Model):
    """User and password in each request (RFC 7617)."""

    type: Literal["basic"]
    user: str = Field(pattern="^[^:]+$", description="name without a colon")
    password: str = Field(description="${NAME} is an environment variable")


class BearerAuth(_Model):
    """A token in each request (RFC 6750)."""

    type: Literal["bearer"]
    token: str = Field(min_length=1, description="${NAME} is an environment variable")


class DigestAuth(_Model):
    """User and password, proved and not sent (RFC 7616)."""

    type: Literal["digest"]
    user: str = Field(min_length=1, description="name of the user")
    password: str = Field(description="${NAME} is an environment variable")


Auth = Annotated[BasicAuth | BearerAuth | DigestAuth, Field(discriminator="type")]


class TlsFiles(_Model):
    """What is trusted of TLS, and what is shown; files are PEM, from the folder of the scenario file on."""

    ca_file: str | None = Field(default=None, min_length=1, description="authorities trusted in place of the system's")
    certificate: str | None = Field(default=None, min_length=1, description="certificate of the client")
    key: str | None = Field(default=None, min_length=1, description="its key, without a password; else in certificate")
    verify: bool = Field(default=True, description="false takes any certificate, whoever it may be of")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.key is not None and self.certificate is None:
            raise ValueError("key is given without certificate: accepted together")
        if self.ca_file is not None and not self.verify:
            raise ValueError("ca_file is given with verify: false, which trusts anybody: accepted one of them")
        return self


class HttpRequest(_Model):
    """An HTTP request below the target's URL; `${NAME}` in a header is an environment variable, and a secret."""

    endpoint: str = Field(description="path below the target's URL")
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = Field(
        default="GET", description="of the request"
    )
    headers: Mapping[str, str] = Field(default={}, description="headers; ${NAME} is an environment variable")
    body: str = Field(default="", description="of the request, as text")
    success: SuccessRule = Field(default=SuccessRule(), description="what makes an answer a success")
    timeout: Seconds = Field(default=2.0, description="a probe that takes longer has failed")
    connections: int | None = Field(
        default=None, ge=1, le=4096, description="connections that may be open at once; enough for the rate by default"
    )
    new_connections: bool = Field(default=False, description="a new connection for each probe, as a load balancer sees")
    auth: Auth | None = Field(default=None, description="what lets the probe in; for basic and bearer a header is sent")
    tls: TlsFiles = Field(default=TlsFiles(), description="what is trusted, and shown, where the URL is https")
    http2: bool = Field(
        default=False, description="HTTP/2 and nothing else, over TLS or with prior knowledge; by httpx"
    )
    follow_redirects: bool = Field(default=False, description="judge what up to ten redirects lead to; by httpx")
    proxy: str | None = Field(
        default=None, description="http://[USER:PASSWORD@]HOST[:PORT], or https; ${NAME} is a variable; by httpx"
    )

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.auth is not None and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("auth and a header Authorization are given: accepted one of them")
        if self.method == "HEAD" and (self.success.contains or self.success.json_):
            raise ValueError("the answer to HEAD has no body: accepted without success.contains and success.json")
        return self


class HealthCheck(HttpRequest):
    """How the target is looked at: what is measured and judged. Its probes are evenly spaced."""

    endpoint: str = Field(default="/api/health", description="path below the target's URL")
    interval: Seconds = Field(default=5.0, description="pace that safety.abort_conditions count in")


class _Beside(_Model):
    """What all probes beside the health check have in common."""

    name: ProbeName = Field(description="name of its rows in the record")
    weight: float = Field(
        default=1.0, gt=0, le=1000, allow_inf_nan=False, description="probes for each one of the health check"
    )
    arrivals: Literal["constant", "poisson"] = Field(
        default="constant", description="evenly spaced, or at random, from the run's seed"
    )


class HttpProbe(HttpRequest, _Beside):
    """A request beside the health check."""

    type: Literal["http"] = Field(description="kind of probe")
    endpoint: str = Field(pattern=r"^/($|[^/\s#][^\s#]*$)", description="path below the target's URL")


class TcpProbe(_Beside):
    """A connection that opens, and is closed at once."""

    type: Literal["tcp"] = Field(description="kind of probe")
    address: str = Field(description="HOST:PORT")
    timeout: Seconds = Field(default=2.0, description="a probe that takes longer has failed")
    success: TimeLimit = Field(default=TimeLimit(), description="what makes it a success")


class PostgresProbe(_Beside):
    """`SELECT 1` in a PostgreSQL."""

    type: Literal["postgres"] = Field(description="kind of probe")
    dsn: str = Field(description="connection string of libpq, URL or key=value; ${NAME} is an environment variable")
    timeout: Seconds = Field(default=2.0, description="a probe that takes longer has failed")
    connections: int | None = Field(default=None, ge=1, le=4096, description="connections that may be open at once")
    new_connections: bool = Field(default=False, description="a new connection for each probe")
    success: TimeLimit = Field(default=TimeLimit(), description="what makes it a success")


class CommandProbe(_Beside):
    """A command that exits with 0; at most `at_once` of them run."""

    type: Literal["command"] = Field(description="kind of probe")
    command: Command = Field(description="argv; needs --allow-commands or a trusted file")
    weight: float = Field(
        default=0.05, gt=0, le=1000, allow_inf_nan=False, description="probes for each one of the health check"
    )
    timeout: Seconds = Field(default=5.0, description="a probe that takes longer has failed")
    at_once: int = Field(default=4, ge=1, le=64, description="commands that may run at once")
    success: TimeLimit = Field(default=TimeLimit(), description="what makes it a success")


BesideProbe = Annotated[HttpProbe | TcpProbe | PostgresProbe | CommandProbe, Field(discriminator="type")]


class Monitoring(_Model):
    """What is watched."""

    metrics: tuple[str, ...] = Field(default=(), description="kept for the record; every metric is computed")
    sampling_interval: Seconds = Field(default=0.5, description="seconds between samples of the host's resources")
    health_check: HealthCheck = Field(default=HealthCheck(), description="the probe that is measured and judged")
    probes: tuple[BesideProbe, ...] = Field(
        default=(), max_length=64, description="probes beside the health check: recorded, and not judged"
    )
    alerts: Any = Field(default=None, description="kept for the record; chaoslab sends no alerts")


class AbortProbe(_Model):
    """A command of the user's that says whether the fault may go on."""

    command: Command = Field(
        description="argv that exits 0 while all is well; needs --allow-commands or a trusted file"
    )
    interval: Seconds = Field(default=2.0, description="seconds between two of its starts")
    timeout: Seconds = Field(default=5.0, description="one that takes longer stops the fault too")


class AbortConditions(_Model):
    """When to stop a fault at once: the target suffers too much, this machine runs short, or the user's probe says so.

    `consecutive_failures` counts failed health checks at the pace of monitoring.health_check.interval: ten
    failures at 5 s mean 50 s without one success, whatever the probe rate.
    """

    error_rate_percent: float | None = Field(
        default=None, gt=0, le=100, description="error rate, within the window, that stops a fault"
    )
    consecutive_failures: int | None = Field(
        default=None, gt=0, description="failed health checks in a row that stop a fault"
    )
    response_time_ms: float | None = Field(
        default=None, gt=0, description="median response time, within the window, that stops a fault"
    )
    window_seconds: Seconds = Field(
        default=30.0, description="window of the error rate and of the response time's median"
    )
    min_free_memory_percent: float = Field(default=3.0, ge=0, le=100, description="of this machine's memory")
    min_free_disk_mb: float = Field(default=100.0, ge=0, description="on the disk of the campaign's folder")
    max_load_per_core: float | None = Field(default=None, gt=0, description="load average of 1 minute, by core")
    probe: AbortProbe | None = Field(default=None, description="a command of the user's that may stop the fault")


class Safety(_Model):
    """Limits of a campaign."""

    abort_conditions: AbortConditions = Field(default=AbortConditions(), description="when to stop a fault at once")
    cooldown_seconds: float = Field(default=2.0, ge=0, description="pause between two runs")
    max_total_duration_seconds: Seconds = Field(default=7200.0, description="deadline of the whole campaign")
    allowed_targets: tuple[str, ...] | None = Field(
        default=None, description="patterns of host or host:port that may be hit, such as *.staging.example.com"
    )
    require_confirmation: bool | tuple[str, ...] = Field(
        default=False, description="true, or the types that need --yes"
    )
    secrets: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], ...] = Field(
        default=(), description="environment variables whose values are hidden in every record, log and report"
    )
    auto_rollback: bool = Field(default=True, description="kept for the record; everything is always reverted")


class Phases(_Model):
    """Lengths of the phases around an injection, scaled with it."""

    baseline_seconds: Seconds = Field(default=15.0, description="baseline phase, before the injection")
    recovery_seconds: Seconds = Field(default=30.0, description="recovery phase, after it")


class ScenarioFile(_Model):
    """A whole scenario file."""

    scenarios: tuple[Scenario, ...] = Field(description="what can be run")
    scenario_groups: Mapping[str, ScenarioGroup] = Field(default={}, description="suites, by name")
    slo_targets: SloTargets = Field(default=SloTargets(), description="SLO thresholds")
    slo_severity: SloSeverity = Field(default=SloSeverity(), description="SLO thresholds by severity")
    environments: Mapping[str, Environment] = Field(default={}, description="what differs in each, by name")
    monitoring: Monitoring = Field(default=Monitoring(), description="what is asked of the target, and how often")
    safety: Safety = Field(default=Safety(), description="limits, and when to stop")
    phases: Phases = Field(default=Phases(), description="lengths of the phases around an injection")

    def suite(self, name: str) -> tuple[Scenario, ...]:
        """Return the scenarios of the suite `name`; "all" is every scenario of the file.

        Raises:
            UsageError: no suite has that name.
        """
        if name == "all" and name not in self.scenario_groups:
            return self.scenarios
        if name not in self.scenario_groups:
            accepted = [*self.scenario_groups, "all"]
            raise UsageError(
                f"no suite is called {name!r}{nearest(name, accepted)}; accepted: {', '.join(sorted(accepted))}"
            )
        return tuple(self.scenario(member) for member in self.scenario_groups[name].scenarios)

    def scenario(self, name: str) -> Scenario:
        """Return the scenario `name` (letter case does not matter).

        Raises:
            UsageError: no scenario has that name.
        """
        for scenario in self.scenarios:
            if scenario.name.lower() == name.lower():
                return scenario
        names = [scenario.name for scenario in self.scenarios]
        raise UsageError(f"no scenario is called {name!r}{nearest(name, names)}; accepted: {', '.join(names)}")

    def __getitem__(self, name: str) -> Scenario:
        return self.scenario(name)

    def _ipython_key_completions_(self) -> list[str]:
        """Complete `file["Li<Tab>`."""
        return [scenario.name for scenario in self.scenarios]

    def _repr_html_(self) -> str:
        rows = [(one.name, one.type, one.intensity, f"{one.duration:g} s", one.dose_words) for one in self.scenarios]
        shown = display.table(["scenario", "type", "intensity", "duration", "dose"], rows)
        suites = [(name, ", ".join(group.scenarios)) for name, group in self.scenario_groups.items()]
        return shown + (display.table(["suite", "scenarios"], suites) if suites else "")

    def environment(self, name: str | None) -> Environment:
        """Return the environment `name`, or an empty one for None.

        Raises:
            UsageError: no environment has that name.
        """
        if name is None:
            return Environment()
        if name not in self.environments:
            accepted = sorted(self.environments)
            raise UsageError(
                f"no environment is called {name!r}{nearest(name, accepted)}; accepted: {', '.join(accepted)}"
            )
        return self.environments[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """One objective: `metric` must be at most, or at least, `threshold`."""

    metric: Metric
    threshold: float
    comparison: Literal["<=", ">="]
    unit: str
    severity: Severity = "blocking"


_SLO_FIELDS: Final[Mapping[str, tuple[Metric, Literal["<=", ">="], str]]] = {
    "mttr_seconds": ("mttr_seconds", "<=", "s"),
    "max_error_rate_percent": ("error_rate_percent", "<=", "%"),
    "min_availability_percent": ("availability_percent", ">=", "%"),
    "max_latency_degradation_ms": ("latency_degradation_ms", "<=", "ms"),
    "max_recovery_time_seconds": ("recovery_time_seconds", "<=", "s"),
}

DEFAULT_THRESHOLDS: Final[Mapping[str, float]] = {
    "mttr_seconds": 30.0,
    "max_error_rate_percent": 5.0,
    "min_availability_percent": 95.0,
    "max_latency_degradation_ms": 500.0,
    "max_recovery_time_seconds": 10.0,
}


def _thresholds(targets: SloTargets) -> dict[str, float]:
    given = [targets.model_dump(exclude={"recovery"}), targets.recovery.model_dump()]
    return {key: part[key] for key in _SLO_FIELDS for part in given if part.get(key) is not None}


def resolve_slos(file: ScenarioFile, environment: str | None = None) -> tuple[Slo, ...]:
    """Return the objectives that hold in `environment`: its own, else the file's, else the defaults.

    `slo_severity.blocking` overrides the thresholds that block; `slo_severity.warning` adds objectives that are
    only reported.

    Raises:
        UsageError: no environment has that name.
    """
    blocking = {
        **DEFAULT_THRESHOLDS,
        **_thresholds(file.slo_targets),
        **_thresholds(file.slo_severity.blocking),
        **_thresholds(file.environment(environment).slo_targets),
    }
    warning = _thresholds(file.slo_severity.warning)
    levels: list[tuple[Severity, dict[str, float]]] = [("blocking", blocking), ("warning", warning)]
    return tuple(
        Slo(metric=metric, threshold=levels_of[key], comparison=comparison, unit=unit, severity=severity)
        for severity, levels_of in levels
        for key, (metric, comparison, unit) in _SLO_FIELDS.items()
        if key in levels_of
    )


def select(
    file: ScenarioFile,
    *,
    suites: Sequence[str] = (),
    names: Sequence[str] = (),
    intensity: Intensity | None = None,
) -> tuple[Scenario, ...]:
    """Return the scenarios that the suites and names ask for, each once, in the order of the request.

    With neither, every scenario of the file. `intensity` keeps only scenarios of that level, and controls.

    Raises:
        UsageError: a name that the file does not define, or nothing left.
    """
    chosen = [scenario for suite in suites for scenario in file.suite(suite)]
    chosen += [file.scenario(name) for name in names]
    if not suites and not names:
        chosen = list(file.scenarios)
    if intensity is not None:
        chosen = [scenario for scenario in chosen if scenario.intensity == intensity or scenario.type == "control"]
    if not chosen:
        raise UsageError(f"no scenario of the request has the intensity {intensity!r}")
    return tuple({scenario.name: scenario for scenario in chosen}.values())

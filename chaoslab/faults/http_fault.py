"""http_fault: a share of the requests to the target fails, waits or trickles, chosen by path, method and headers.

The prober's requests go through a proxy that answers some of them itself, resets or hangs them, delays them, or bounds
the pace at which they and their answers pass. What goes through untouched stays byte for byte what it was.

Dose: the share of matching requests that was hit, accepted inside its 99 % binomial interval; the delay that they
really had, the pace at which bytes really passed; and, where every request is hit, what a request of our own met.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urljoin, urlsplit

from pydantic import BeforeValidator, Field, model_validator

from chaoslab.faults.base import FailureType, Injection, Obstacle, Reading, Surroundings
from chaoslab.faults.through_proxy import ThroughProxy, Toxic, seed, stats_command
from chaoslab.faults.traffic import chance
from chaoslab.looks import HTTP2
from chaoslab.records import Dose
from chaoslab.scenario import Parameters, Scenario, Size

Method = Annotated[
    Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]


_WILDCARDS: Final = frozenset("*?[")
_EFFECT_SHARE: Final = 0.7
_ENDINGS: Final = ("status", "reset", "hang")
_LATE_SECONDS: Final = 0.005
_Z: Final = 2.576  # of a 99 % interval


class HttpParameters(Parameters):
    """Dose of http_fault: which requests, what share of them, and what happens to them."""

    percent: float = Field(default=100.0, gt=0, le=100, description="share of the matching requests that is hit")
    path: str | None = Field(
        default=None,
        pattern="^[/*]",
        description='path without its query; * stands for any characters, so "/api/*" is everything below /api/',
    )
    methods: tuple[Method, ...] = Field(default=(), description="methods that are hit; all if none is given")
    headers: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], str] = Field(
        default={}, description="headers that a request must have: value, in which * stands for any characters"
    )
    delay_ms: float = Field(default=0.0, ge=0, le=60_000, description="how long a request is held back")
    jitter_ms: float = Field(default=0.0, ge=0, description="by how much the delay varies, evenly, either way")
    # 1xx would be an interim answer: the client would go on waiting, which `hang` does without a detour.
    status: int | None = Field(default=None, ge=200, le=599, description="status of an answer in the target's place")
    reset: bool = Field(default=False, description="reset the connection instead of an answer")
    hang: bool = Field(default=False, description="never answer")
    bytes_per_second: Size | None = Field(default=None, description="pace of the request, and of its answer")

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        endings = [name for name in _ENDINGS if getattr(self, name)]
        if not (endings or self.delay_ms or self.bytes_per_second):
            raise ValueError("no effect is given; accepted: delay_ms, bytes_per_second, status, reset, hang")
        if len(endings) > 1:
            raise ValueError(f"{' and '.join(endings)} exclude each other: a request ends only once")
        if endings and self.bytes_per_second:
            raise ValueError(f"bytes_per_second and {endings[0]} exclude each other: what never passes has no pace")
        if self.jitter_ms > self.delay_ms:
            raise ValueError(f"jitter_ms must not be more than delay_ms, {self.delay_ms:g}")
        return self

    @property
    def effect(self) -> str:
        """What happens to a request that is hit, in words."""
        parts = [f"{self.delay_ms:g} ms of delay"] if self.delay_ms else []
        parts += [f"{self.bytes_per_second} bytes per second"] if self.bytes_per_second else []
        parts += [f"status {self.status}"] if self.status else []
        return " and ".join(parts + [name for name in ("reset", "hang") if getattr(self, name)])


class HttpFault(Scenario):
    """HTTP requests that fail, wait or trickle."""

    type: Literal["http_fault"]
    parameters: HttpParameters


class HttpProxy(ThroughProxy):
    """The proxy follows the requests that go through it."""

    name = "http proxy"
    carries: ClassVar = dict.fromkeys(HttpParameters.model_fields)

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        if find_spec("httptools") is None:
            return Obstacle("httptools is not installed", "pip install httptools")
        if scenario is not None and urlsplit(where.url).scheme != "http":
            return Obstacle(
                f"inside TLS the requests to {where.url} cannot be told apart",
                "give the plain HTTP port behind it, or use network_latency or packet_loss",
            )
        if scenario is not None and HTTP2 in where.features:
            return Obstacle(
                "the health check speaks HTTP/2, which the proxy cannot read", "take monitoring.health_check.http2 away"
            )
        return super().obstacle(scenario, where)

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert isinstance(scenario, HttpFault)
        dose = scenario.parameters
        toxic = Toxic("requests", token, (*_options(dose), *seed(where)))
        evidence = stats_command(where, token, passage=_passage(dose, where.url))
        step = self.step(f"{dose.effect} for {dose.percent:g} % of requests", toxic, evidence, where, seconds)
        return Injection(
            mechanism=self.name,
            steps=(step,),
            took_effect=partial(_shows, dose),
            doses=lambda readings: tuple(_doses(dose, readings, self.name)),
        )


def _options(dose: HttpParameters) -> Iterator[str]:
    numbers = {"percent": dose.percent, "delay-ms": dose.delay_ms, "jitter-ms": dose.jitter_ms}
    numbers |= {"bytes-per-second": dose.bytes_per_second or 0, "status": dose.status or 0}
    for name, number in numbers.items():
        if number:
            yield from (f"--{name}", f"{number:.12g}")
    if dose.path is not None:
        yield from ("--path", dose.path)
    for method in dose.methods:
        yield from ("--method", method)
    for header, value in dose.headers.items():
        yield from ("--header", f"{header}: {value}")
    yield from (f"--{name}" for name in ("reset", "hang") if getattr(dose, name))


def _passage(dose: HttpParameters, url: str) -> str:
    """Return the URL of a request that is sure to be hit, and does no harm if it is not; empty where there is none."""
    reads = not dose.methods or "GET" in dose.methods
    sure = dose.percent == 100 and not dose.headers and reads
    if not sure or (dose.path is not None and _WILDCARDS & set(dose.path)):
        return ""
    return urljoin(url, dose.path) if dose.path else url


def _shows(dose: HttpParameters, readings: Sequence[Reading]) -> bool:
    """Whether the effect shows: requests match, and one of ours, where there is one, meets what was asked."""
    last = readings[-1].data
    met = not last.get("passage") or _met(dose, last["passage"])
    return met and bool(last.get("matched")) and (not dose.bytes_per_second or bool(last["paced"]))


def _met(dose: HttpParameters, passage: Mapping[str, Any]) -> bool:
    outcome, status = str(passage["outcome"]), passage["status"]
    if outcome == "unanswered":
        # Whoever answers late has not answered yet.
        return dose.hang or dose.delay_ms > 0
    waited = bool(passage["ms"] >= _EFFECT_SHARE * (dose.delay_ms - dose.jitter_ms))
    if dose.reset:
        return waited and outcome == "reset"
    return waited and not dose.hang and dose.status in (None, status)


def _doses(dose: HttpParameters, readings: Sequence[Reading], mechanism: str) -> Iterator[Dose]:
    last = readings[-1].data
    yield _share(dose, last, mechanism)
    if dose.delay_ms:
        yield _delay(dose, last, mechanism)
    if dose.bytes_per_second:
        yield _pace(dose.bytes_per_second, last, mechanism)
    passages = [reading.data["passage"] for reading in readings if "hit" in reading.data and reading.data["passage"]]
    if passages:
        yield _seen(dose, passages, mechanism)


def _share(dose: HttpParameters, last: Mapping[str, Any], mechanism: str) -> Dose:
    matched, hit = int(last.get("matched", 0)), int(last.get("hit", 0))
    low, high = chance(dose.percent / 100, matched)
    return Dose(
        quantity="matching requests that were hit",
        unit="%",
        asked=dose.percent,
        delivered=100 * hit / matched if matched else None,
        low=100 * low,
        high=100 * high,
        how=f"{hit} of {matched} requests, by the counters of the proxy; 99 % binomial interval",
        mechanism=mechanism,
    )


def _delay(dose: HttpParameters, last: Mapping[str, Any], mechanism: str) -> Dose:
    held = int(last.get("held", 0))
    # The mean of that many evenly distributed delays, of which each has the variance jitter² / 3.
    chance_ms = _Z * dose.jitter_ms / math.sqrt(3 * held) if held else 0.0
    return Dose(
        quantity="delay of requests that were hit",
        unit="ms",
        asked=dose.delay_ms,
        delivered=1000 * last["held_seconds"] / held if held else None,
        low=dose.delay_ms * 0.95 - 2.0 - chance_ms,
        high=dose.delay_ms * 1.10 + 5.0 + chance_ms,
        how=f"mean of {held} requests, from their arrival at the proxy to their release, by its clock",
        mechanism=mechanism,
    )


def _pace(asked: float, last: Mapping[str, Any], mechanism: str) -> Dose:
    waits, count, seconds = (float(last.get(name, 0)) for name in ("paced", "paced_bytes", "paced_seconds"))
    return Dose(
        quantity="pace of requests that were hit, and of their answers",
        unit="bytes/s",
        asked=asked,
        delivered=count / seconds if seconds else None,
        # Each wait may end late by some milliseconds, which weighs where little is sent.
        low=count / (1.25 * count / asked + _LATE_SECONDS * waits) if count else 0.0,
        high=asked * 1.05,
        how=f"{count:.0f} bytes that had to wait, in the {seconds:.3g} s in which they went out",
        mechanism=mechanism,
    )


def _seen(dose: HttpParameters, passages: Sequence[Mapping[str, Any]], mechanism: str) -> Dose:
    met = sum(_met(dose, passage) for passage in passages)
    words = ", ".join(sorted({str(passage["status"] or passage["outcome"]) for passage in passages}))
    return Dose(
        quantity="requests of our own that met it",
        unit="%",
        asked=100.0,
        delivered=100 * met / len(passages),
        low=100.0,
        high=100.0,
        how=f"{met} of {len(passages)} requests sent through the proxy while it stood; they met: {words}",
        mechanism=mechanism,
    )


FAULT: Final = FailureType(scenario=HttpFault, mechanisms=(HttpProxy(),))

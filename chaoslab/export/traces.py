"""A recorded campaign as an OpenTelemetry trace: campaign → runs → phases and faults.

It is made from the events after the fact, so nothing of it is near the fault while that is on. Identifiers are derived
from the campaign's own, so that a trace sent twice is one trace. Sending needs the extra `otel`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from chaoslab.errors import CampaignFolderError, UsageError
from chaoslab.export.sending import Receiver, Tell, deliver, request
from chaoslab.records import Event, RunState
from chaoslab.redaction import learn, redact

if TYPE_CHECKING:
    import httpx

    from chaoslab.store import Campaign, Run

HEADERS_VARIABLE: Final = "OTEL_EXPORTER_OTLP_HEADERS"
CERTIFICATE_VARIABLE: Final = "OTEL_EXPORTER_OTLP_CERTIFICATE"

_HEADER: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_LAST_NS: Final = 2**63 - 1
_OF_RUN: Final = frozenset({Event.STEADY_STATE, Event.FAULT_OVER, Event.ABORTED})
_OF_FAULT: Final = frozenset({Event.DONE, Event.VERIFIED, Event.NOT_DELIVERED, Event.UNDO})


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of a campaign.

    Attributes:
        parent: place of the span that it belongs to among all of the campaign; None for the campaign itself.
        start_us, end_us: microseconds since the campaign's anchor.
        marks: (name, microseconds) of what happened in it.
        error: what went wrong, or empty.
    """

    name: str
    parent: int | None
    start_us: int
    end_us: int
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    marks: tuple[tuple[str, int], ...] = ()
    error: str = ""


def spans(campaign: Campaign) -> tuple[Span, ...]:
    """Return the spans of a campaign, each after the one that it belongs to.

    Raises:
        CampaignFolderError: the folder is damaged.
    """
    meta, runs = campaign.meta, campaign.runs
    known = {name: meta.get(name) for name in ("target", "environment", "seed", "status", "target_build")}
    found = [
        Span(
            name=f"campaign {campaign.name}",
            parent=None,
            start_us=min((run.baseline_us for run in runs), default=0),
            end_us=max((run.finished_us for run in runs), default=0),
            attributes={f"chaos.{name}": value for name, value in known.items() if value is not None},
            error="" if meta.get("status") in (None, "finished") else str(meta.get("reason") or meta["status"]),
        )
    ]
    planned = {str(entry["name"]): entry for entry in meta.get("scenarios", ())}
    for run in runs:
        here = len(found)
        found.append(_run(run, planned.get(run.scenario, {})))
        found += _phases(run, here)
        found += _faults(run, here)
    return tuple(found)


def _run(run: Run, planned: Mapping[str, Any]) -> Span:
    return Span(
        name=f"{run.scenario} #{run.repeat}",
        parent=0,
        start_us=run.baseline_us,
        end_us=run.finished_us,
        attributes={
            "chaos.scenario": run.scenario,
            "chaos.repeat": run.repeat,
            "chaos.type": str(planned.get("type", "")),
            "chaos.intensity": str(planned.get("intensity", "")),
            "chaos.state": str(run.state),
        },
        marks=tuple((step["event"], step["at_us"]) for step in run.steps if step["event"] in _OF_RUN),
        error="" if run.state is RunState.COMPLETED else run.reason or str(run.state),
    )


def _phases(run: Run, parent: int) -> Iterator[Span]:
    starts = {"baseline": run.baseline_us, "injection": run.injection_us, "recovery": run.recovery_us}
    reached = [(name, start) for name, start in starts.items() if start is not None]
    ends = [*(start for _, start in reached[1:]), run.finished_us]
    for (name, start), end in zip(reached, ends, strict=True):
        yield Span(name=name, parent=parent, start_us=start, end_us=end, attributes={"chaos.phase": name})


def _faults(run: Run, parent: int) -> Iterator[Span]:
    """Yield a span for each step of a fault, from its command to its undo, or to the end of the run."""
    for number, step in enumerate(run.steps):
        if step["event"] != Event.DO:
            continue
        later = [other for other in run.steps[number + 1 :] if other["step"] == step["step"]]
        last = next((other for other in later if other["event"] in (Event.UNDONE, Event.UNDO_FAILED)), None)
        until = run.finished_us if last is None else last["at_us"]
        refused = [other for other in later if other["event"] in (Event.NOT_DELIVERED, Event.UNDO_FAILED)]
        yield Span(
            name=f"fault {step['step']}",
            parent=parent,
            start_us=step["at_us"],
            end_us=until,
            attributes={
                "chaos.step": step["step"],
                "chaos.command": shlex.join(map(str, step["detail"].get("argv", ()))),
            },
            marks=tuple(
                (other["event"], other["at_us"])
                for other in later
                if other["event"] in _OF_FAULT and other["at_us"] <= until
            ),
            error="; ".join(str(other["detail"].get("reason", other["event"])) for other in refused),
        )


def receiver(endpoint: str, *, timeout: float, retries: int) -> Receiver:
    """Return the receiver of traces at `endpoint`, with headers and certificates from OpenTelemetry's own variables.

    Raises:
        UsageError: a value that cannot be used, or the extra is not installed.
    """
    try:
        import opentelemetry.exporter.otlp.proto.common.trace_encoder
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise UsageError("traces need the extra otel: pip install 'chaoslab[otel]'") from error
    headers = _headers(os.environ.get(HEADERS_VARIABLE, ""))
    for value in headers.values():
        learn({"token": value})
    certificates = os.environ.get(CERTIFICATE_VARIABLE)
    return Receiver(
        what="the trace receiver",
        url=endpoint,
        headers=headers,
        ca_file=Path(certificates) if certificates else None,
        ca_option=CERTIFICATE_VARIABLE,
        timeout=timeout,
        retries=retries,
    )


def _headers(text: str) -> dict[str, str]:
    """Return the headers of NAME=VALUE,NAME=VALUE, values as in a URL; OpenTelemetry's own parser logs what it refuses.

    Raises:
        UsageError: one of another form; it is named by its place, since it may be a secret.
    """
    found = {}
    for place, pair in enumerate((part for part in text.split(",") if part.strip()), start=1):
        name, equals, value = (part.strip() for part in pair.partition("="))
        value = unquote(value)
        if not equals or not _HEADER.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise UsageError(
                f"header {place} of {HEADERS_VARIABLE} is no header; accepted: NAME=VALUE,NAME=VALUE in ASCII"
            )
        found[name] = value
    return found


def send(campaign: Campaign, to: Receiver, *, tell: Tell = lambda _: None, pause: float = 0.5) -> int:
    """Send the trace of a campaign by OTLP over HTTP; return how many spans it has. `tell`, `pause` as in `deliver`.

    Raises:
        PushFailed: the receiver cannot be reached or did not take it.
    """
    found = spans(campaign)
    body, url = encoded(campaign, found), f"{to.url.rstrip('/')}/v1/traces"

    def attempt(client: httpx.Client) -> None:
        request(client, "POST", url, {"Content-Type": "application/x-protobuf"}, body)

    deliver(to, attempt, "trace", tell=tell, pause=pause)
    return len(found)


def encoded(campaign: Campaign, found: tuple[Span, ...]) -> bytes:
    """Return the spans as an OTLP request in protobuf; equal campaigns give equal bytes.

    Raises:
        CampaignFolderError: the record does not say when it was, or says what no clock shows.
    """
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event as Mark
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    meta = campaign.meta
    trace = sha256(f"{campaign.name}\0{meta.get('started_at')}".encode()).digest()[:16]
    zero_ns = _zero_ns(campaign, found)

    def context(number: int) -> SpanContext:
        own = sha256(trace + number.to_bytes(8, "big")).digest()[:8]
        return SpanContext(
            int.from_bytes(trace, "big"), int.from_bytes(own, "big"), is_remote=False, trace_flags=TraceFlags(1)
        )

    resource = Resource({"service.name": "chaoslab", "chaos.campaign": campaign.name})
    scope = InstrumentationScope("chaoslab", str((meta.get("versions") or {}).get("chaoslab", "")))
    made = [
        ReadableSpan(
            name=redact(span.name),
            context=context(number),
            parent=None if span.parent is None else context(span.parent),
            resource=resource,
            attributes={
                name: redact(value) if isinstance(value, str) else value for name, value in span.attributes.items()
            },
            events=[Mark(name, timestamp=zero_ns + at_us * 1000) for name, at_us in span.marks],
            kind=SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, redact(span.error)) if span.error else Status(StatusCode.UNSET),
            start_time=zero_ns + span.start_us * 1000,
            end_time=zero_ns + span.end_us * 1000,
            instrumentation_scope=scope,
        )
        for number, span in enumerate(found)
    ]
    body: bytes = encode_spans(made).SerializeToString(deterministic=True)
    return body


def _zero_ns(campaign: Campaign, found: tuple[Span, ...]) -> int:
    """Return the campaign's instant zero in nanoseconds of Unix time."""
    anchor = campaign.meta.get("anchor")
    if anchor is None:
        raise CampaignFolderError(f"{campaign.path} has no anchor on the clock, so a trace of it has no time")
    zero_ns = int(anchor["wall_ns"])
    if zero_ns + found[0].start_us * 1000 < 0 or zero_ns + found[0].end_us * 1000 > _LAST_NS:
        raise CampaignFolderError(f"{campaign.path}: its anchor is {zero_ns} ns; accepted: from 1970 to 2262")
    return zero_ns

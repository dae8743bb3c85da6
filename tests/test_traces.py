"""A trace shows a campaign as its events tell it, and arrives where it is sent."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp

from chaoslab.export.traces import HEADERS_VARIABLE, Span, encoded, spans
from chaoslab.records import Event, RunState
from chaoslab.store import Campaign
from tests.campaigns import RunRows, make_campaign, make_run
from tests.monitoring_servers import free_port
from tests.test_cli import chaoslab
from tests.test_pushgateway import answering

SECOND = 1_000_000


def with_fault(run: RunRows, *events: tuple[float, Event, dict[str, Any]]) -> RunRows:
    """Return `run` with events of a step "stress", at seconds since its start."""
    added = [(int(at * SECOND), event, "stress", detail) for at, event, detail in events]
    return replace(run, events=sorted([*run.events, *added], key=lambda row: row[0]))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A run that was broken and mended, one whose undo failed, and one that was not steady."""
    do = {"argv": ["stress-ng", "--password", "hunter2-x"]}
    failed = {"reason": "it is still there", "command": "kill 1"}
    runs = [
        with_fault(
            make_run(repeat=1),
            *((5.0, Event.DO, do), (5.5, Event.DONE, {}), (6.0, Event.VERIFIED, {})),
            *((15.0, Event.UNDO, do), (15.5, Event.UNDONE, {})),
        ),
        with_fault(make_run(repeat=2), (5.0, Event.DO, do), (15.0, Event.UNDO, do), (16.0, Event.UNDO_FAILED, failed)),
        make_run("Medium CPU Stress", state=RunState.NOT_STEADY, steady=False, reason="error rate 12 %"),
    ]
    return make_campaign(tmp_path_factory.mktemp("traces") / "campaign", runs, environment="staging")


def named(found: tuple[Span, ...]) -> list[tuple[str, str | None, float, float]]:
    return [
        (one.name, None if one.parent is None else found[one.parent].name, one.start_us / SECOND, one.end_us / SECOND)
        for one in found
    ]


def test_a_trace_has_the_campaign_its_runs_their_phases_and_faults(campaign: Campaign) -> None:
    first, second, third = "Light CPU Stress #1", "Light CPU Stress #2", "Medium CPU Stress #1"
    assert named(spans(campaign)) == [
        ("campaign test", None, 0.0, 62.0),
        (first, "campaign test", 0.0, 20.0),
        ("baseline", first, 0.0, 5.0),
        ("injection", first, 5.0, 15.0),
        ("recovery", first, 15.0, 20.0),
        ("fault stress", first, 5.0, 15.5),
        (second, "campaign test", 21.0, 41.0),
        ("baseline", second, 21.0, 26.0),
        ("injection", second, 26.0, 36.0),
        ("recovery", second, 36.0, 41.0),
        ("fault stress", second, 26.0, 37.0),
        (third, "campaign test", 42.0, 62.0),
        ("baseline", third, 42.0, 62.0),
    ]


def test_what_went_wrong_is_an_error_and_what_happened_is_marked(campaign: Campaign) -> None:
    found = {(one.name, one.start_us // SECOND): one for one in spans(campaign)}
    assert [one.error for one in found.values() if one.error] == ["it is still there", "error rate 12 %"]
    marks = found["fault stress", 5].marks
    assert marks == (("done", 5_500_000), ("verified", 6_000_000), ("undo", 15_000_000))
    assert ("fault_over", 15_000_000) in found["Light CPU Stress #1", 0].marks


def test_equal_campaigns_are_one_trace_without_secrets(campaign: Campaign) -> None:
    body = encoded(campaign, spans(campaign))
    assert body == encoded(campaign, spans(campaign))
    assert b"stress-ng --password ***" in body
    assert b"hunter2" not in body


def test_a_receiver_gets_every_span_at_its_time(
    campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HEADERS_VARIABLE, "x-api-key=correct-horse%2D9, x-other = 1,")
    taken: list[tuple[str, dict[str, str], bytes]] = []
    with answering(503, 200, taken=taken) as url:
        assert chaoslab("export", str(campaign.path), "--otlp-endpoint", url + "/") == 0
    told = capsys.readouterr()
    assert told.out == f"sent to {url}/, 13 spans\n"
    assert "attempt 1 to push: it answered 503" in told.err
    assert "correct-horse" not in told.out + told.err
    (path, headers, body), again = taken[-1], taken[0]
    assert (path, headers["x-api-key"]) == ("/v1/traces", "correct-horse-9")
    assert again[2] == body
    (resource,) = otlp.ExportTraceServiceRequest.FromString(body).resource_spans
    got = list(resource.scope_spans[0].spans)
    names = {span.span_id: span.name for span in got}
    zero = 1_714_564_800_000_000_000
    assert [
        (
            span.name,
            names.get(span.parent_span_id),
            (span.start_time_unix_nano - zero) / 1e9,
            (span.end_time_unix_nano - zero) / 1e9,
        )
        for span in got
    ] == named(spans(campaign))
    assert len(names) == len(got)
    assert len({span.trace_id for span in got}) == 1


@pytest.mark.parametrize(
    ("anchor", "said"),
    [
        (None, "has no anchor on the clock"),
        ({"monotonic_ns": 0, "wall_ns": -1, "boot_id": ""}, "accepted: from 1970 to 2262"),
        ({"monotonic_ns": 0, "wall_ns": 2**70, "boot_id": ""}, "accepted: from 1970 to 2262"),
    ],
)
def test_a_campaign_of_no_time_is_no_trace(
    anchor: object, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timeless = make_campaign(tmp_path / "campaign", [make_run()], anchor=anchor)
    assert chaoslab("export", str(timeless.path), "--otlp-endpoint", "http://127.0.0.1:1") == 2
    assert said in capsys.readouterr().err


def test_a_receiver_that_is_down_is_named(campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert chaoslab("export", str(campaign.path), "--otlp-endpoint", url, "--push-retries", "0") == 2
    assert f"the trace receiver {url} did not take the trace: [Errno 111] Connection refused (1 attempt)" in (
        capsys.readouterr().err
    )


def test_the_extra_is_named_where_it_is_missing(
    campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert chaoslab("export", str(campaign.path), "--otlp-endpoint", "http://x") == 2
    assert "pip install 'chaoslab[otel]'" in capsys.readouterr().err


@pytest.mark.parametrize("headers", ["hunter2-x", "a=b,my key=hunter2-x", "a=b,k=hunter2-x%0A", "a=b,k=hunter2-%C3%A9"])
def test_a_bad_header_is_named_by_its_place_alone(
    headers: str, campaign: Campaign, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HEADERS_VARIABLE, headers)
    assert chaoslab("export", str(campaign.path), "--otlp-endpoint", "http://x") == 2
    told = capsys.readouterr().err
    assert f"header {headers.count(',') + 1} of {HEADERS_VARIABLE} is no header; accepted: NAME=VALUE" in told
    assert "hunter2" not in told

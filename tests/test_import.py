"""Recordings of other tools: what they become, what is said of them, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from chaoslab import foreign
from chaoslab.analysis import Analysis, analyse
from chaoslab.cli import main
from chaoslab.comparison.comparability import refuse
from chaoslab.errors import CampaignFolderError, RecordingError, UsageError
from chaoslab.export import markdown
from chaoslab.foreign.formats import FORMATS
from chaoslab.foreign.probes import Probe
from chaoslab.foreign.spool import Spool
from chaoslab.records import ErrorKind, RunState
from chaoslab.store import Campaign
from tests import recordings
from tests.recordings import WRITERS, Hit, hits, write
from tests.test_cli import chaoslab

SAMPLES = Path(__file__).parent / "imports"
WINDOW = (foreign.Window("10", "14"),)


def imported(output: Path, *files: Path, **options: object) -> Campaign:
    foreign.import_recordings(foreign.Request(files=files, output=output, **options))  # type: ignore[arg-type]
    return Campaign.open(output)


@pytest.fixture(scope="module")
def repeats(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Three recordings of one outage of four seconds, by k6."""
    folder = tmp_path_factory.mktemp("repeats")
    files = [
        write(folder / f"{number}.json", "k6-json", hits(down=(10, 14 + number / 5), after_ms=60_000 * number))
        for number in (2, 0, 1)
    ]
    return imported(folder / "campaign", *files, windows=WINDOW, scenario="database brief outage")


@pytest.fixture(scope="module")
def analysis(repeats: Campaign) -> Analysis:
    return analyse(repeats)


# What becomes of them


@pytest.mark.parametrize("format", WRITERS)
def test_every_tool_s_recording_of_one_thing_becomes_the_same_probes(format: str, tmp_path: Path) -> None:
    found = hits()
    campaign = imported(tmp_path / "out", write(tmp_path / "file", format, found), windows=WINDOW)
    rows = campaign.probes
    assert rows["scheduled_us"].tolist() == [1000 * (hit.sent_ms - recordings.START_MS) for hit in found]
    assert rows["latency_us"].tolist() == [1000 * hit.took_ms for hit in found]
    assert (rows["sent_us"] == 0).all()
    assert [None if pd.isna(status) else int(status) for status in rows["status"]] == [
        hit.status or None for hit in found
    ]
    kinds = [None if hit.good else "status" if hit.status else "refused" for hit in found]
    assert [None if pd.isna(kind) else str(kind) for kind in rows["error"]] == kinds
    assert campaign.meta["imported"]["format"] == format
    assert campaign.meta["target"] == "http://shop.test:8080"
    [run] = campaign.runs
    assert (run.state, run.steady, run.doses) == (RunState.COMPLETED, True, ())
    assert (run.injection_us, run.recovery_us, run.fault_over_us) == (10_000_000, 14_000_000, 14_000_000)


def test_each_file_is_a_repeat_in_the_order_in_which_they_were_recorded(repeats: Campaign) -> None:
    assert [(run.repeat, run.baseline_us) for run in repeats.runs] == [(1, 0), (2, 60_000_000), (3, 120_000_000)]
    assert len(repeats.probes) == 900
    assert [file["name"] for file in repeats.meta["imported"]["files"]] == ["2.json", "0.json", "1.json"]
    assert all(len(file["sha256"]) == 64 for file in repeats.meta["imported"]["files"])


def test_a_name_of_the_scenario_file_brings_its_type(repeats: Campaign) -> None:
    [scenario] = repeats.meta["scenarios"]
    assert (scenario["name"], scenario["type"]) == ("Database Brief Outage", "database_outage")
    assert (scenario["intensity"], scenario["duration"]) == ("light", 4.0)


def test_several_injections_cut_one_file_into_repeats(tmp_path: Path) -> None:
    file = write(tmp_path / "file", "jmeter-csv", hits(seconds=40))
    windows = (foreign.Window("30", "32"), foreign.Window("2026-01-01T00:00:10Z", "2026-01-01T01:00:14+01:00"))
    campaign = imported(tmp_path / "out", file, windows=windows)
    assert [(run.injection_us, run.recovery_us) for run in campaign.runs] == [(10e6, 14e6), (30e6, 32e6)]
    first, second = (campaign.probes_of(run) for run in campaign.runs)
    assert (len(first), len(second)) == (220, 180)
    assert second["seq"].tolist() == list(range(180))


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", "k6-csv", hits())
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert len(imported(tmp_path / "out", packed).probes) == 300


def test_only_what_is_selected_is_taken(tmp_path: Path) -> None:
    file = write(tmp_path / "file", "jmeter-csv", hits())
    file.write_text(file.read_text().replace(",health,", ",login,", 100))
    assert len(imported(tmp_path / "out", file, select={"label": "login"}).probes) == 100
    with pytest.raises(
        RecordingError, match=r"nothing is selected by --select label=logout; label is one of health, login"
    ):
        imported(tmp_path / "none", file, select={"label": "logout"})


# Verdicts


def test_estimates_are_those_of_the_probes_and_no_verdict_is_drawn(analysis: Analysis) -> None:
    [result] = analysis.scenarios
    assert len(result.runs) == 3
    assert result.estimates["error_rate_percent"].value == pytest.approx(100)
    assert result.estimates["mttr_seconds"].value == pytest.approx(4.16, abs=0.01)
    assert result.estimates["mttr_seconds"].low is not None
    assert {verdict.outcome for verdict in result.verdicts} == {"inconclusive"}
    measured = [verdict for verdict in result.verdicts if verdict.estimate.n]
    assert len(measured) == 4  # no request succeeded during the injection: there is no latency to compare
    assert all("no dose was measured in an imported recording" in verdict.reason for verdict in measured)
    assert any("of the probes alone: the whole interval" in verdict.reason for verdict in result.verdicts)
    assert (analysis.exit_code(), analysis.exit_code(fail_on_violation=True)) == (0, 3)


def test_what_is_planned_or_budgeted_from_an_import_says_so(
    repeats: Campaign, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "Imported from k6: nothing shows which fault was delivered, or how much of it"
    assert chaoslab("plan", str(repeats.path)) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    assert chaoslab("trends", str(repeats.path), "--budget", "99.9") == 0
    assert said in capsys.readouterr().err
    for command in ("plan", "trends"):
        assert chaoslab(command, str(repeats.path), "--json") == 0
        assert said in capsys.readouterr().out


def test_a_control_is_not_judged_either(tmp_path: Path) -> None:
    files = [write(tmp_path / str(n), "vegeta-csv", hits(down=(0, 0), after_ms=60_000 * n)) for n in range(3)]
    found = analyse(imported(tmp_path / "out", *files, windows=WINDOW, type="control", scenario="Quiet"))
    assert len(found.scenarios[0].runs) == 3
    assert found.outcome == "inconclusive"


def test_the_report_says_where_it_came_from_and_what_the_tool_hides(analysis: Analysis) -> None:
    text = markdown.render(analysis)
    assert "Imported from k6: no dose was measured" in text
    assert "coordinated omission" in text
    assert "| Imported from | k6-json: 2.json (SHA-256 " in text


def test_without_a_window_all_is_kept_and_nothing_is_estimated(tmp_path: Path) -> None:
    campaign = imported(tmp_path / "out", write(tmp_path / "file", "vegeta-json", hits()))
    [run] = campaign.runs
    assert (run.state, run.injection_us, len(campaign.probes)) == (RunState.OBSERVED, None, 300)
    [result] = analyse(campaign).scenarios
    assert "no injection window was given" in result.reason
    assert result.estimates["error_rate_percent"].value is None


def test_a_service_that_failed_before_the_injection_had_no_steady_state(tmp_path: Path) -> None:
    file = write(tmp_path / "file", "vegeta-json", hits(down=(2, 5)))
    [result] = analyse(imported(tmp_path / "out", file, windows=WINDOW)).scenarios
    said = "no steady state before the injection: 30 of 100 probes of the baseline failed; 5 % are accepted"
    assert said in result.reason


def test_a_stall_that_held_back_the_requests_leaves_the_injection_unwatched(tmp_path: Path) -> None:
    """A closed loop sends nothing while it waits: what was not looked at is not measured."""
    file = write(tmp_path / "file", "jmeter-csv", hits(seconds=12) + hits(seconds=20, after_ms=24_000))
    [result] = analyse(imported(tmp_path / "out", file, windows=(foreign.Window("10", "26"),))).scenarios
    assert "probes watched only" in result.reason


def test_users_that_send_together_have_watched_the_time_between(tmp_path: Path) -> None:
    found = [replace(hit, sent_ms=hit.sent_ms + user) for hit in hits(every_ms=1000) for user in range(10)]
    [result] = analyse(imported(tmp_path / "out", write(tmp_path / "f", "jmeter-xml", found), windows=WINDOW)).scenarios
    assert result.runs[0].watched == 1.0


def test_an_import_is_compared_with_imports_of_its_format_alone(repeats: Campaign) -> None:
    other = {**repeats.meta, "campaign": "other", "imported": {**repeats.meta["imported"], "format": "vegeta-csv"}}
    name = repeats.meta["scenarios"][0]["name"]
    with pytest.raises(UsageError, match="format that was imported was k6-json, is vegeta-csv"):
        refuse(repeats.meta, other, [name])


# Real recordings


def test_a_real_blackbox_series_is_read_scrape_by_scrape(tmp_path: Path) -> None:
    """Prometheus 2.42 and its blackbox exporter 0.23, every half second; the service answered 503 for 4 s."""
    campaign = imported(tmp_path / "out", SAMPLES / "prometheus_scrapes.json", windows=(foreign.Window("2.9", "7.1"),))
    [result] = analyse(campaign).scenarios
    [run] = result.runs
    assert (len(campaign.probes), run.failed, len(run.outages)) == (29, 8, 1)
    assert run.outages[0].seconds == pytest.approx(4.0, abs=0.6)
    assert campaign.meta["target"] == "http://127.0.0.1:18977"


@pytest.mark.parametrize(
    ("file", "window", "rows"),
    [("jmeter.jtl", foreign.Window("3.0", "5.5"), 48), ("jmeter.xml", foreign.Window("4.8", "7.3"), 45)],
)
def test_a_real_jtl_shows_the_outage_that_there_was(
    file: str, window: foreign.Window, rows: int, tmp_path: Path
) -> None:
    """JMeter 2.13, one user against a service that answered fourteen of its requests with 503."""
    campaign = imported(tmp_path / "out", SAMPLES / file, windows=(window,))
    [run] = analyse(campaign).scenarios[0].runs
    assert (len(campaign.probes), run.failed, run.failures_by_kind) == (rows, 14, {"status": 14})
    assert run.outages[0].seconds == pytest.approx(2.45, abs=0.1)
    assert campaign.meta["imported"]["loop"] == "closed"
    assert campaign.meta["target"] == "http://127.0.0.1:18977"


def test_a_step_finer_than_the_scrapes_adds_no_probes(tmp_path: Path) -> None:
    fine = imported(tmp_path / "fine", SAMPLES / "prometheus_range.json")
    assert len(fine.probes) == 29
    assert "28 samples repeated the scrape before" in " ".join(fine.meta["imported"]["warnings"])


def test_success_and_duration_may_come_from_two_queries(tmp_path: Path) -> None:
    files = (SAMPLES / "probe_success.json", SAMPLES / "probe_duration_seconds.json")
    assert len(imported(tmp_path / "out", *files).probes) == 29
    with pytest.raises(RecordingError, match="holds no series of probe_duration_seconds"):
        imported(tmp_path / "half", files[0])


def test_a_real_locust_history_is_counted_and_no_probe_is_made_of_it(tmp_path: Path) -> None:
    """Locust 2.47, two users against the same service: its totals are about one a second."""
    campaign = imported(tmp_path / "out", SAMPLES / "locust_stats_history.csv", windows=(foreign.Window("4", "8"),))
    assert campaign.probes.empty
    [counted] = campaign.meta["imported"]["counted"]
    rows = pd.read_csv(SAMPLES / "locust_stats_history.csv").query("Name == 'Aggregated'")
    assert sum(phase["requests"] for phase in counted["phases"].values()) == rows["Total Request Count"].iloc[-1]
    assert sum(phase["failures"] for phase in counted["phases"].values()) == rows["Total Failure Count"].iloc[-1]
    [result] = analyse(campaign).scenarios
    assert "no single requests" in result.reason
    assert result.estimates["error_rate_percent"].value is None


# The script suite


def test_the_script_suite_s_files_are_inconclusive_and_say_why(tmp_path: Path) -> None:
    results, validation = tmp_path / "chaos_results.json", tmp_path / "resilience_validation.json"
    results.write_text(recordings.old_results())
    validation.write_text(recordings.old_validation())
    campaign = imported(tmp_path / "out", results, validation)
    found = analyse(campaign)
    assert [(one.name, one.type) for one in found.scenarios] == [
        ("Light CPU Stress", "cpu_stress"),
        ("Database Brief Outage", "database_outage"),
        ("All scenarios", "unknown"),
    ]
    assert {verdict.outcome for verdict in found.verdicts} == {"inconclusive"}
    assert all("none of what it saw" in one.reason for one in found.scenarios)
    assert campaign.meta["imported"]["claims"][2]["metrics"]["availability_percent"] == 95.0
    assert campaign.meta["started_at"] == "2025-10-01T20:05:52.526241+00:00"


# Safety


def test_secrets_of_foreign_files_stay_in_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "file", "k6-json", hits())
    secret = recordings.SECRET
    file.write_text(file.read_text().replace("http://shop.test", f"http://ops:{secret}@shop.test"))
    with pytest.raises(SystemExit) as ended:
        main(["import", str(file), "--output", str(tmp_path / "out"), "--select", f"token={secret}"])
    assert ended.value.code == 2
    imported(tmp_path / "out", file, windows=WINDOW)
    said = capsys.readouterr()
    for text in (said.out, said.err, (tmp_path / "out" / "campaign.json").read_text()):
        assert secret not in text
    assert "http://***@shop.test:8080" in (tmp_path / "out" / "campaign.json").read_text()


def test_a_recording_larger_than_memory_is_sorted_on_disk() -> None:
    sent = list(range(0, 5000, 5))
    random.Random(1).shuffle(sent)
    spool = Spool(io.BytesIO(), run_rows=64)
    for at in sent:
        spool.add(Probe(at, at % 7, None if at % 3 else 200, ErrorKind.TIMEOUT if at % 3 else None))
    rows = [row for block in spool.in_order() for row in block.tolist()]
    assert [row[0] for row in rows] == sorted(sent)
    assert all((latency, status) == (at % 7, -1 if at % 3 else 200) for at, latency, status, _ in rows)
    assert (spool.count, spool.first_us, spool.last_us) == (1000, 0, 4995)


# Refused


def cut_off(text: str) -> str:
    return text[: len(text) // 2]


BAD: dict[str, tuple[str, str, str]] = {
    "empty": ("x", "", "is empty"),
    "like nothing": ("x", "hello, world\n", "like no format that is known; accepted: k6-json"),
    "binary": ("x", "\x00\x01\x7f gob", "vegeta encode --to json"),
    "k6: cut off": ("x", cut_off("\n".join(recordings.k6_json(hits()))), "x:.* is not JSON, or cut off"),
    "k6: not its lines": ("x", '{"type":"Metric"}\n{"type":"Line"}\n', "x:2: the type is 'Line'"),
    "k6: no list": ("x", '{"type":"Metric"}\n[1]\n', "x:2: the line is "),
    "k6: time without zone": (
        "x",
        '{"type":"Point","metric":"http_req_duration","data":{"time":"2026-01-01T00:00:00","value":1,"tags":{}}}\n',
        "x:1: the time is '2026-01-01T00:00:00'; accepted: an instant with its time zone",
    ),
    "k6: no number": (
        "x",
        '{"type":"Point","metric":"http_req_duration","data":{"time":"2026-01-01T00:00:00Z","value":"NaN"}}\n',
        "x:1: the duration in ms is 'NaN'; accepted: a number",
    ),
    "k6: nothing of HTTP": ("x", '{"type":"Metric"}\n', "holds no probe"),
    "vegeta: cut off": ("x", cut_off("\n".join(recordings.vegeta_csv(hits()))), "the last line has no end"),
    "vegeta: columns": ("x", "1767225600000000000,200,1,2,3,4,5\n", "x:1: has 7 values; accepted: vegeta's 9 to 12"),
    "vegeta: no latency": ("x", '{"timestamp":"2026-01-01T00:00:00Z","latency":1}\n', "x:1: lacks 'code'"),
    "vegeta: negative": (
        "x",
        '{"timestamp":"2026-01-01T00:00:00Z","latency":-1,"code":200}\n',
        "x:1: the latency in ns is -1; accepted: a whole number of at least 0",
    ),
    "jmeter: too few": ("x", "timeStamp,elapsed,success\n1767225600000,5\n", "x:2: has 2 values"),
    "jmeter: column": ("x", "timeStamp,elapsed,label\n1767225600000,5,a\n", "x:1: the heading lacks 'success'"),
    "jmeter: date": ("x", "timeStamp,elapsed,success\n2026/01/01,5,true\n", "x:2: timeStamp in ms is '2026/01/01'"),
    "jmeter: 1970": ("x", "timeStamp,elapsed,success\n0,5,true\n", "x:2: timeStamp is 0 s since 1970"),
    "jmeter: success": ("x", "timeStamp,elapsed,success\n1767225600000,5,yes\n", "x:2: success is 'yes'"),
    "jmeter: quote": ("x", 'timeStamp,elapsed,success\n1767225600000,5,"tr\n', "is not CSV"),
    "jmeter: xml cut off": ("x", cut_off("\n".join(recordings.jmeter_xml(hits()))), r"x:\d+: is not XML, or cut off"),
    "jmeter: other xml": ("x", "<html/>\n", "the root is <html>"),
    "jmeter: entities": (
        "x",
        '<!DOCTYPE a [<!ENTITY b "c">]><testResults>&b;</testResults>\n',
        "declares a document type",
    ),
    "jmeter: deep": ("x", "<testResults>" + "<sample>" * 60, "x: is nested more than 50 levels deep"),
    "jmeter: no time": ("x", '<testResults><sample t="1" s="true"/></testResults>\n', "sample 1 lacks its timeStamp"),
    "prometheus: its error": (
        "x",
        '{"status":"error","errorType":"bad_data","error":"parse error"}',
        "Prometheus answered 'error': parse error",
    ),
    "prometheus: instant": (
        "x",
        '{"status":"success","data":{"resultType":"vector","result":[]}}',
        "the result type is 'vector'; accepted: matrix",
    ),
    "prometheus: nothing": (
        "x",
        '{"status":"success","data":{"resultType":"matrix","result":[]}}',
        "holds no series of probe_success or probe_duration_seconds",
    ),
    "locust: down": (
        "x",
        "Timestamp,User Count,Type,Name,Total Request Count,Total Failure Count\n"
        "1767225600,1,,Aggregated,5,0\n1767225601,1,,Aggregated,4,0\n",
        "x:3: Total Request Count is 4; accepted: a running total",
    ),
    "old suite: ours": ("x", '{"results_version": 1}', "is chaoslab's own analysis"),
    "old suite: other": ("x", '{"a": 1}', "results is None; accepted: the suite's list"),
    "old suite: unnamed": ("x", '{"results": [{}]}', r"results\[0\].scenario_name is None"),
    "old suite: no number": (
        "x",
        '{"passed": true, "metrics": {"mttr": NaN}}',
        "cannot be recorded: NaN is not a number",
    ),
    "old suite: nested": (
        "x",
        '{"passed": true, "metrics": {"a":' + "[" * 49 + "]" * 49 + "}}",
        "cannot be recorded: it is nested more than 50 levels deep",
    ),
    "old suite: no text": ("x", r'{"passed": true, "metrics": {"a": "\ud800"}}', "cannot be recorded: .*surrogates"),
    "old suite: deep": ("x", '{"a":' + "[" * 100_000, "is not JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_refused_with_its_place_and_nothing_is_left(case: str, tmp_path: Path) -> None:
    name, content, said = BAD[case]
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(RecordingError, match=said) as refused:
        imported(tmp_path / "out", file)
    assert str(file) in str(refused.value)
    assert refused.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("format", WRITERS)
def test_a_recording_that_is_cut_anywhere_is_refused_or_read_up_to_a_whole_line(format: str, tmp_path: Path) -> None:
    found = hits(seconds=3, down=(1, 2))
    whole = write(tmp_path / "whole", format, found).read_bytes()
    for length in range(1, len(whole), len(whole) // 9):
        file, out = tmp_path / "cut", tmp_path / f"out{length}"
        file.write_bytes(whole[:length])
        try:
            assert len(imported(out, file).probes) <= len(found)
        except RecordingError:
            assert not out.exists()


@pytest.mark.parametrize("format", WRITERS)
def test_a_file_of_one_tool_is_no_file_of_another(format: str, tmp_path: Path) -> None:
    file = write(tmp_path / "file", format, hits(seconds=2))
    for other in FORMATS.keys() - {format}:
        with pytest.raises(RecordingError, match=str(file)):
            imported(tmp_path / "out", file, format=other)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


def unreadable(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes("timeStamp,elapsed,success\n1,2,\xe9\n".encode("latin-1"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b'{"type":"Metric"}\n' * 1000)[:-20])
    (tmp_path / "utf16").write_bytes("timeStamp,elapsed,success\n".encode("utf-16"))
    (tmp_path / "twice.gz").write_bytes(gzip.compress(gzip.compress(b'{"type":"Metric"}\n')))
    sample = '<testResults><sample t="1" ts="1767225600000" s="true"'
    (tmp_path / "wide.xml").write_text(f'{sample} lb="{"x" * 2 * 1024**2}"/></testResults>')
    (tmp_path / "endless.xml").write_text(f"{sample}>{'<a/>' * 1024**2}</sample></testResults>")
    (tmp_path / "totals").write_text(
        "Timestamp,User Count,Type,Name,Total Request Count,Total Failure Count\n"
        + "".join(f"{1767225600 + row},1,,Aggregated,{row},0\n" for row in range(4))
    )
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b'{"type":"Metric"}\n{"type":"' + b"x" * (2 * 1024**2))
    return {
        "folder": (tmp_path / "folder", "it is not a file"),
        "pipe": (tmp_path / "pipe", "it is not a file"),
        "device": (Path("/dev/null"), "it is not a file"),
        "utf16": (tmp_path / "utf16", "is binary"),
        "twice": (tmp_path / "twice.gz", "is binary"),
        "missing": (tmp_path / "missing", "No such file"),
        "latin": (tmp_path / "latin", "latin:2: is not text in UTF-8"),
        "cut": (tmp_path / "cut.gz", "the compressed file is cut off"),
        "wide": (tmp_path / "wide.xml", "wide.xml: a sample is longer than 1 MiB, or never ends"),
        "endless": (tmp_path / "endless.xml", "endless.xml: a sample is longer than 1 MiB, or never ends"),
        "totals": (tmp_path / "totals", "totals:5: is row 4 of one series; accepted: up to 3"),
        "long": (tmp_path / "long", "long:2: the line is longer than 1 MiB"),
    }


@pytest.mark.parametrize(
    "case",
    ["folder", "pipe", "device", "missing", "latin", "utf16", "cut", "twice", "wide", "endless", "totals", "long"],
)
def test_files_that_cannot_be_read_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaoslab.foreign.locust._MOST_ROWS", 3)
    monkeypatch.setattr("chaoslab.foreign.source.LONGEST_LINE", 1024**2)
    path, said = unreadable(tmp_path)[case]
    with pytest.raises(RecordingError, match=said):
        imported(tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_a_document_that_must_be_read_whole_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaoslab.foreign.source.LARGEST_DOCUMENT", 1024)
    with pytest.raises(RecordingError, match="is larger than"):
        imported(tmp_path / "out", SAMPLES / "prometheus_scrapes.json")


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        ([("14", "10")], "start before end"),
        ([("0", "5")], "some time before it"),
        ([("10", "400")], "does not lie within the recording"),
        ([("5", "9"), ("8", "12")], "two injections overlap"),
    ],
)
def test_windows_that_cannot_be_are_refused(windows: list[tuple[str, str]], said: str, tmp_path: Path) -> None:
    file = write(tmp_path / "file", "vegeta-csv", hits())
    with pytest.raises(UsageError, match=said):
        imported(tmp_path / "out", file, windows=tuple(foreign.Window(*pair) for pair in windows))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "2026-01-01T00:00:00", "1e30"])
def test_an_instant_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--injection-start is .*; accepted: seconds from the first probe"):
        foreign.Window(text, "5")


def test_recordings_of_the_same_time_are_not_repeats(tmp_path: Path) -> None:
    files = [write(tmp_path / name, "k6-json", hits()) for name in "ab"]
    with pytest.raises(RecordingError, match="overlap in time"):
        imported(tmp_path / "out", *files)


def test_formats_are_not_mixed(tmp_path: Path) -> None:
    files = [write(tmp_path / name, name, hits()) for name in ("k6-csv", "vegeta-csv")]
    with pytest.raises(UsageError, match="several formats"):
        imported(tmp_path / "out", *files)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    file = write(tmp_path / "file", "k6-csv", hits())
    (tmp_path / "out").mkdir()
    imported(tmp_path / "out", file)
    before = (tmp_path / "out" / "campaign.json").read_bytes()
    with pytest.raises(CampaignFolderError, match="already holds a campaign"):
        imported(tmp_path / "out", file)
    assert (tmp_path / "out" / "campaign.json").read_bytes() == before


@pytest.fixture
def ended(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def test_the_command_imports_and_validate_judges_nothing(
    tmp_path: Path, ended: Callable[..., tuple[int, str, str]]
) -> None:
    file = write(tmp_path / "file", "vegeta-csv", hits())
    out = tmp_path / "out"
    code, said, _ = ended("import", file, "--output", out, "--injection-start", 10, "--injection-end", 14, "--json")
    assert (code, json.loads(said)["probes"]) == (0, 300)
    code, said, _ = ended("validate", out, "--fail-on-violation", "--json")
    assert (code, json.loads(said)["outcome"]) == (3, "inconclusive")


def test_what_was_not_run_here_cannot_be_resumed(repeats: Campaign, ended: Callable[..., tuple[int, str, str]]) -> None:
    code, _, error = ended("run", "--resume", repeats.path)
    assert code == 2
    assert "is imported: nothing of it was run here" in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--injection-start", "5"], "--injection-end 0 times; accepted: one end for each start"),
        (["--select", "label"], "accepted: NAME=VALUE"),
        (["--scenario", ""], "scenarios[0].name is ''"),
        (["--format", "k6"], "no format is called 'k6'"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    options: list[str], said: str, tmp_path: Path, ended: Callable[..., tuple[int, str, str]]
) -> None:
    file = write(tmp_path / "file", "k6-csv", hits())
    code, _, error = ended("import", file, "--output", tmp_path / "out", *options)
    assert code == 2
    assert said in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stamp", "named"),
    [
        ("17672256{:02}", True),
        ("2026-01-01T00:00:{:02}Z", True),
        ("17672256{:02}123456789", False),
        ("17672256{:02}001", False),
    ],
)
def test_whole_seconds_are_named(stamp: str, named: bool, tmp_path: Path) -> None:
    """K6_CSV_TIME_FORMAT=unix, rfc3339, unix_nano and unix_milli."""
    file = tmp_path / "file"
    rows = "".join(f"http_req_duration,{stamp.format(at)},20.0,200,true\n" for at in range(30))
    file.write_text(f"metric_name,timestamp,metric_value,status,expected_response\n{rows}")
    warnings = imported(tmp_path / "out", file).meta["imported"]["warnings"]
    assert any("whole seconds" in warning for warning in warnings) is named


def test_a_hit_is_one_row(tmp_path: Path) -> None:
    campaign = imported(tmp_path / "out", write(tmp_path / "f", "vegeta-csv", [Hit(recordings.START_MS, 5, 200)]))
    assert len(campaign.probes) == 1

"""JUnit, CSV and JSON Schemas say what the analysis says, whatever words it holds; a bad place costs nothing."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from chaoslab.analysis import Analysis, analyse
from chaoslab.export import csv as tables
from chaoslab.export import junit, pipeline, schemas
from chaoslab.records import RunState
from chaoslab.stages import Stage
from chaoslab.store import Campaign
from tests.campaigns import make_campaign, make_dose, make_run
from tests.test_cli import chaoslab

HOSTILE = "=cmd|' /C calc'!A0 ]]> <b>\"&\x00\x1b\ud7ff\ufffe\U0001f4a5 password=hunter2-hunter2"
UNDELIVERED = "Medium CPU Stress"
BROKEN = "Heavy CPU Stress"
STAGES = (
    Stage(name="setup", outcome="passed", seconds=0.5),
    Stage(name="deploy_service", outcome="failed", seconds=1.5, detail="it ended with 7"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with everything: violations, what cannot be judged, no delivery, residue, hostile names."""
    failure = {"reason": "the rule is still there", "command": "nft delete table inet chaos"}
    runs = [make_run(HOSTILE, n, down=[(6.0, 11.0 + n / 5)], seed=n) for n in (1, 2, 3)]
    runs += [make_run("Light CPU Stress", 1)]
    runs += [
        make_run(UNDELIVERED, n, doses=[make_dose(delivered=0.5)], state=RunState.NOT_DELIVERED, reason="too little")
        for n in (1, 2)
    ]
    runs += [make_run(BROKEN, n, seed=n, undo_failures=[failure] if n == 1 else ()) for n in (1, 2, 3)]
    runs += [make_run("Control (no fault)", n, type="control", intensity="", seed=n, rate_hz=50) for n in (1, 2, 3)]
    return make_campaign(tmp_path_factory.mktemp("export") / "campaign", runs).path


@pytest.fixture(scope="module")
def analysis(folder: Path) -> Analysis:
    return analyse(Campaign.open(folder))


def cases(text: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(text).iter("testcase"))


def test_junit_has_a_case_for_each_scenario_and_objective(analysis: Analysis) -> None:
    text = junit.render(analysis)
    root = ElementTree.fromstring(text)
    for result, suite in zip(analysis.scenarios, root, strict=False):
        judged = [case for case in suite.iter("testcase") if case.get("name") != "fault delivered"]
        assert len(judged) == len(result.verdicts) == 5
        assert [case.find("failure") is not None for case in judged] == [v.outcome == "fail" for v in result.verdicts]
        skipped = [case.find("skipped") is not None for case in judged]
        assert skipped == [v.outcome == "inconclusive" for v in result.verdicts]
    assert (
        sum(int(suite.get("tests", "")) for suite in root)
        == int(root.get("tests", ""))
        == len(list(root.iter("testcase")))
    )
    assert int(root.get("failures", "")) == sum(v.outcome == "fail" for v in analysis.verdicts) > 0


def test_what_is_inconclusive_fails_in_junit_when_asked_to(analysis: Analysis) -> None:
    root = ElementTree.fromstring(junit.render(analysis, inconclusive="failure"))
    undecided = sum(verdict.outcome != "pass" for verdict in analysis.verdicts)
    assert int(root.get("failures", "")) == undecided > int(root.get("skipped", "")) == 0


def test_junit_is_well_formed_and_tells_no_secret_whatever_is_said(analysis: Analysis) -> None:
    text = junit.render(analysis)
    names = [suite.get("name", "") for suite in ElementTree.fromstring(text.encode())]
    assert "hunter2" not in text
    assert names[0].startswith("=cmd|' /C calc'!A0 ]]> <b>\"&\ufffd\ufffd\ud7ff\ufffd\U0001f4a5 password=")


def test_what_was_not_delivered_or_is_still_broken_is_an_error(analysis: Analysis) -> None:
    root = ElementTree.fromstring(junit.render(analysis))
    errors = {(case.get("name"), error.get("type")) for case in root.iter("testcase") for error in case.iter("error")}
    assert errors == {("fault delivered", "not_delivered"), (f"{BROKEN} #1: stress", "not_reverted")}
    assert "nft delete table inet chaos" in "".join(root.itertext())


def test_csv_has_each_verdict_and_estimate_with_full_precision(analysis: Analysis) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.render(analysis), newline="")))
    judged = [row for row in rows if row["outcome"]]
    assert len(judged) == len(analysis.verdicts)
    for row, verdict in zip(judged, analysis.verdicts, strict=True):
        assert (row["metric"], row["outcome"]) == (verdict.metric, verdict.outcome)
        assert (float(row["value"]) if row["value"] else None) == verdict.estimate.value
        assert (float(row["high"]) if row["high"] else None) == verdict.estimate.high
        assert float(row["threshold"]) == verdict.slo.threshold
    assert len(rows) == sum(len(result.estimates) for result in analysis.scenarios)


def test_no_text_of_the_csv_is_a_formula_and_no_number_is_spoilt(analysis: Analysis) -> None:
    text = tables.render(analysis)
    numbers = {"value", "low", "high", "threshold"}
    for row in csv.DictReader(io.StringIO(text, newline="")):
        assert not any(
            cell.lstrip().startswith(("=", "+", "-", "@")) for name, cell in row.items() if name not in numbers
        )
        assert all(float(row[name]) is not None for name in numbers if row[name])
    assert "hunter2" not in text
    assert "'=cmd|" in text


@pytest.mark.parametrize("name", schemas.NAMES)
def test_what_is_written_is_what_its_schema_says(
    name: str, analysis: Analysis, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chaoslab("export", "--schema", name) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    document = analysis.as_results() if name == "chaos_results.json" else analysis.as_validation()
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(json.dumps(document)))
    first = document["scenarios"][0]
    for damaged in (
        document | {"unknown": 1},
        document | {"outcome": "passed"},
        {key: value for key, value in document.items() if key != "seed"},
        document | {"scenarios": [first | {"usable_runs": "three"}]},
        document | {"scenarios": [first | {"more": None}]},
    ):
        assert not validator.is_valid(damaged)


def test_every_format_goes_to_its_own_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = ("export", str(folder), "--format", "prometheus, junit,csv", "--output")
    assert chaoslab(*every, str(tmp_path)) == 0
    assert chaoslab(*every, str(tmp_path / "mine.txt")) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("chaos_metrics.prom", "chaos_results.csv", "junit.xml"),
        *("mine.csv", "mine.prom", "mine.xml"),
    ]
    assert (tmp_path / "mine.xml").read_text() == (tmp_path / "junit.xml").read_text()
    capsys.readouterr()
    assert chaoslab("export", str(folder), "--format", "junit") == 0
    assert len(cases(capsys.readouterr().out)) == len(cases((tmp_path / "junit.xml").read_text()))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "junit", "--output", "{tmp}/missing/junit.xml"], "there is no folder {tmp}/missing"),
        (["--format", "junit", "--output", "{tmp}/kept.xml/junit.xml"], "there is no folder"),
        (["--format", "junti"], "did you mean 'junit'"),
        (["--format", ","], "names no format; accepted: prometheus, junit, csv"),
        (["--format", "junit,csv"], "need a place each"),
        (["--schema", "chaos_result.json"], "did you mean 'chaos_results.json'"),
    ],
)
def test_bad_usage_is_one_sentence_and_nothing_is_lost(
    arguments: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept.xml").write_text("kept")
    assert chaoslab("export", str(folder), *(argument.format(tmp=tmp_path) for argument in arguments)) == 2
    assert said.format(tmp=tmp_path) in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["kept.xml"]
    assert (tmp_path / "kept.xml").read_text() == "kept"


def test_no_campaign_is_said_and_no_file_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab("export") == 2
    assert chaoslab("export", str(tmp_path), "--format", "csv", "--output", str(tmp_path / "x.csv")) == 2
    assert "Missing argument 'FOLDER'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_summary_of_a_pipeline_shows_verdicts_and_stages_and_no_secret(analysis: Analysis) -> None:
    text = pipeline.summary(STAGES, analysis, folder="campaigns/ci")
    assert text.startswith("<!-- chaoslab -->\n\n## Resilience\n\n**Failed.**")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(analysis.verdicts) + 2 + len(STAGES)
    assert "| deploy\\_service | ✕ failed | 1.5 s | it ended with 7 |" in rows
    assert "hunter2" not in text
    assert "<b>" not in text.replace("\\<b\\>", "")


def test_annotations_are_one_line_each_ten_of_a_kind_and_told_by_what_they_are(analysis: Analysis) -> None:
    found = list(pipeline.workflow_commands(STAGES, analysis))
    assert found[0] == "::error title=deploy_service::it ended with 7"
    for kind in ("error", "warning"):
        assert 0 < sum(line.startswith(f"::{kind} title=") for line in found) <= 10
    assert found[-1].startswith("::warning title=chaoslab::")
    assert found[-1].endswith(" more are in the summary")
    assert not any("\n" in line or "hunter2" in line for line in found)
    assert sum("=cmd|" in line for line in found) > 0


def test_a_stage_that_failed_is_an_error_also_where_nothing_was_measured() -> None:
    root = ElementTree.fromstring(junit.render(None, troubles=[("deploy_service", "it ended with 7\x00")]))
    assert (root.get("tests"), root.get("errors")) == ("1", "1")
    error = root.find(".//testcase[@name='deploy_service']/error")
    assert error is not None
    assert error.get("message") == "it ended with 7\ufffd"
    assert "**" not in pipeline.summary(STAGES)

"""`chaoslab compare` and `chaoslab baseline`: what they print, write and end with, and the notebook says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaoslab import report, share
from chaoslab.comparison import compare
from chaoslab.report import notebook as notebooks
from chaoslab.store import Campaign
from tests.campaigns import make_campaign
from tests.test_cli import chaoslab
from tests.test_comparison import OUTAGE, longer, runs, shorter

HOSTILE = "</style><script>alert(1)</script> & |x|"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline, a worse candidate, and another campaign of the baseline's build."""
    folder = tmp_path_factory.mktemp("compare")
    make_campaign(folder / "before", runs(5, seed=0, down=shorter), campaign="before", target_build="v1")
    make_campaign(folder / "worse", runs(5, seed=50, down=longer), campaign="worse", target_build="v2")
    make_campaign(folder / "again", runs(5, seed=90, down=shorter), campaign="again", target_build="v1")
    hostile = [
        make_campaign(folder / name, runs(5, seed=seed, scenario=HOSTILE), campaign=f"{name} {HOSTILE}")
        for name, seed in (("hostile-1", 0), ("hostile-2", 50))
    ]
    assert all(campaign.meta["scenarios"][0]["name"] == HOSTILE for campaign in hostile)
    return folder


def test_a_regression_ends_with_1_and_only_when_asked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = (str(place / "before"), str(place / "worse"))
    assert chaoslab("compare", *pair) == 0
    assert chaoslab("compare", *pair, "--fail-on-regression") == 1
    said = capsys.readouterr().out
    assert f"WORSE The candidate is worse in {OUTAGE}" in said
    assert "note: Build was v1, is v2." in said
    assert "points [" in said


def test_what_is_open_ends_with_3(place: Path) -> None:
    pair = (str(place / "before"), str(place / "again"))
    assert chaoslab("compare", *pair, "--fail-on-regression", "--margin", "error_rate_percent=0.001") == 3


def test_the_comparison_is_written_beside_the_candidate(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compare", str(place / "before"), str(place / "worse"), "--json")
    assert chaoslab(*arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    written = place / "worse" / "comparison.json"
    assert json.loads(written.read_text()) == printed
    assert printed["answer"] == "worse"
    assert chaoslab(*arguments, "--output", str(tmp_path / "new")) == 0
    for name in ("comparison.json", "comparison.md"):
        assert (tmp_path / "new" / name).read_bytes() == (place / "worse" / name).read_bytes()
    text = (tmp_path / "new" / "comparison.md").read_text()
    assert "**✕ Worse.**" in text
    assert "error rate during injection 1 point;" in text


def test_a_stored_baseline_is_compared_by_name(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--baselines", str(tmp_path / "kept"))
    assert chaoslab("baseline", "list", *where) == 0
    assert chaoslab("baseline", "save", str(place / "before"), "v1", *where) == 0
    assert chaoslab("baseline", "list", *where, "--json") == 0
    assert chaoslab("baseline", "show", "v1", *where) == 0
    assert chaoslab("compare", "v1", str(place / "worse"), "--fail-on-regression", *where) == 1
    assert chaoslab("baseline", "save", str(place / "again"), "v1", *where) == 2
    assert chaoslab("compare", "v2", str(place / "worse"), *where) == 2
    captured = capsys.readouterr()
    assert "no baselines in" in captured.out
    assert '"name": "v1"' in captured.out
    assert "v1: campaign before against http://127.0.0.1:8080, build v1" in captured.out
    assert "a scenario has 5 runs: against 10, three of a candidate are enough" in captured.err
    assert "no baseline 'v2' in" in captured.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no baseline 'nowhere'"),
        (["../nowhere"], "not a campaign folder"),
        (["{before}", "--margin", "error_rate_percent"], "METRIC=VALUE"),
        (["{before}", "--margin", "error_rate=1"], "did you mean 'error_rate_percent'"),
        (["{before}", "--level", "95"], "the level 95 cannot be used"),
        (["{before}", "--scenario", "Nothing"], "no scenario 'Nothing' in both campaigns"),
        (["{worse}"], "there is nothing to compare"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    first, *rest = (text.format(before=place / "before", worse=place / "worse") for text in arguments)
    assert chaoslab("compare", first, str(place / "worse"), *rest) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_the_notebook_says_what_the_command_says_and_its_page_needs_nothing_else(place: Path, tmp_path: Path) -> None:
    parameters = {"baseline": "before", "campaign": "worse", "margins": {"mttr_seconds": "10%"}}
    source = share.notebook("04_compare_baseline.ipynb")
    executed = notebooks.execute(source, tmp_path / "out.ipynb", parameters, cwd=place)
    page = notebooks.as_page(executed, title="Comparison")
    found = compare(Campaign.open(place / "before"), Campaign.open(place / "worse"))
    assert found.headline() in page
    told = notebooks.outcome(executed)
    assert told == {"outcome": "worse", "says": found.headline(), "exit_code": 0, "strict_exit_code": 1}
    assert "MTTR 10 %" in page
    assert "✕ worse" in page
    assert page.count("http-equiv") == page.count('http-equiv="Content-Security-Policy"') == 1
    assert "script-src 'none';" in page
    assert "<script" not in page


def test_names_from_outside_stay_text(place: Path) -> None:
    found = compare(Campaign.open(place / "hostile-1"), Campaign.open(place / "hostile-2"))
    for section in (report.comparison(found), report.changes(found)):
        assert "<script>" not in section._repr_html_()
    report.write_comparison(found, place / "hostile-2")
    assert "<script>" not in (place / "hostile-2" / "comparison.md").read_text()


def test_a_folder_that_cannot_be_written_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "file").write_text("")
    arguments = (str(place / "before"), str(place / "worse"), "--output", str(place / "file" / "below"))
    assert chaoslab("compare", *arguments) == 2
    assert "cannot be written" in capsys.readouterr().err

"""The committed recordings: what they hold, what an analysis finds in them, and what they do not tell."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from chaoslab import share
from chaoslab.analysis import Analysis, analyse
from chaoslab.comparison import compare
from chaoslab.report import notebook
from chaoslab.store import Campaign
from chaoslab.trends import trends
from tests.test_cli import chaoslab

REFERENCE = Path(__file__).resolve().parents[1] / "data" / "reference"
OUTAGE = "Database Brief Outage"
RESTART = "Application Container Restart"
HISTORY = [f"history/{number:02d}" for number in range(1, 13)]


@pytest.fixture(scope="module")
def fragile() -> Analysis:
    return analyse(Campaign.open(REFERENCE / "fragile"))


def test_all_of_it_is_there_and_small() -> None:
    found = sorted(str(path.parent.relative_to(REFERENCE)) for path in REFERENCE.rglob("campaign.json"))
    assert found == ["fragile", *HISTORY, "resilient"]
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) < 4_000_000


@pytest.mark.parametrize("name", ["fragile", *HISTORY, "resilient"])
def test_a_recording_tells_nothing_of_the_machine(name: str) -> None:
    folder = REFERENCE / name
    campaign = Campaign.open(folder)
    words = [(folder / "campaign.json").read_text(encoding="utf-8")]
    words += campaign.events["step"].astype(str).tolist() + [str(detail) for detail in campaign.events["detail"]]
    places = {place for word in words for place in re.findall(r"(?<![\w.:/-])/[\w.-]+(?:/[\w.-]+)*", word)}
    assert {place for place in places if not place.startswith(("/tmp/chaoslab-shop", "/api/"))} == set()
    assert not re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", " ".join(words)), "a boot's id"
    assert campaign.meta["host"]["system"] == "Linux"


@pytest.mark.parametrize("name", ["fragile", "resilient"])
def test_every_run_counts_and_its_fault_was_delivered(name: str) -> None:
    analysis = analyse(Campaign.open(REFERENCE / name))
    assert {found.name: len(found.runs) for found in analysis.scenarios} == {
        "Control (no fault)": 5,
        "Light Network Delay": 5,
        RESTART: 5,
        OUTAGE: 5,
    }
    assert not any(found.excluded for found in analysis.scenarios)


def test_the_control_shows_no_harm_and_the_outage_does(fragile: Analysis) -> None:
    control, outage = (fragile[name].estimates["error_rate_percent"] for name in ("Control (no fault)", OUTAGE))
    assert control.high is not None
    assert outage.low is not None
    assert control.high < 5 < outage.low


def test_the_estimates_hold_what_the_rows_say(fragile: Analysis) -> None:
    """The error rate, counted again by pandas from the rows as they are on disk."""
    campaign = Campaign.open(REFERENCE / "fragile")
    events = campaign.events.query("scenario == @OUTAGE")
    starts, ends = (
        events.loc[events["event"] == event].set_index("repeat")["at_us"]
        for event in ("injection_started", "recovery_started")
    )
    probes = campaign.probes.query("scenario == @OUTAGE")
    began, ended = probes["repeat"].map(starts), probes["repeat"].map(ends)
    during = probes[(probes["scheduled_us"] >= began) & (probes["scheduled_us"] < ended)]
    assert fragile[OUTAGE].estimates["error_rate_percent"].value == pytest.approx(
        100 * (during["outcome"] != "success").mean(), rel=1e-6
    )


def test_the_fragile_shop_is_worse_than_the_resilient_one_and_not_the_other_way_round() -> None:
    fragile, resilient = (Campaign.open(REFERENCE / name) for name in ("fragile", "resilient"))
    worse = compare(resilient, fragile)
    found = worse.table()
    assert worse.answer == "worse"
    assert set(found.loc[found["answer"] == "worse", "scenario"]) >= {OUTAGE}
    assert "Control (no fault)" not in set(found.loc[found["answer"] == "worse", "scenario"])
    better = compare(fragile, resilient)
    assert {cell.answer for cell in better.gate if cell.scenario == OUTAGE} >= {"better"}
    assert "worse" not in {cell.answer for cell in better.gate}


def test_the_commands_end_as_their_page_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(REFERENCE / "fragile", tmp_path / "fragile")  # the command writes into it
    pair = (str(REFERENCE / "resilient"), str(tmp_path / "fragile"))
    assert chaoslab("compare", *pair, "--fail-on-regression") == 1
    assert f"The candidate is worse in {OUTAGE}" in capsys.readouterr().out.replace("\n", " ")


def test_the_history_changes_where_the_build_did() -> None:
    found = trends(REFERENCE / "history", metrics=["error_rate_percent"])
    (history,) = found.histories
    assert not found.left_out
    builds = [point.build for point in history.points]
    assert builds == ["fragile"] * 6 + ["resilient"] * 6
    (change,) = history.changes
    assert change.campaign == history.points[6].campaign
    assert change.after < change.before
    assert isinstance(history.table(), pd.DataFrame)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("01_design_experiment", "repeats"),
        ("03_resilience_report", f"{OUTAGE}: error rate during injection"),
        ("04_compare_baseline", f"The candidate is worse in {OUTAGE}"),
        ("05_trends", "fell from"),
    ],
)
def test_the_notebooks_that_only_read_open_on_it(name: str, says: str, tmp_path: Path) -> None:
    source = share.notebook(f"{name}.ipynb")
    executed = notebook.execute(source, tmp_path / "executed.ipynb", {}, cwd=source.parent)
    shown = [
        output.get("data", {}).get("text/html", "") for cell in executed.cells for output in cell.get("outputs", ())
    ]
    assert says in " ".join("".join(shown).split())

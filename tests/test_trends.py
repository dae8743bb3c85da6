"""Histories hold what was measured alike, say where it changed and how sure that is, and leave out the rest aloud."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from chaoslab import charts, plots, report, share, store
from chaoslab.errors import CampaignFolderError, UsageError
from chaoslab.intervals import Estimate
from chaoslab.report import notebook as notebooks
from chaoslab.report.sparklines import sparkline
from chaoslab.trends import History, Point, Trends, incomparable, trends, with_changes
from tests.campaigns import make_campaign, make_run
from tests.test_cli import chaoslab as run_command
from tests.test_plots import texts

FIRST_DAY = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
WEEKS = 10
OUTAGE = "Database Brief Outage"


def write_week(folder: Path, week: int, *, down: float = 2.0, **meta: Any) -> store.Campaign:
    """Write the campaign of a week: a control, and three runs of an outage of about `down` seconds."""
    runs = [
        run
        for n in (1, 2, 3)
        for run in (
            make_run("Control (no fault)", n, type="control", seed=100 * week + n),
            make_run(
                OUTAGE, n, type="database_outage", down=[(6.0, 6.0 + down + (n + week % 3) / 10)], seed=100 * week + n
            ),
        )
    ]
    started = (FIRST_DAY + timedelta(weeks=week)).isoformat()
    known = {"campaign": f"week-{week:02d}", "started_at": started}
    return make_campaign(folder / f"week-{week:02d}", runs, **(known | meta))


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten weeks; from the sixth on the service takes three times as long to come back."""
    folder = tmp_path_factory.mktemp("campaigns")
    for week in reversed(range(WEEKS)):  # not in the order of time
        write_week(folder, week, down=2.0 if week < 5 else 6.0, target_build="fragile" if week < 5 else "worse")
    return folder


@pytest.fixture(scope="module")
def mttr(campaigns: Path) -> Trends:
    """The histories of the MTTR."""
    return trends(campaigns, metrics=["mttr_seconds"])


def point(value: float | None, week: int = 0, **fields: Any) -> Point:
    found = Estimate(value=value, method="t", n=3, unit="s", **fields)
    return Point(
        campaign=f"week-{week:02d}", started_at=str(FIRST_DAY + timedelta(weeks=week)), build=None, estimate=found
    )


def history(values: list[float | None], metric: str = "mttr_seconds") -> History:
    return History(scenario="a", metric=metric, points=tuple(point(value, week) for week, value in enumerate(values)))


# From folders to histories


def test_a_history_is_in_the_order_of_time(mttr: Trends) -> None:
    table = mttr.history(OUTAGE, "mttr_seconds").table()
    assert table["campaign"].tolist() == [f"week-{week:02d}" for week in range(WEEKS)]
    assert table["value"].iloc[0] == pytest.approx(2.2, abs=0.2)
    assert (table["low"] < table["value"]).all()


def test_a_change_is_found_where_it_happened_and_comes_with_its_doubt(mttr: Trends) -> None:
    found = mttr.history(OUTAGE, "mttr_seconds")
    [change] = found.changes
    assert change.campaign == "week-05"
    assert change.p < 0.05
    assert (change.before, change.after) == (pytest.approx(2.3, abs=0.2), pytest.approx(6.3, abs=0.2))
    assert change.shift.low is not None
    assert change.shift.high is not None
    assert change.shift.low < 4.0 < change.shift.high
    assert "rose from 2." in found.changes_table()["words"].iloc[0]


def test_what_did_not_change_shows_none() -> None:
    [found] = with_changes([history([100.0] * 12)])
    assert (found.changes, found.reason) == ((), "")


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_level_without_any_spread_can_change(sign: float) -> None:
    """From 100 in every campaign to about 98: Welch's interval is then that of one sample."""
    moved = [97.9, 98.1, 98.0, 97.8, 98.2]
    [found] = with_changes([history([100.0] * 5 + moved if sign > 0 else moved + [100.0] * 5)])
    [change] = found.changes
    assert change.shift.value == pytest.approx(-2.0 * sign)
    assert change.shift.low == pytest.approx(-2.0 * sign - 2.776 * 0.1581 / 5**0.5, abs=1e-3)


def test_the_more_histories_are_searched_the_longer_they_must_be() -> None:
    clear: list[float | None] = [1.0, 1.1, 1.2, 1.3, 9.0, 9.1, 9.2, 9.3]
    assert len(with_changes([history(clear)])[0].changes) == 1
    several = with_changes([history(clear), *[history([5.0] * 8)] * 8])
    assert not any(found.changes for found in several)
    assert several[0].reason == "8 campaigns: a change among 9 histories takes at least 11"


def test_a_short_history_claims_nothing_and_says_how_long_it_must_be() -> None:
    [found] = with_changes([history([1.0, 1.1, 1.0, 9.0, 9.1, 9.0, 9.2])])
    assert found.changes == ()
    assert found.reason == "7 campaigns: a change takes at least 8"


def test_campaigns_without_a_value_are_counted_and_not_filled_in() -> None:
    values: list[float | None] = [1.0, 1.1, None, 1.2, 1.0, 9.0, None, 9.1, 9.2, 9.0]
    [found] = with_changes([history(values)])
    [change] = found.changes
    assert change.campaign == "week-05"
    assert found.changes_table()["place"].tolist() == [5]
    [short] = with_changes([history(values[:8])])
    assert short.reason == "6 campaigns with a value (2 without): a change takes at least 8"


def test_a_recovery_that_never_came_counts_as_at_least_as_long_as_was_watched() -> None:
    points = [point(1.0 + week / 100, week) for week in range(5)]
    points += [point(None, week, censored=3, horizon=60.0) for week in range(5, 10)]
    [found] = with_changes([History(scenario="a", metric="mttr_seconds", points=tuple(points))])
    [change] = found.changes
    assert (change.campaign, change.shift.low) == ("week-05", None)
    assert "only lower bounds" in change.shift.reason
    assert found.table()["at_least"].tolist() == [False] * 5 + [True] * 5


def test_campaigns_can_be_named_one_by_one(campaigns: Path) -> None:
    found = trends([campaigns / "week-03", campaigns / "week-01", campaigns / "week-03"])
    assert [one.campaign for one in found.histories[0].points] == ["week-01", "week-03"]
    assert found.newest.name == "week-03"


# What is left out


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"target": "http://127.0.0.1:9999"}, "the target is 'http://127.0.0.1:9999', in the newest campaign"),
        (
            {"probe": {"name": "health", "url": "http://h/api/health", "rate_hz": 5.0, "timeout_seconds": 2.0}},
            "the probe rate in Hz is 5.0, in the newest campaign 10.0",
        ),
        ({"duration_scale": 0.5}, "duration_scale is 0.5, in the newest campaign 1.0"),
        ({"required_health_checks": 5}, "required_health_checks is 5, in the newest campaign 3"),
    ],
)
def test_a_campaign_that_measured_otherwise_is_left_out_with_the_reason(
    tmp_path: Path, meta: dict[str, Any], words: str
) -> None:
    write_week(tmp_path, 0, **meta)
    write_week(tmp_path, 1)
    found = trends(tmp_path)
    assert {one.campaign for one in found.histories[0].points} == {"week-01"}
    assert {left.scenario for left in found.left_out} == {"Control (no fault)", OUTAGE}
    assert all(words in left.reason for left in found.left_out)


def rehearse(campaign: store.Campaign) -> None:
    store.update(campaign.path, dry_run=True)


def planned(**fields: Any) -> dict[str, Any]:
    entry = {"name": "a", "type": "cpu_stress", "duration": 30, "parameters": {"cpu_workers": 2}, **fields}
    return {"scenarios": [entry], "target": "http://h"}


def test_another_dose_is_another_history() -> None:
    other = planned(parameters={"cpu_workers": 4})
    assert incomparable(planned(), other, "a") == "the scenario.parameters.cpu_workers is 4, in the newest campaign 2"
    assert "the scenario.duration is 45" in incomparable(planned(), planned(duration=45), "a")
    assert "the scenario.mechanism" in incomparable(planned(mechanism="x"), planned(mechanism="y"), "a")


def test_what_is_no_part_of_the_dose_does_not_matter() -> None:
    assert not incomparable(planned(), planned(description="said better", intensity="light"), "a")
    assert not incomparable(planned(), planned(parameters={"cpu_workers": 2, "expected_impact": "none"}), "a")


def test_an_option_that_an_older_chaoslab_did_not_know_does_not_end_a_history() -> None:
    newer = planned(host="local", parameters={"cpu_workers": 2, "placement": None})
    assert not incomparable(newer, planned(), "a")


def test_a_target_is_known_by_its_name_where_both_tell_one() -> None:
    one, other = planned() | {"target_name": "shop"}, planned() | {"target_name": "shop", "target": "http://h:81"}
    assert not incomparable(one, other, "a")
    assert "the target is 'bank'" in incomparable(one, other | {"target_name": "bank"}, "a")


def test_dry_runs_damaged_and_running_campaigns_and_copies_are_left_out_of_a_folder(tmp_path: Path) -> None:
    good = write_week(tmp_path, 0)
    shutil.copytree(good.path, tmp_path / "week-00-copy")
    rehearse(write_week(tmp_path, 1))
    write_week(tmp_path, 2, status="running")
    write_week(tmp_path, 3, started_at="yesterday")
    damaged = write_week(tmp_path, 4)
    next((damaged.path / "probes").glob("*.parquet")).write_bytes(b"no parquet")
    (tmp_path / "week-05").mkdir()
    (tmp_path / "week-05" / store.CAMPAIGN_FILE).write_text("{")
    found = trends(tmp_path)
    assert [one.campaign for one in found.histories[0].points] == ["week-00"]
    reasons = sorted((left.campaign, left.reason) for left in found.left_out)
    for (name, reason), expected in zip(reasons, [
        ("week-00-copy", "the same campaign as in week-00"),
        ("week-01", "is a dry run"),
        ("week-02", "still running, or cut off"),
        ("week-03", "started_at is 'yesterday'; accepted: a time such as"),
        ("week-04", "damaged"),
        ("week-05", "is cut off or not a campaign's"),
    ], strict=True):  # fmt: skip
        assert name == expected[0]
        assert expected[1] in reason


# Mistakes


def test_mistakes_are_named_with_what_is_accepted(campaigns: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no scenario of the newest campaign is called 'Database' "):
        trends(campaigns, scenarios=["Database"])
    with pytest.raises(UsageError, match=r"'mttr_sec' \(did you mean 'mttr_seconds'\?\)"):
        trends(campaigns, metrics=["mttr_sec"])
    with pytest.raises(UsageError, match="there is no history 'x: mttr_seconds'"):
        trends([campaigns / "week-00"]).history("x", "mttr_seconds")
    with pytest.raises(CampaignFolderError, match="not a campaign folder and holds none; accepted: campaign folders"):
        trends(tmp_path)
    with pytest.raises(CampaignFolderError, match="not a campaign folder and holds none"):
        trends(tmp_path / "nowhere")


def test_a_campaign_that_was_named_itself_must_be_readable(tmp_path: Path) -> None:
    rehearse(write_week(tmp_path, 1))
    with pytest.raises(CampaignFolderError, match="is a dry run"):
        trends([tmp_path / "week-01"])
    with pytest.raises(CampaignFolderError, match=r"no campaign can be used: .*dry run"):
        trends(tmp_path)


# Figures, page and command


def test_a_history_is_drawn_with_its_changes_in_words(mttr: Trends) -> None:
    found = mttr.history(OUTAGE, "mttr_seconds")
    ax = charts.history(found.table(), changes=found.changes_table(), threshold=5.0, label="MTTR")
    assert "rose from 2." in texts(ax)
    assert "p = 0.0" in texts(ax)
    assert "SLO ≤ 5 s" in texts(ax)
    assert "2026-01-05" in texts(ax)
    assert any(np.allclose(np.asarray(line.get_xdata(), dtype=float), 4.5) for line in ax.lines)


def test_an_objective_far_away_does_not_flatten_the_history(mttr: Trends) -> None:
    found = mttr.history(OUTAGE, "mttr_seconds")
    ax = charts.history(found.table(), threshold=300.0)
    assert "SLO ≤ 300 s:\nbeyond this axis" in texts(ax)
    assert ax.get_ylim()[1] < 30


def test_bounds_and_gaps_have_marks_of_their_own() -> None:
    points = (point(1.0), point(None, 1, censored=3, horizon=6.0), point(None, 2), point(2.0, 3, low=0.0, high=500.0))
    ax = charts.history(History(scenario="a", metric="mttr_seconds", points=points).table())
    drawn = {line.get_marker(): len(np.atleast_1d(line.get_xdata())) for line in ax.lines}
    assert (drawn["o"], drawn["^"], drawn["_"]) == (3, 1, 1)  # the gap is one of the first, without a height
    assert ax.get_ylim()[1] < 50


def test_a_history_without_any_value_can_be_drawn() -> None:
    ax = plots.figure().subplots()
    assert charts.history(history([None, None]).table(), ax=ax, threshold=5.0) is ax


def test_several_campaigns_of_a_day_are_told_apart_by_the_hour(mttr: Trends) -> None:
    table = mttr.histories[0].table().assign(started_at="2026-01-05T12:00:00+00:00")
    assert "01-05 12:00" in texts(charts.history(table))


def test_only_what_changed_is_drawn_as_changed(mttr: Trends, campaigns: Path) -> None:
    changed = report.changed(mttr)
    assert changed is not None
    assert f"{OUTAGE}: MTTR, 10 campaigns" in changed.alt
    assert "Control" not in changed.alt
    assert "Control (no fault): MTTR" in report.histories(mttr, "mttr_seconds").alt
    assert report.changed(trends(campaigns / "week-00")) is None


def test_the_dashboard_has_a_tile_for_each_history_with_what_changed(mttr: Trends) -> None:
    shown = report.dashboard(mttr).html
    assert shown.count("<svg") == len(mttr.histories) == 2
    assert "a change is claimed in 1" in shown
    assert mttr.history(OUTAGE, "mttr_seconds").changes_table()["words"][0] in shown
    assert shown.count("<li class=changed>") == 1


def test_a_sparkline_marks_each_campaign_each_change_and_what_is_only_a_bound() -> None:
    table = trends_of([2.0, 2.1, None, 2.2, 2.1, 6.0, 6.2, 6.1, 6.3, 6.2])
    drawn = sparkline(table, alt='<b> & "quoted"')
    root = ElementTree.fromstring(drawn)
    assert root.get("aria-label") == '<b> & "quoted"'
    kinds = [part.get("class") for part in root]
    assert kinds.count("dot") + kinds.count("newest") == 9
    line = next(part.get("d") or "" for part in root if part.get("class") == "line")
    assert line.count("M") == 2  # it breaks where a campaign has no value
    bound = replace(table.points[-1], estimate=Estimate(value=None, method="t", n=3, unit="s", censored=1, horizon=9.0))
    ended = sparkline(replace(table, points=(*table.points[:-1], bound)), alt="a")
    assert [part.tag for part in ElementTree.fromstring(ended) if part.get("class") == "newest"] == ["path"]


def test_the_place_of_a_change_in_a_sparkline_is_before_the_first_campaign_of_the_new_level(mttr: Trends) -> None:
    root = ElementTree.fromstring(sparkline(mttr.history(OUTAGE, "mttr_seconds"), alt="a"))
    [change] = [part.get("d") or "" for part in root if part.get("class") == "change"]
    marks = [float(part.get("cx") or 0) for part in root if part.tag == "circle"]
    assert marks[4] < float(change[1:].split()[0]) < marks[5]


@pytest.mark.parametrize("values", [[None, None], [2.0], [2.0, 2.0, 2.0]])
def test_a_history_without_values_or_without_spread_has_a_sparkline(values: list[float | None]) -> None:
    root = ElementTree.fromstring(sparkline(history(values), alt="a"))
    assert len([part for part in root if part.tag == "circle"]) == len([one for one in values if one is not None])


def trends_of(values: list[float | None]) -> History:
    [found] = with_changes([history(values)])
    return found


def test_the_notebook_shows_the_histories_and_the_budget(mttr: Trends, campaigns: Path, tmp_path: Path) -> None:
    executed = notebooks.execute(
        share.notebook("05_trends.ipynb"),
        tmp_path / "trends.ipynb",
        {"campaigns": [str(campaigns)], "metrics": ["mttr_seconds"], "objective": 99.9},
        cwd=tmp_path,
    )
    page = notebooks.as_page(executed, title="Trends")
    assert (
        trends(campaigns, metrics=["mttr_seconds"]).history(OUTAGE, "mttr_seconds").changes_table()["words"][0] in page
    )
    assert "leaves a budget of 43.2 min" in page


def test_the_command_prints_changes_and_costs_and_writes_a_page(
    campaigns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "trends.html"
    arguments = ["trends", str(campaigns), "--metric", "mttr_seconds", "--scenario", OUTAGE, "--budget", "99.9"]
    assert run_command(*arguments, "--output", str(page)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "rose from" in printed
    assert "99.9 % in 30 days leaves a budget of 43.2 min" in printed
    text = page.read_text()
    assert "<figcaption>" in text
    assert str(campaigns) not in text
    assert run_command(*arguments, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["histories"][0]["changes"][0]["campaign"] == "week-05"
    assert document["budget"][0]["seconds"] == pytest.approx(2592)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--budget", "101"], "budget is 101; accepted: an availability in percent"),
        (["--days", "0"], "days is 0; accepted"),
        (["--metric", "mttr_second"], "did you mean 'mttr_seconds'"),
        (["--output", "trends.png"], "output is trends.png; accepted: a file that ends in .html"),
        (["--output", "/nonexistent/trends.html"], "cannot be written"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence_and_ends_with_2(
    campaigns: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("trends", str(campaigns / "week-00"), *arguments) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1

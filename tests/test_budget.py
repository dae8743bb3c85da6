"""What an event costs of the error budget is counted until the service is back, with its interval."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaoslab import budget, charts, intervals, plots
from chaoslab.analysis import Analysis, analyse
from chaoslab.errors import UsageError
from chaoslab.intervals import Estimate
from chaoslab.store import Campaign
from tests.campaigns import RunRows, make_campaign, make_run
from tests.test_plots import texts

MONTH = 30 * 86_400


def analysed(folder: Path, runs: list[RunRows]) -> tuple[Campaign, Analysis]:
    campaign = make_campaign(folder / "campaign", runs)
    return campaign, analyse(campaign)


def outages(end: float, **options: float) -> list[RunRows]:
    """Three runs whose service is down from second 6 (1 s into the injection) to about `end`."""
    return [make_run(repeat=n, down=[(6.0, end + n / 10)], seed=n, **options) for n in (1, 2, 3)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("objective", "minutes"), [(99.9, 43.2), (99.0, 432.0), (95.0, 2160.0), (99.99, 4.32)])
def test_the_budget_of_thirty_days_is_that_of_the_textbook(objective: float, minutes: float) -> None:
    assert budget.budget_seconds(objective) / 60 == pytest.approx(minutes)


def test_an_event_costs_its_downtime(tmp_path: Path) -> None:
    [found] = budget.costs(*analysed(tmp_path, outages(8.0)), objective=99.9)
    assert found.downtime.value == pytest.approx(2.2, abs=0.11)  # to the next probe
    assert found.share.value == pytest.approx(100 * (found.downtime.value or 0) / (0.001 * MONTH))
    assert found.events.value == pytest.approx(0.001 * MONTH / (found.downtime.value or 1))


def test_what_an_outage_reaches_beyond_the_injection_is_counted(tmp_path: Path) -> None:
    """The injection ends at second 15; the service is back at about 17.2."""
    campaign, analysis = analysed(tmp_path, outages(17.0))
    [found] = budget.costs(campaign, analysis, objective=99.9)
    assert found.downtime.value == pytest.approx(11.2, abs=0.11)
    assert (analysis.scenarios[0].estimates["downtime_seconds"].value or 0.0) == pytest.approx(9.0, abs=0.11)


def test_the_interval_is_turned_round_for_the_number_of_events(tmp_path: Path) -> None:
    [found] = budget.costs(*analysed(tmp_path, outages(8.0)), objective=99.9)
    for one in (found.downtime, found.share, found.events):
        assert one.low is not None
        assert one.high is not None
        assert one.value is not None
        assert one.low < one.value < one.high
    assert found.events.low == pytest.approx(found.seconds / (found.downtime.high or 1))


def test_an_outage_that_never_ended_costs_at_least_so_much(tmp_path: Path) -> None:
    runs = [*outages(8.0)[:2], make_run(repeat=3, down=[(6.0, 30.0)], seed=3)]
    [found] = budget.costs(*analysed(tmp_path, runs), objective=99.9)
    assert found.downtime.censored == 1
    assert budget.events_words(found).startswith("at most ")
    assert budget.words([found])["of the budget"].iloc[0].startswith("at least ")


def test_where_nothing_was_down_the_cost_is_a_bound(tmp_path: Path) -> None:
    [found] = budget.costs(*analysed(tmp_path, [make_run(repeat=n, seed=n) for n in (1, 2, 3)]), objective=99.9)
    assert found.share.value == 0.0
    assert (found.share.high or 0) > 0
    assert found.events.value is None
    assert budget.events_words(found).startswith("at least ")


def test_the_objective_is_that_of_the_campaign_unless_another_is_given(tmp_path: Path) -> None:
    campaign, analysis = analysed(tmp_path, outages(8.0))
    [found] = budget.costs(campaign, analysis)
    assert (found.objective, found.seconds) == (95.0, pytest.approx(0.05 * MONTH))


def test_a_campaign_without_an_objective_asks_for_one(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "campaign", outages(8.0), slos=[])
    with pytest.raises(UsageError, match="no objective for availability; accepted: one of your own"):
        budget.costs(campaign, analyse(campaign))


@pytest.mark.parametrize("objective", [0.0, 100.0, 101.0, -5.0])
def test_an_objective_that_leaves_no_budget_is_refused(objective: float) -> None:
    with pytest.raises(UsageError, match="accepted: an availability in percent, above 0 and below 100"):
        budget.budget_seconds(objective)


def test_no_days_are_refused() -> None:
    with pytest.raises(UsageError, match="days is 0; accepted"):
        budget.budget_seconds(99.9, 0)


def costs(*downtimes: Estimate) -> list[budget.Cost]:
    return [budget.cost(f"event {n}", one, objective=99.9, days=30, seconds=2592) for n, one in enumerate(downtimes)]


def test_bars_carry_their_words_and_the_whole_budget_is_marked() -> None:
    found = costs(
        intervals.restricted_mean([120, 150, 135], [False] * 3),
        intervals.restricted_mean([3000, 3600, 3300], [False] * 3),
        intervals.not_measured("no run", unit="s"),
    )
    ax = charts.budget(budget.table(found))
    assert "the whole budget" in texts(ax)
    assert "5.21 % [" in texts(ax)
    assert "affords 19" in texts(ax)
    assert "not measured" in texts(ax)
    assert [round(bar.get_width(), 1) for bar in ax.patches] == [5.2, 127.3]  # type: ignore[attr-defined]


def test_a_bound_far_out_ends_in_an_arrow() -> None:
    wide = Estimate(value=100.0, low=5.0, high=5000.0, method="t", n=3, unit="s")
    ax = charts.budget(budget.table(costs(wide)))
    assert ">" in [line.get_marker() for line in ax.lines]
    assert ax.get_xlim()[1] < 10


def test_events_that_cost_nothing_can_be_drawn() -> None:
    nothing = Estimate(value=0.0, low=0.0, high=1.2, method="bound", n=3, unit="s")
    ax = plots.figure().subplots()
    assert charts.budget(budget.table(costs(nothing)), ax=ax) is ax
    assert "affords at least 2,160" in texts(ax)

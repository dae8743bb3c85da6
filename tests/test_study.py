"""The coverage study: its truths are true, its rows go the way of all records, and it finds an interval that lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from chaoslab import intervals, share
from chaoslab.analysis import estimate
from chaoslab.metrics import RunMetrics
from chaoslab.report import notebook
from chaoslab.study import coverage
from chaoslab.study.__main__ import COVERAGE_FILE, main
from chaoslab.study.coverage import GOAL, REPEATS, measured, record, study
from chaoslab.study.truths import Bursts, Independent, Latency, Outage, Truth, grid, lognormal

RUNS = 100
KINDS: dict[str, Truth] = {
    "outage": Outage(label="lognormal σ 0.6", durations=lognormal(4.0, 0.6)),
    "censored": Outage(label="lognormal σ 0.6", durations=lognormal(4.0, 0.6), censored=0.15),
    "rare": Outage(label="lognormal σ 0.6", durations=lognormal(4.0, 0.6), share=0.5),
    "bursts": Bursts(up=9.0, down=1.0),
    "independent": Independent(percent=2.0),
    "latency": Latency(correlation=0.7, spread=0.1, heavy=True),
    "drift": Latency(drift=0.4),
    "heavy tail": Latency(heavy=True),
}
POOLS: dict[str, list[RunMetrics]] = {}


def pool(kind: str) -> list[RunMetrics]:
    if kind not in POOLS:
        POOLS[kind] = measured(KINDS[kind], RUNS, np.random.default_rng(7))
    return POOLS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_of_a_process_is_what_many_of_its_runs_come_to(kind: str) -> None:
    """99.9 % intervals over a hundred runs: one honest truth in a thousand is missed, a wrong one nearly always."""
    known = KINDS[kind].values
    found = estimate(pool(kind), tuple(known))

    for metric, true in known.items():
        one = found[metric]
        assert one.value is not None
        assert one.low is not None
        assert one.high is not None
        wider = stats.t.ppf(0.9995, RUNS - 1) / stats.t.ppf(0.975, RUNS - 1)
        assert true > one.value - wider * (one.value - one.low), metric
        assert true < one.value + wider * (one.high - one.value), metric


def test_about_the_share_that_is_asked_for_is_censored() -> None:
    share = sum(run.recovery is not None and run.recovery.censored for run in pool("censored")) / RUNS

    assert share == pytest.approx(0.15, abs=0.12)


def test_the_grid_holds_what_the_goal_names() -> None:
    names = " ".join(truth.name for truth in grid())

    assert len({truth.name for truth in grid()}) == len(grid())
    assert REPEATS == (3, 5, 10, 20)
    for part in ("exponential", "σ 0.3", "σ 1.0", "Weibull", "bimodal", "15 % censored", "independent", "spread 10 %"):
        assert part in names


def test_a_truth_is_recorded_as_a_campaign_that_anything_can_read(tmp_path: Path) -> None:
    (campaign,) = record(KINDS["outage"], 3, np.random.default_rng(1), tmp_path)

    assert len(campaign.runs) == 3
    assert pd.read_parquet(tmp_path / "000000" / "probes").groupby("repeat").size().min() > 400


@pytest.fixture
def from_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the study take the runs that are here already."""
    by_name = {truth.name: kind for kind, truth in KINDS.items()}
    monkeypatch.setattr(coverage, "measured", lambda truth, _runs, _generator: pool(by_name[truth.name]))


def cells(kind: str, metric: str) -> pd.DataFrame:
    rows = coverage._examine((KINDS[kind], 400, RUNS, 1, (3, 5)))
    table = pd.DataFrame(rows, columns=list(coverage.COLUMNS))
    return table.loc[table["metric"] == metric]


@pytest.mark.usefixtures("from_pool")
@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("outage", "mttr_seconds"),
        ("censored", "recovery_time_seconds"),
        ("bursts", "availability_percent"),
        ("independent", "error_rate_percent"),
        ("latency", "latency_injection_p95_ms"),
    ],
)
def test_intervals_cover(kind: str, metric: str) -> None:
    """A small version of the study: 400 trials over 100 runs are good to about two points."""
    found = cells(kind, metric)

    assert (found["coverage"] >= GOAL[0] - 2.5).all(), found.to_string()
    assert (found["with_interval"] >= 99).all()  # three runs may all be censored


@pytest.mark.usefixtures("from_pool")
def test_an_interval_that_takes_probes_as_independent_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What most tools would print: a binomial interval on all probes."""

    def wilson(part: object, whole: object, *, trials: int, **_: object) -> intervals.Estimate:
        share = float(np.sum(np.asarray(part)) / np.sum(np.asarray(whole)))
        bounds = stats.binomtest(round(share * trials), trials).proportion_ci(method="wilson")
        low, high = 100 * bounds.low, 100 * bounds.high
        return intervals.Estimate(value=100 * share, low=low, high=high, method="Wilson", n=3, unit="%")

    monkeypatch.setattr(intervals, "proportion", wilson)
    found = cells("outage", "availability_percent")

    assert (found["coverage"] < 50).all()
    assert (found["reading"] == "short").all()


@pytest.mark.usefixtures("from_pool")
def test_dropping_what_did_not_recover_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = intervals.restricted_mean

    def dropping(durations: object, censored: object, **named: object) -> intervals.Estimate:
        kept = np.asarray(durations)[~np.asarray(censored, dtype=bool)]
        return honest(kept, np.zeros(len(kept), dtype=bool), **named)  # type: ignore[arg-type]

    monkeypatch.setattr(
        coverage,
        "estimate",
        lambda runs, names: {
            name: dropping([run.recovery.seconds for run in runs], [run.recovery.censored for run in runs])
            for name in names
        },
    )
    rows = coverage._examine((KINDS["censored"], 300, RUNS, 1, (20,)))

    (found,) = [row for row in rows if row["metric"] == "recovery_time_seconds"]
    assert found["coverage"] < GOAL[0] - 2.5
    assert found["too_low"] > found["too_high"]


def test_the_command_prints_and_stores_the_table(tmp_path: Path) -> None:
    options = ["--trials", "20", "--runs", "24", "--only", "independent errors, 2 %", "--output", str(tmp_path / "o")]
    ended = CliRunner().invoke(main, options, catch_exceptions=False)

    assert ended.exit_code == 0
    assert "4 cells of 20 trials" in ended.output
    assert list(pd.read_csv(tmp_path / "o" / COVERAGE_FILE).columns) == list(coverage.COLUMNS)


def test_the_same_seed_gives_the_same_table() -> None:
    tables = [
        study([Independent(percent=2.0)], trials=10, runs=12, seed=3, repeats=(3,), workers=1).to_csv()
        for _ in range(2)
    ]

    assert tables[0] == tables[1]


def test_a_truth_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["--only", "nothing like it"])

    assert ended.exit_code == 2
    assert "no truth is named 'nothing like it'; there are: independent errors" in ended.output


def test_the_notebook_shows_the_table_that_is_stored(tmp_path: Path) -> None:
    stored = share.notebook("06_coverage_study.ipynb").parents[1] / "data" / "coverage" / COVERAGE_FILE
    executed = notebook.execute(
        share.notebook("06_coverage_study.ipynb"), tmp_path / "out.ipynb", {"table": str(stored)}, cwd=tmp_path
    )
    page = notebook.as_page(executed, title="Coverage")

    assert page.count("<img") == 6
    assert "bimodal" in page


def test_the_stored_table_is_of_the_grid_as_it_is() -> None:
    stored = share.notebook("06_coverage_study.ipynb").parents[1] / "data" / "coverage" / COVERAGE_FILE
    table = pd.read_csv(stored)

    assert set(table["truth"]) == {truth.name for truth in grid()}
    trusted = table.loc[table["reading"].isin(["covers", "wide", "short"])]
    assert (trusted["reading"] == "covers").mean() > 0.95


def test_the_more_runs_the_more_latencies_of_each_it_takes_to_trust_a_quantile() -> None:
    """The p99 of 200 latencies is biased a little; over five runs the interval is wide beside that, over twenty not."""
    name = "latency_baseline_p99_ms"
    few, many = (estimate(pool("heavy tail")[:count], (name,))[name] for count in (5, 20))

    assert few.trusted
    assert not many.trusted
    assert "a p99 over 20 runs takes 300: it holds for runs as long as these" in many.reason

"""From a campaign folder to estimates, verdicts, result files and an exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from chaoslab.analysis import ESTIMATES, Analysis, ScenarioResult, analyse
from chaoslab.errors import CampaignFolderError
from chaoslab.intervals import mean_log, proportion
from chaoslab.records import RunState
from chaoslab.scenario import Slo
from chaoslab.store import Campaign, write_json
from tests.campaigns import RunRows, make_campaign, make_dose, make_run

OUTAGE = [(6.0, 8.0)]


def analysed(folder: Path, runs: Sequence[RunRows], **meta: Any) -> Analysis:
    return analyse(make_campaign(folder / "campaign", runs, **meta))


def repeated(count: int = 3, **options: Any) -> list[RunRows]:
    return [make_run(repeat=repeat, seed=repeat, **options) for repeat in range(1, count + 1)]


def only(analysis: Analysis) -> ScenarioResult:
    [scenario] = analysis.scenarios
    return scenario


def outcomes(analysis: Analysis) -> dict[str, str]:
    return {verdict.metric: verdict.outcome for verdict in analysis.verdicts}


# Estimates


def test_every_estimate_is_there_for_every_scenario(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, [*repeated(), make_run("Broken", state=RunState.BROKEN)])

    for scenario in analysis.scenarios:
        assert tuple(scenario.estimates) == ESTIMATES


def test_estimates_are_over_runs(tmp_path: Path) -> None:
    runs = [make_run(repeat=r, seed=r, down=[(6.0, 7.0 + r / 10)]) for r in (1, 2, 3)]

    scenario = only(analysed(tmp_path, runs))

    assert scenario.estimates["error_rate_percent"] == proportion([11, 12, 13], [100] * 3, trials=300)
    assert scenario.estimates["mttr_seconds"].n == 3
    assert scenario.estimates["mttr_seconds"].value == pytest.approx(1.2, abs=0.001)
    p95 = [run.latency["latency_baseline_p95_ms"] for run in scenario.runs]
    assert scenario.estimates["latency_baseline_p95_ms"] == mean_log(p95, unit="ms")  # type: ignore[arg-type]


def test_downtime_is_the_complement_of_availability(tmp_path: Path) -> None:
    scenario = only(analysed(tmp_path, [make_run(repeat=r, seed=r, down=[(6.0, 7.0 + r / 10)]) for r in (1, 2, 3)]))
    up, down = scenario.estimates["availability_percent"], scenario.estimates["downtime_seconds"]

    assert up.low is not None
    assert up.high is not None
    assert (down.low, down.high) == pytest.approx((10 - up.high / 10, 10 - up.low / 10))
    assert down.value == pytest.approx(1.2, abs=0.001)


def test_degradation_is_the_paired_difference_of_the_runs_p95(tmp_path: Path) -> None:
    runs = [make_run(repeat=r, jitter_ms=0, latency_ms=(20.0, 20.0 + 10 * r, 20.0)) for r in (1, 2, 3)]

    estimate = only(analysed(tmp_path, runs)).estimates["latency_degradation_ms"]

    assert estimate.value == pytest.approx(20.0)
    assert estimate.low == pytest.approx(20.0 - 4.302653 * 10 / 3**0.5)


def test_without_a_success_during_the_injection_degradation_is_not_measured(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, repeated(down=[(5.0, 15.0)]))

    estimate = only(analysis).estimates["latency_degradation_ms"]
    assert estimate.value is None
    assert estimate.reason == "no run had 20 successes in both baseline and injection, which a p95 takes"
    assert outcomes(analysis)["latency_degradation_ms"] == "inconclusive"


def test_runs_without_an_outage_do_not_pose_as_repairs_of_zero_seconds(tmp_path: Path) -> None:
    runs = [*repeated(3, down=OUTAGE), make_run(repeat=4, seed=4)]

    estimate = only(analysed(tmp_path, runs)).estimates["mttr_seconds"]

    assert estimate.n == 3
    assert estimate.value == pytest.approx(2.0, abs=0.001)
    assert estimate.reason == "1 of 4 runs had no outage"


def test_the_number_of_good_probes_that_end_an_outage_is_the_campaigns(tmp_path: Path) -> None:
    runs = repeated(down=[(6.0, 7.0), (7.2, 8.0)])

    three = only(analysed(tmp_path / "three", runs))
    two = only(analysed(tmp_path / "two", runs, required_health_checks=2))

    assert [len(run.outages) for run in three.runs] == [1, 1, 1]
    assert [len(run.outages) for run in two.runs] == [2, 2, 2]


# Verdicts


def test_a_fault_that_was_delivered_and_did_no_harm_passes(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, repeated(5))

    assert set(outcomes(analysis).values()) == {"pass"}
    assert analysis.outcome == "pass"
    assert analysis.exit_code(fail_on_violation=True) == 0
    [mttr] = [verdict for verdict in analysis.verdicts if verdict.metric == "mttr_seconds"]
    assert mttr.reason == "no outage in 5 runs: there was nothing to repair"


def test_an_outage_of_a_fifth_of_the_injection_violates_error_rate_and_availability(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, [make_run(repeat=r, seed=r, down=[(6, 8 + r / 10)]) for r in (1, 2, 3)])

    assert outcomes(analysis) == {
        "mttr_seconds": "pass",
        "error_rate_percent": "fail",
        "availability_percent": "fail",
        "latency_degradation_ms": "pass",
        "recovery_time_seconds": "pass",
    }
    assert (analysis.outcome, analysis.exit_code(), analysis.exit_code(fail_on_violation=True)) == ("fail", 0, 1)


def test_two_runs_pass_nothing_not_even_an_outage_that_was_not_seen(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, repeated(2))

    assert set(outcomes(analysis).values()) == {"inconclusive"}
    assert analysis.exit_code(fail_on_violation=True) == 3
    assert only(analysis).estimates["mttr_seconds"].reason == (
        "no outage in 2 runs: that needs at least 3 to mean something"
    )


def test_other_slos_may_be_asked_for(tmp_path: Path) -> None:
    slo = Slo(metric="error_rate_percent", threshold=50.0, comparison="<=", unit="%")
    campaign = make_campaign(tmp_path / "campaign", [make_run(repeat=r, down=[(6, 8 + r / 10)]) for r in (1, 2, 3)])

    assert outcomes(analyse(campaign, slos=[slo])) == {"error_rate_percent": "pass"}


def test_a_violated_warning_is_reported_and_does_not_fail(tmp_path: Path) -> None:
    warning = Slo(metric="error_rate_percent", threshold=5.0, comparison="<=", unit="%", severity="warning")
    blocking = replace(warning, threshold=50.0, severity="blocking")
    runs = [make_run(repeat=r, down=[(6, 8 + r / 10)]) for r in (1, 2, 3)]

    analysis = analysed(tmp_path, runs, slos=[asdict(warning), asdict(blocking)])

    assert [verdict.outcome for verdict in analysis.verdicts] == ["fail", "pass"]
    assert analysis.exit_code(fail_on_violation=True) == 0


# What does not count


def test_runs_that_do_not_count_are_named_with_their_reasons(tmp_path: Path) -> None:
    runs = [
        *repeated(3),
        make_run(repeat=4, state=RunState.ABORTED, reason="abort condition: no probe has succeeded for 50 s"),
        make_run(repeat=5, state=RunState.NOT_STEADY, steady=False, reason="half failed"),
    ]

    scenario = only(analysed(tmp_path, runs))

    assert [run.repeat for run in scenario.runs] == [1, 2, 3]
    assert [(run.repeat, run.state, run.reason) for run in scenario.excluded] == [
        (4, "aborted", "aborted: abort condition: no probe has succeeded for 50 s"),
        (5, "not_steady", "not steady: half failed"),
    ]


def test_a_scenario_without_a_usable_run_still_appears_inconclusive(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, repeated(3, state=RunState.NOT_DELIVERED, reason="no effect was seen", doses=()))

    scenario = only(analysis)
    assert scenario.reason == "none of 3 runs can be used: not delivered: no effect was seen"
    assert {estimate.reason for estimate in scenario.estimates.values()} == {scenario.reason}
    assert scenario.estimates["availability_percent"].unit == "%"
    assert set(outcomes(analysis).values()) == {"inconclusive"}


def test_planned_runs_that_never_started_are_counted(tmp_path: Path) -> None:
    order = [["Light CPU Stress", 1], ["Light CPU Stress", 2]]

    scenario = only(analysed(tmp_path, repeated(1), order=order))

    assert [(run.repeat, run.state) for run in scenario.excluded] == [(2, "never_started")]


def test_a_run_that_nobody_watched_does_not_count(tmp_path: Path) -> None:
    rows = make_run()
    kept = [index for index, at in enumerate(rows.probes["scheduled_us"]) if at < 7_000_000]
    cut = replace(rows, probes={name: [column[index] for index in kept] for name, column in rows.probes.items()})
    blind = replace(make_run(repeat=2), probes={})

    scenario = only(analysed(tmp_path, [cut, blind]))

    assert [run.reason for run in scenario.excluded] == [
        "probes watched only 19% of the injection",
        "no probe was sent during the injection",
    ]


def test_a_control_is_judged_without_a_dose(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, [make_run("Control", r, type="control", seed=r) for r in (1, 2, 3, 4, 5)])

    assert len(only(analysis).runs) == 5
    assert analysis.outcome == "pass"


def test_scenarios_come_in_the_order_of_the_campaign_whatever_ran_first(tmp_path: Path) -> None:
    runs = [make_run("B", 1), make_run("A", 1), make_run("A", 2), make_run("B", 2)]
    planned = [{"name": name, "type": "cpu_stress", "intensity": "light"} for name in ("A", "B", "C")]

    analysis = analysed(tmp_path, runs, scenarios=planned)

    assert [scenario.name for scenario in analysis.scenarios] == ["A", "B", "C"]
    assert analysis.scenarios[2].reason == "no run was planned"


# Exit codes

FAILURE = {"reason": "the process is still there", "command": "kill 4711"}


def test_an_aborted_campaign_ends_with_5(tmp_path: Path) -> None:
    assert analysed(tmp_path, [make_run(state=RunState.ABORTED)]).exit_code() == 5


@pytest.mark.parametrize(
    "run",
    [make_run(state=RunState.NOT_DELIVERED), make_run(doses=[make_dose(delivered=1.0)])],
    ids=["said", "measured"],
)
def test_a_fault_that_was_not_delivered_ends_with_4(tmp_path: Path, run: RunRows) -> None:
    assert analysed(tmp_path, [run]).exit_code() == 4


def test_what_could_not_be_reverted_ends_with_6_before_anything_else(tmp_path: Path) -> None:
    runs = [make_run(state=RunState.ABORTED, undo_failures=[FAILURE]), make_run(repeat=2, state=RunState.NOT_DELIVERED)]

    analysis = analysed(tmp_path, runs)

    assert analysis.exit_code() == 6
    [residue] = analysis.residue
    assert (residue.scenario, residue.repeat, residue.step, residue.command) == (
        "Light CPU Stress",
        1,
        "stress",
        "kill 4711",
    )


def test_a_stopped_campaign_comes_before_a_fault_that_was_not_delivered(tmp_path: Path) -> None:
    runs = [make_run(state=RunState.NOT_DELIVERED), make_run(repeat=2, state=RunState.ABORTED)]

    assert analysed(tmp_path, runs).exit_code() == 5


def test_a_violation_comes_before_what_could_not_be_judged(tmp_path: Path) -> None:
    bad = [make_run("A", r, down=[(6, 8 + r / 10)], seed=r) for r in (1, 2, 3)]
    few = [make_run("B", 1)]

    assert analysed(tmp_path, bad + few).exit_code(fail_on_violation=True) == 1


def test_residue_that_only_the_campaign_knows_of_counts_too(tmp_path: Path) -> None:
    analysis = analysed(
        tmp_path, repeated(), status="not_reverted", reason="qdisc is left", commands=["tc qdisc del x"]
    )

    assert analysis.exit_code() == 6
    assert analysis.residue[0].command == "tc qdisc del x"


# Result files


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    make_campaign(tmp_path / "campaign", [*repeated(down=OUTAGE), make_run("Control", type="control")])
    for name in ("one", "two"):
        analysis = analyse(Campaign.open(tmp_path / "campaign"))
        write_json(tmp_path / f"{name}-results.json", analysis.as_results())
        write_json(tmp_path / f"{name}-validation.json", analysis.as_validation())

    for document in ("results", "validation"):
        one, two = (tmp_path / f"{name}-{document}.json" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_results_are_json_and_hold_every_estimate_run_and_dose(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, repeated(down=OUTAGE), environment="staging")

    results = json.loads(json.dumps(analysis.as_results(), allow_nan=False))

    assert results == analysis.as_results()
    assert (results["campaign"], results["environment"], results["outcome"]) == ("test", "staging", "fail")
    [scenario] = results["scenarios"]
    assert tuple(scenario["estimates"]) == ESTIMATES
    assert scenario["runs"][0]["outages"][0]["began_us"] == 6_000_000
    assert scenario["runs"][0]["error_rate_percent"] == pytest.approx(20.0)
    assert scenario["doses"][0] == make_dose().as_dict()


def test_validation_holds_the_verdicts_with_what_they_rest_on(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, repeated(3, down=OUTAGE))

    validation = json.loads(json.dumps(analysis.as_validation(), allow_nan=False))

    assert validation == analysis.as_validation()
    assert validation["outcome"] == "fail"
    assert sum(validation["verdicts"].values()) == 5
    [scenario] = validation["scenarios"]
    assert [verdict["metric"] for verdict in scenario["verdicts"]] == [slo.metric for slo in analysis.slos]
    assert {"estimate", "reason", "repeats_needed", "outcome", "severity"} <= set(scenario["verdicts"][0])


def test_tables_for_people_have_a_row_a_verdict_and_a_row_a_run(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, repeated(3, down=OUTAGE))

    verdicts, runs = analysis.table(), analysis.run_table()

    assert len(verdicts) == 5
    assert verdicts.loc[1, "metric"] == "error_rate_percent"
    assert verdicts.loc[1, "value"] == pytest.approx(20.0)
    assert verdicts.loc[1, "threshold"] == 5.0
    assert runs["repeat"].tolist() == [1, 2, 3]
    assert runs["failed"].tolist() == [20, 20, 20]


def test_a_campaign_without_runs_is_inconclusive_and_has_empty_tables(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, [])

    assert analysis.outcome == "inconclusive"
    assert analysis.table().empty
    assert analysis.run_table().empty


# Folders that cannot be


def test_a_scenario_that_the_campaign_does_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CampaignFolderError, match="'Light CPU Stress'"):
        analysed(tmp_path, [make_run()], scenarios=[{"name": "Other", "type": "cpu_stress"}])


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"slos": [{"metric": "mttr_seconds"}]}, r"the key 'slos\[0\].threshold' is missing"),
        (
            {"slos": [{"metric": "mtr", "threshold": 1, "comparison": "<=", "unit": "s"}]},
            r"slos\[0\].metric is 'mtr': input should be 'mttr_",
        ),
        ({"scenarios": None}, "scenarios is None: input should be a valid list"),
        ({"scenarios": [{"name": "A"}], "order": []}, r"the key 'scenarios\[0\].type' is missing"),
        ({"required_health_checks": 0}, "required_health_checks is 0"),
    ],
)
def test_a_campaign_file_that_cannot_be_read_says_which_key(tmp_path: Path, meta: dict[str, Any], message: str) -> None:
    with pytest.raises(CampaignFolderError, match=message):
        analysed(tmp_path, [make_run()], **meta)


def test_runs_that_overlap_are_refused_by_name(tmp_path: Path) -> None:
    """As if two folders had been thrown together: two faults at once have one effect, which belongs to neither."""
    campaign = make_campaign(tmp_path / "campaign", [make_run(repeat=repeat, seed=repeat) for repeat in (1, 2)])
    _, file = sorted((campaign.path / "events").glob("*.parquet"))
    rows = pq.read_table(file)
    place = rows.schema.get_field_index("at_us")
    earlier = pc.subtract(rows["at_us"], 3_000_000)
    pq.write_table(rows.set_column(place, rows.schema.field(place), earlier), file)
    with pytest.raises(CampaignFolderError, match=r"repeat 1 of '.*' and repeat 2 of '.*' overlap by 2 s"):
        analyse(Campaign.open(campaign.path))

"""Markdown and Prometheus text say what the analysis says, and nothing in a name can change what they are."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chaoslab.analysis import Analysis, analyse
from chaoslab.export import markdown, narrative, prometheus
from chaoslab.records import ErrorKind, RunState
from tests.campaigns import RunRows, make_campaign, make_dose, make_run

HOSTILE = 'CPU | <b>"x"</b> [a](http://b) `c`\n# d \U0001f4a5 \\'


def analysed(path: Path, runs: list[RunRows], **meta: object) -> Analysis:
    return analyse(make_campaign(path / "campaign", runs, **meta))


def outages(scenario: str = "Light CPU Stress", type: str = "cpu_stress") -> list[RunRows]:
    """Three runs, each down for about half of its ten seconds of injection."""
    return [make_run(scenario, n, type=type, down=[(6.0, 11.0 + n / 5)], seed=n) for n in (1, 2, 3)]


@pytest.fixture
def failing(tmp_path: Path) -> Analysis:
    return analysed(tmp_path, outages())


def samples(analysis: Analysis) -> dict[tuple[str, str], float]:
    """Value of each metric of the exposition, by name and scenario."""
    families = text_string_to_metric_families(prometheus.render(analysis))
    return {(s.name, s.labels.get("scenario", "")): s.value for family in families for s in family.samples}


# Prometheus


def test_every_name_of_the_specification_is_exposed(failing: Analysis) -> None:
    names = {name for name, _ in samples(failing)}
    estimates = {
        "chaos_mttr_seconds",
        "chaos_error_rate_percent",
        "chaos_availability_percent",
        "chaos_latency_degradation_ms",
        "chaos_recovery_time_seconds",
        "chaos_downtime_seconds",
    }
    assert names == {
        *(f"{name}{side}" for name in estimates for side in ("", "_ci_low", "_ci_high")),
        "chaos_slo_passed",
        "chaos_slo_violations_count",
        "chaos_scenarios_total",
        "chaos_scenarios_successful",
        "chaos_scenarios_failed",
        "chaos_campaign_finished_timestamp_seconds",
    }


def test_an_estimate_stands_beside_its_interval(failing: Analysis) -> None:
    found, expected = samples(failing), failing.scenarios[0].estimates["availability_percent"]
    values = [found[f"chaos_availability_percent{side}", "Light CPU Stress"] for side in ("_ci_low", "", "_ci_high")]
    assert values == [expected.low, expected.value, expected.high]


def test_what_was_not_measured_is_nan(tmp_path: Path) -> None:
    run = make_run(state=RunState.NOT_STEADY, steady=False, reason="error rate 12 %")
    found = samples(analysed(tmp_path, [run]))
    measured = [
        value
        for (name, _), value in found.items()
        if not name.startswith(("chaos_scenarios", "chaos_slo_v", "chaos_campaign"))
    ]
    assert len(measured) == 19
    assert all(math.isnan(value) for value in measured)
    assert (found["chaos_scenarios_total", ""], found["chaos_scenarios_failed", ""]) == (1, 0)


def test_violations_are_counted(failing: Analysis) -> None:
    found = samples(failing)
    failed = [verdict for verdict in failing.verdicts if verdict.outcome == "fail"]
    assert found["chaos_slo_violations_count", "Light CPU Stress"] == len(failed) > 0
    assert found["chaos_slo_passed", "Light CPU Stress"] == 0
    assert found["chaos_scenarios_failed", ""] == 1


@pytest.mark.parametrize("moment", [None, "", "noon"])
def test_a_campaign_that_did_not_end_ended_at_no_time(tmp_path: Path, moment: str | None) -> None:
    name = "chaos_campaign_finished_timestamp_seconds"
    assert samples(analysed(tmp_path / "ended", outages()))[name, ""] == 1_714_565_400
    assert math.isnan(samples(analysed(tmp_path / "not", outages(), finished_at=moment))[name, ""])


def test_samples_are_labelled_by_scenario_type_and_intensity(tmp_path: Path) -> None:
    text = prometheus.render(analysed(tmp_path, outages(HOSTILE)))
    family = next(f for f in text_string_to_metric_families(text) if f.name == "chaos_slo_passed")
    assert family.samples[0].labels == {"scenario": HOSTILE, "type": "cpu_stress", "intensity": "light"}


# Markdown


def test_markdown_says_verdicts_with_intervals_and_reasons(failing: Analysis) -> None:
    text = markdown.render(failing)
    assert text.startswith("# Resilience report\n\n**Failed.** 2 of 5 objectives are missed")
    verdict = next(v for v in failing.verdicts if v.metric == "availability_percent")
    row = next(line for line in text.splitlines() if "| availability during injection | ≥ 95 % |" in line)
    assert "✕ fail" in row
    assert markdown.escape(verdict.reason) in row


def test_every_row_of_a_table_has_as_many_cells_as_its_head(tmp_path: Path) -> None:
    text = markdown.render(analysed(tmp_path, outages(HOSTILE)))
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) >= 5
    for table in tables:
        counts = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table.splitlines()}
        assert len(counts) == 1


def test_a_hostile_name_is_shown_as_it_is(tmp_path: Path) -> None:
    import mistune

    text = markdown.render(analysed(tmp_path, outages(HOSTILE)))
    html = str(mistune.create_markdown(plugins=["table"])(text))
    assert "<b>" not in html
    assert "<a " not in html
    assert "<code>" not in html
    assert "CPU | &lt;b&gt;&quot;x&quot;&lt;/b&gt; [a](http://b) `c` # d \U0001f4a5 \\" in html


def test_what_could_not_be_undone_comes_first_with_its_command(tmp_path: Path) -> None:
    failure = {"reason": "the rule is still there", "command": "nft delete table inet `chaos`"}
    runs = [make_run(repeat=n, seed=n, undo_failures=[failure] if n == 2 else ()) for n in (1, 2, 3)]
    text = markdown.render(analysed(tmp_path, runs))
    assert text.index("Still broken") < text.index("## Verdicts")
    assert "```sh\nnft delete table inet `chaos`\n```" in text


def test_a_prober_that_was_late_or_short_of_connections_is_named(tmp_path: Path) -> None:
    late, short = make_run(repeat=1), make_run(repeat=2, down=[(6.0, 7.0)], error=ErrorKind.UNSENT)
    lags = [93_000 if 6_000_000 < at < 7_000_000 else 50 for at in late.probes["scheduled_us"]]
    late = replace(late, probes={**late.probes, "sent_us": lags, "latency_us": [lag + 5000 for lag in lags]})

    said = [problem.text for problem in narrative.problems(analysed(tmp_path, [late, short, make_run(repeat=3)]))]

    [told] = [text for text in said if "the prober itself was late in repeat 1: up to " in text]
    assert "% of a phase's probes left more than 10 ms after their instant (at worst 93 ms)" in told
    assert any("10 probes never left" in text and "in repeat 2" in text for text in said)


def test_a_run_that_does_not_count_is_named_with_its_reason(tmp_path: Path) -> None:
    runs = [make_run(repeat=n, seed=n) for n in (1, 2, 3)] + [make_run(repeat=4, doses=[make_dose(delivered=0.5)])]
    text = markdown.render(analysed(tmp_path, runs))
    assert "- Light CPU Stress: repeat 4 does not count: the dose was not delivered: CPU kept busy." in text
    assert "✕ 3 of 4 runs" in text


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"status": "stopped", "reason": "error rate above 80 %."}, "did not run to its end (stopped): error rate"),
        ({"status": "running"}, "still running, or chaoslab was killed"),
    ],
)
def test_a_campaign_that_stopped_is_said_to_have_stopped(tmp_path: Path, status: dict[str, str], said: str) -> None:
    assert said in markdown.render(analysed(tmp_path, outages(), **status))


def test_provenance_is_complete(failing: Analysis) -> None:
    rows = dict(narrative.provenance(failing))
    assert rows["May be unseen"] == "what happens in up to 63 % of runs may not have shown in 3 runs (95 % confidence)"
    assert rows["Seed"] == "1"
    assert rows["Probe"] == "http://127.0.0.1:8080/api/health, 10 a second, time-out 2 s"
    assert rows["Order of runs"] == "Light CPU Stress #1, Light CPU Stress #2, Light CPU Stress #3"
    assert rows["SHA-256 of configuration"] == "not recorded"


def test_equal_analyses_are_equal_text(tmp_path: Path) -> None:
    first, second = (analysed(tmp_path / name, outages()) for name in ("a", "b"))
    assert markdown.render(first) == markdown.render(second)
    assert prometheus.render(first) == prometheus.render(second)


# Narrative


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([make_run(repeat=n, seed=n, rate_hz=50) for n in (1, 2, 3)], "All 5 objectives hold."),
        ([make_run()], "No objective is shown to be missed, but 5 of 5 objectives cannot be decided yet."),
    ],
)
def test_the_headline_claims_no_more_than_the_verdicts(tmp_path: Path, runs: list[RunRows], said: str) -> None:
    assert narrative.headline(analysed(tmp_path, runs)) == said


def test_a_recovery_that_never_came_is_told_as_such(tmp_path: Path) -> None:
    runs = [make_run(repeat=n, seed=n, down=[(6.0, 20.0 if n == 3 else 11.0 + n)]) for n in (1, 2, 3)]
    story = " ".join(narrative.story(analysed(tmp_path, runs).scenarios[0]))
    assert "3 outages, 1 of them still open when the recording ended" in story
    assert "in 1 of 3 runs it was not back when the recording ended" in story
    assert "at least" in story

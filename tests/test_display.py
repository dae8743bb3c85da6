"""Values in a notebook: they show what matters, complete their names, and whatever they hold is text."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from chaoslab import analyse, load_scenarios
from chaoslab.analysis import Analysis
from chaoslab.errors import Interrupted, NotReverted, UsageError
from chaoslab.intervals import Estimate
from chaoslab.scenario_file import parse
from chaoslab.store import Campaign
from tests.campaigns import make_campaign, make_run

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    runs = [make_run(HOSTILE, repeat, down=[(6.0, 8.0 + repeat / 10)], seed=repeat) for repeat in (1, 2, 3)]
    return make_campaign(tmp_path_factory.mktemp("display") / "c", runs, target=f"http://127.0.0.1/{HOSTILE}")


@pytest.fixture(scope="module")
def analysis(campaign: Campaign) -> Analysis:
    return analyse(campaign)


def test_campaign_analysis_scenario_and_verdict_escape_what_they_hold(campaign: Campaign, analysis: Analysis) -> None:
    (result,) = analysis.scenarios
    for value in (campaign, analysis, result, analysis.verdicts[0]):
        shown = value._repr_html_()
        assert "&lt;img" in shown
        assert "<img" not in shown


def test_an_analysis_shows_every_verdict_with_interval_and_reason(analysis: Analysis) -> None:
    shown = analysis._repr_html_()
    assert shown.count("<tr>") == 1 + len(analysis.verdicts)
    assert "MTTR" in shown
    assert "fail" in shown
    assert f"{analysis.outcome}</caption>" in shown


def test_an_estimate_shows_its_interval_method_and_runs() -> None:
    shown = Estimate(value=4.0, low=3.0, high=5.5, method="log-t", n=5, unit="s")._repr_html_()
    for words in ("4.00 s", "[3.00, 5.50] s", "95 % interval", "log-t", "<td>5</td>"):
        assert words in shown
    none = Estimate(value=None, method="none", n=0, unit="s", reason=HOSTILE)._repr_html_()
    assert "not measured" in none
    assert "<img" not in none


def test_a_scenario_shows_its_dose_and_hides_secrets() -> None:
    file = parse(
        """
scenarios:
  - {name: Slow, type: network_delay, duration: 30s, parameters: {delay_ms: 50}}
  - name: Gone
    type: database_down
    duration: 10s
    parameters: {stop_command: [stop, --password, hunter2], start_command: [start, --password, hunter2]}
"""
    )
    assert "delay_ms 50" in file["slow"]._repr_html_()
    assert "30 s" in file._repr_html_()
    shown = file["Gone"]._repr_html_()
    assert "hunter2" not in shown
    assert "stop_command" in shown


def test_names_complete_at_the_tab_key(analysis: Analysis) -> None:
    shell = InteractiveShell()
    shell.user_ns |= {"file": load_scenarios(), "analysis": analysis}
    for typed, name in (('file["Li', "Light CPU Stress"), ('analysis["', HOSTILE)):
        with provisionalcompleter():
            found = [completion.text for completion in shell.Completer.completions(typed, len(typed))]
        assert any(name in text for text in found)


def test_a_name_that_is_not_there_is_named_with_the_nearest(analysis: Analysis) -> None:
    with pytest.raises(UsageError, match="did you mean 'Light CPU Stress'"):
        load_scenarios()["Ligth CPU Stress"]
    with pytest.raises(UsageError, match="no scenario is called 'x'"):
        analysis["x"]
    assert analysis[HOSTILE.upper()].name == HOSTILE


def test_scenarios_are_loaded_from_a_path_written_as_text(tmp_path: Path) -> None:
    file = tmp_path / "s.yml"
    file.write_text("scenarios: [{name: A, type: control, duration: 3s}]")
    assert load_scenarios(str(file))["A"].duration == 3


def test_an_error_is_one_line_in_a_cell(capsys: pytest.CaptureFixture[str]) -> None:
    shell = InteractiveShell()
    shell.user_ns["load_scenarios"] = load_scenarios
    shell.run_cell('load_scenarios()["Ligth CPU Stress"]')
    printed = capsys.readouterr().out.strip()
    assert printed.startswith("UsageError: no scenario is called 'Ligth CPU Stress'")
    assert len(printed.splitlines()) == 1


def test_what_could_not_be_reverted_keeps_its_commands_in_a_cell() -> None:
    shown = NotReverted("still broken", commands=["tc qdisc del dev lo root"])._render_traceback_()
    assert shown == ["NotReverted: still broken", "    tc qdisc del dev lo root"]
    assert Interrupted(2)._render_traceback_() == ["Interrupted: interrupted by SIGINT; everything was reverted"]

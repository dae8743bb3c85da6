"""The main job, as a user runs it: one command breaks a real service, measures it and renders the report."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from chaoslab.journal import JOURNAL_FILE, Journal, Phase
from tests.demo_run import CHAOSLAB, DemoUnderWay, Machine, new_machine
from tests.test_processes import until

SEED_OF_AN_OUTAGE_FIRST = "0"
FILES = {
    "campaign.json",
    "probes",
    "resources",
    "events",
    "journal.jsonl",
    "chaos_results.json",
    "resilience_validation.json",
    "chaos_report.md",
    "chaos_metrics.prom",
    "report.html",
    "report.ipynb",
}


@dataclass(frozen=True)
class Demo:
    """A finished `chaoslab demo`, and what it has left on the machine."""

    folder: Path
    ended: subprocess.CompletedProcess[str]
    traces: set[str]
    validation: dict[str, Any]


@pytest.fixture(scope="module")
def demo(demo_under_way: DemoUnderWay) -> Demo:
    ended = demo_under_way.ended()
    assert ended.returncode == 0, ended.stderr
    folder = demo_under_way.folder
    validation = json.loads((folder / "resilience_validation.json").read_text())
    return Demo(folder, ended, demo_under_way.machine.traces(), validation)


def estimates(demo: Demo, scenario: str) -> dict[str, dict[str, Any]]:
    results = json.loads((demo.folder / "chaos_results.json").read_text())
    found: dict[str, dict[str, Any]] = next(
        result["estimates"] for result in results["scenarios"] if result["name"] == scenario
    )
    return found


@pytest.mark.timeout(330)
def test_the_demo_writes_the_whole_campaign_folder_and_says_where_the_report_is(demo: Demo) -> None:
    assert {path.name for path in demo.folder.iterdir()} >= FILES
    assert f"report: {demo.folder / 'report.html'}" in demo.ended.stdout


def test_the_demo_leaves_nothing_behind(demo: Demo) -> None:
    assert demo.traces == set()


def test_every_run_was_steady_delivered_and_finished(demo: Demo) -> None:
    events = pd.read_parquet(demo.folder / "events")
    ends = [json.loads(detail) for detail in events.loc[events["event"] == "run_finished", "detail"]]
    assert [end["state"] for end in ends] == ["completed"] * 12
    doses = [json.loads(detail) for detail in events.loc[events["event"] == "dose", "detail"]]
    assert len(doses) == 3 * 2 + 3 + 3
    assert all(dose["ok"] for dose in doses)


def test_the_control_is_near_one_with_an_interval(demo: Demo) -> None:
    availability = estimates(demo, "Control (no fault)")["availability_percent"]
    assert availability["value"] > 99
    assert 90 < availability["low"] <= availability["value"] <= availability["high"] <= 100


@pytest.mark.parametrize("scenario", ["Application Container Restart", "Database Brief Outage"])
def test_the_outages_are_real(demo: Demo, scenario: str) -> None:
    found = estimates(demo, scenario)
    assert found["availability_percent"]["high"] < 100
    mttr = found["mttr_seconds"]
    assert 0 < mttr["low"] < mttr["value"] < mttr["high"] < 30
    assert mttr["n"] == 3


def test_the_database_outage_is_seen_as_an_slo_violation(demo: Demo) -> None:
    argv = [*CHAOSLAB, "validate", str(demo.folder), "--fail-on-violation", "--json"]
    judged = subprocess.run(argv, capture_output=True, text=True)
    assert judged.returncode == 1
    assert json.loads(judged.stdout) == demo.validation


def test_analysing_the_folder_again_gives_the_same_bytes(demo: Demo) -> None:
    from chaoslab import report

    names = ("chaos_results.json", "resilience_validation.json", "chaos_metrics.prom", "chaos_report.md")
    before = {name: (demo.folder / name).read_bytes() for name in names}
    report.write_all(demo.folder)
    assert {name: (demo.folder / name).read_bytes() for name in names} == before


def test_the_report_states_the_scaling_of_durations(demo: Demo) -> None:
    assert "scaled by 0.1" in (demo.folder / "report.html").read_text()
    assert "scaled by 0.1" in (demo.folder / "chaos_report.md").read_text()


def test_progress_is_a_line_a_run_where_output_is_no_terminal(demo: Demo) -> None:
    lines = demo.ended.stderr.strip().splitlines()
    assert (
        len([line for line in lines if re.match(r"run \d+/12 · .* · repeat \d/3 · injection · \d+:\d\d left", line)])
        == 12
    )
    assert len(lines) < 20


def test_the_journal_shows_every_step_undone(demo: Demo) -> None:
    journal = Journal(demo.folder / JOURNAL_FILE)
    assert journal.open_steps() == []
    phases = [entry["phase"] for entry in journal.entries()]
    assert phases.count(Phase.INTENT) == phases.count(Phase.UNDONE) == 9 + 1
    assert phases[-1] == Phase.CLOSED


@dataclass(frozen=True)
class Running:
    """A demo under way, in a session of its own as a terminal gives it."""

    process: subprocess.Popen[str]
    folder: Path
    machine: Machine

    def is_faulty(self, name: str) -> bool:
        """Whether the journal says that a step of that name is in effect."""
        journal = self.folder / JOURNAL_FILE
        return journal.exists() and any(name in found.step.name for found in Journal(journal).open_steps())


@pytest.fixture
def running(tmp_path: Path, state: Path) -> Iterator[Running]:
    machine, folder = new_machine(state), tmp_path / "campaign"
    process = subprocess.Popen(
        [*CHAOSLAB, "demo", "--repeats", "1", "--seed", SEED_OF_AN_OUTAGE_FIRST, "--output", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=machine.environment,
        start_new_session=True,
    )
    with process:
        yield Running(process, folder, machine)
        process.kill()
    machine.temporary.rmdir()


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.1, 1.6, 2.5, 5.0])
def test_a_demo_killed_at_any_moment_leaves_nothing(running: Running, seconds: float) -> None:
    time.sleep(seconds)  # the moment itself is what is varied
    running.process.kill()
    running.process.wait()
    until(lambda: not running.machine.traces(), seconds=5.0, show=running.machine.traces)


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_demo_that_is_ended_while_its_database_is_down_leaves_nothing(
    running: Running, signum: int, code: int
) -> None:
    until(lambda: running.is_faulty("outage of"), seconds=60)
    running.process.send_signal(signum)
    running.process.communicate(timeout=30)
    assert running.process.returncode == code
    until(lambda: not running.machine.traces(), seconds=5.0, show=running.machine.traces)
    assert "injection_started" in set(pd.read_parquet(running.folder / "events")["event"])

"""`chaoslab ci`: every stage is told, and the service that it starts is never left behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from chaoslab import targets, trust
from chaoslab.stages import CI, Stages
from tests import servers
from tests.faults.trials import free_port
from tests.test_cli import chaoslab
from tests.test_processes import until
from tests.test_survival import ours as survivors

CHAOSLAB = [sys.executable, "-m", "chaoslab"]
CONFIG = """
scenarios:
  - name: "::error::Outage"
    type: database_outage
    duration: {duration}
    parameters:
      stop_command: [rm, -f, "{file}"]
      start_command: [touch, "{file}"]
      check_command: [test, -e, "{file}"]
scenario_groups: {{smoke_test: {{scenarios: ["::error::Outage"]}}}}
phases: {{baseline_seconds: 0.5, recovery_seconds: 0.5}}
monitoring: {{health_check: {{endpoint: /ok}}}}
"""


@dataclass(frozen=True)
class Place:
    """A folder with a scenario file of one outage, and a service that nobody has started yet."""

    folder: Path
    port: int
    duration: float = 0.5

    @classmethod
    def at(cls, folder: Path, duration: float = 0.5) -> Place:
        (folder / "up").touch()
        (folder / "scenarios.yml").write_text(CONFIG.format(file=folder / "up", duration=duration))
        return cls(folder, free_port(), duration)

    @property
    def start(self) -> str:
        """The service below a shell, with a process beside it that ignores TERM."""
        serve = shlex.join([sys.executable, servers.__file__, str(self.port), ""])
        return f"echo secret password=hunter2-hunter2; (trap '' TERM; sleep 300.{self.port}) & {serve}"

    @property
    def output(self) -> Path:
        return self.folder / "campaign"

    @property
    def environment(self) -> dict[str, str]:
        elsewhere = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
        return elsewhere | {
            targets.STATE_VARIABLE: str(self.folder / "state"),
            trust.CONFIG_VARIABLE: str(self.folder / "configuration"),
        }

    def argv(self, *arguments: str, start: str | None = None) -> list[str]:
        url = f"http://127.0.0.1:{self.port}"
        return [
            *(*CHAOSLAB, "ci", "--config", str(self.folder / "scenarios.yml"), "--target", url, "--allow-commands"),
            *("--start", start or self.start, "--repeats", "1", "--output", str(self.output), "--no-page"),
            *("--grace", "0.5"),
            *("--junit", str(self.folder / "tests.xml"), *arguments),
        ]

    def begin(
        self, *arguments: str, start: str | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*arguments, start=start),
            env=self.environment | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *arguments: str, start: str | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        process = self.begin(*arguments, start=start, environment=environment)
        out, err = process.communicate(timeout=90)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def here(self, *arguments: str, start: str | None = None) -> int:
        """Run it in this process; return the exit code."""
        return chaoslab(*self.argv(*arguments, start=start)[len(CHAOSLAB) :])

    def stages(self) -> dict[str, str]:
        document = json.loads((self.output / "pipeline.json").read_text())
        return {stage["name"]: stage["outcome"] for stage in document["stages"]}

    def alive(self) -> list[str]:
        """Processes of the service that still run."""
        marks = (f"servers.py {self.port}", f"300.{self.port}")
        lines = [" ".join(found.info["cmdline"] or ()).strip() for found in psutil.process_iter(["cmdline"])]
        return [line for line in lines if any(line.endswith(mark) for mark in marks) and "chaoslab" not in line]

    def is_serving(self) -> bool:
        return len(self.alive()) >= 2


@pytest.fixture(autouse=True)
def nowhere_near_github(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, subprocess.CompletedProcess[str]]:
    """A whole pipeline, as GitHub would run it."""
    place = Place.at(tmp_path_factory.mktemp("ci"))
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(place.folder / "step.md")}
    return place, place.run("--fail-on-violation", environment=github)


Done = tuple[Place, subprocess.CompletedProcess[str]]


def test_every_stage_has_its_outcome_and_time(done: Done) -> None:
    place, ended = done
    assert ended.returncode == 3, ended.stderr  # one run decides nothing
    assert list(place.stages()) == sorted(place.stages(), key=CI.index) == list(CI)
    assert place.stages() == {
        **dict.fromkeys(("setup", "deploy_service", "chaos_injection", "cleanup", "summary"), "passed"),
        "resilience_validation": "inconclusive",
        "performance_comparison": "skipped",
    }
    document = json.loads((place.output / "pipeline.json").read_text())
    times = {stage["name"]: stage["seconds"] for stage in document["stages"]}
    assert times["chaos_injection"] > place.duration
    assert all(name in ended.stdout for name in CI)


def test_the_service_is_gone_and_what_it_said_is_kept_without_secrets(done: Done) -> None:
    place, _ = done
    assert not place.alive()
    log = (place.output / "service.log").read_text()
    assert f"\n{place.port}\n" in log
    assert "hunter2" not in log
    assert "password=***" in log
    assert not list((place.folder / "state" / "journals").iterdir())


def test_the_campaign_has_all_its_files_and_the_tests_are_where_they_were_asked_for(done: Done) -> None:
    place, _ = done
    for name in ("chaos_results.json", "resilience_validation.json", "chaos_report.md", "chaos_metrics.prom"):
        assert (place.output / name).is_file()
    text = (place.folder / "tests.xml").read_text()
    assert text == (place.output / "junit.xml").read_text()
    root = ElementTree.fromstring(text)
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("5", "5", "0")


def test_on_github_the_step_gets_a_summary_and_only_our_own_commands_are_obeyed(done: Done) -> None:
    place, ended = done
    summary = (place.folder / "step.md").read_text()
    assert summary == (place.output / "ci_summary.md").read_text()
    assert "| deploy\\_service | ● passed |" in summary
    assert "**Inconclusive.**" in summary
    obeyed, stopped = [], ""
    for line in ended.stdout.splitlines():
        word = line.strip()
        if stopped:
            stopped = "" if word == f"::{stopped}::" else stopped
        elif word.startswith("::stop-commands::"):
            stopped = word.removeprefix("::stop-commands::")
        elif word.startswith("::"):
            obeyed.append(word)
    assert not stopped
    assert len(obeyed) == 5
    assert all(line.startswith("::warning title=%3A%3Aerror%3A%3AOutage%3A ") for line in obeyed)


def test_a_later_build_is_compared_with_a_kept_one(done: Done, tmp_path: Path) -> None:
    earlier, _ = done
    place = Place.at(tmp_path)
    baseline = ("--baseline", str(earlier.output), "--fail-on-regression")
    assert place.here(*baseline, "--config", str(earlier.folder / "scenarios.yml")) == 3
    assert place.stages()["performance_comparison"] == "inconclusive"
    assert (place.output / "comparison.json").is_file()
    assert "### Against the baseline" in (place.output / "ci_summary.md").read_text()


@pytest.mark.parametrize("moment", ["deploy_service", "chaos_injection"])
def test_a_signal_cleans_up_and_is_told(moment: str, tmp_path: Path) -> None:
    place = Place.at(tmp_path, duration=60)
    start = f"{place.start.rpartition(' & ')[0]} & sleep 300.{place.port}" if moment == "deploy_service" else None
    with place.begin(start=start) as process:
        fault = place.folder / "up"
        until(lambda: place.is_serving() if start else not fault.exists(), seconds=60)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert f"{moment} interrupted" in out
    assert "cleanup passed" in out
    assert fault.exists()
    assert not place.alive()
    case = ElementTree.parse(place.folder / "tests.xml").find(".//testcase[@classname='chaoslab.pipeline']")
    assert case is not None
    assert case.get("name") == moment


def test_no_service_outlives_a_kill(tmp_path: Path) -> None:
    """By the guardian; by what is tethered to it; and where all three are killed by `chaoslab recover`."""

    def kill(*others: str) -> None:
        (folder := tmp_path / str(len(others))).mkdir()
        place = Place.at(folder, duration=60)
        with place.begin() as process:
            until(place.is_serving, seconds=60)
            process.send_signal(signal.SIGSTOP)  # so that nobody acts before all are gone
            try:
                family = [(found, found.cmdline()) for found in survivors(folder / "state")]
                victims = [found for name in others for found, words in family if name in words]
                assert len(victims) == len(others), family
                for victim in victims:
                    victim.kill()
            finally:
                process.kill()
        if len(others) == 2:
            assert place.is_serving()
            subprocess.run([*CHAOSLAB, "recover"], env=place.environment, check=True, capture_output=True)
            assert not place.alive()
        until(lambda: not place.alive(), seconds=30)

    cases: tuple[tuple[str, ...], ...] = ((), ("chaoslab.guardian",), ("chaoslab.guardian", "chaoslab.agent.tethered"))
    with ThreadPoolExecutor(len(cases)) as pool:
        for ended in [pool.submit(kill, *others) for others in cases]:
            ended.result()


def test_a_service_that_does_not_start_is_told_with_its_last_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = Place.at(tmp_path)
    assert place.here(start="echo no such port 'password=hunter2-hunter2' >&2; exit 7") == 2
    out, err = capfd.readouterr()
    tests = (place.folder / "tests.xml").read_text()
    assert "the service ended with 7 before it was ready" in err
    assert "| no such port password=***" in err
    assert "hunter2" not in err + out + tests
    assert "deploy_service failed" in out
    assert not place.output.exists()
    assert 'name="deploy_service"' in tests


def test_a_service_that_is_never_ready_is_given_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = Place.at(tmp_path)
    assert place.here("--ready-timeout", "1", start=f"sleep 300.{place.port}") == 2
    said = f"not ready after 1 s: http://127.0.0.1:{place.port}/ok: connection refused; it said nothing"
    assert said in capfd.readouterr().err
    assert not place.alive()


def test_what_a_service_leaves_elsewhere_is_stopped_by_its_own_command(tmp_path: Path) -> None:
    """As `docker compose up -d` does: the command ends at once, and the service is no child of it."""
    place = Place.at(tmp_path)
    pid_file = tmp_path / "pid"
    serve = shlex.join([sys.executable, servers.__file__, str(place.port), ""])
    start = f"env -u CHAOSLAB_TOKEN setsid {serve} >/dev/null 2>&1 & echo $! > {pid_file}"
    assert place.here("--stop", f"kill $(cat {pid_file}); rm {pid_file}", start=start) == 0
    assert place.stages()["cleanup"] == "passed"
    assert not place.alive()
    assert not pid_file.exists()


def test_without_docker_a_fault_that_needs_it_is_refused_and_the_service_ended(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    place = Place.at(tmp_path)
    config = place.folder / "scenarios.yml"
    config.write_text(re.sub(r"stop_command: .*\n.*start_command: .*", "container: web", config.read_text()))
    assert place.here() == 4
    assert f"docker: Docker does not answer at unix://{tmp_path}/nobody: No such file" in capfd.readouterr().err
    assert "<error" in (place.folder / "tests.xml").read_text()
    assert not place.alive()


def test_a_service_that_cannot_be_stopped_ends_with_6(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = Place.at(tmp_path)
    assert place.here("--stop", "echo stuck >&2; exit 9") == 6
    assert "the command that stops it ended with 9" in capfd.readouterr().err
    assert place.stages()["cleanup"] == "failed"
    assert not place.alive()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--junit", "{tmp}/missing/x.xml"], "--junit {tmp}/missing/x.xml cannot be written: there is no folder"),
        (["--baseline", "v0"], "no baseline 'v0'"),
        (["--ready", "http://127.0.0.1:9"], "--ready goes with --start"),
        (["--suite", "smoke"], "did you mean 'smoke_test'"),
        (["--output", "{tmp}"], "{tmp} already holds other files"),
    ],
)
def test_bad_usage_starts_nothing(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").write_text("kept")
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    assert chaoslab("ci", "--target", "http://127.0.0.1:9", *given) == 2
    captured = capsys.readouterr()
    assert said.format(tmp=tmp_path) in " ".join(captured.err.split())
    assert "setup failed" in captured.out
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_service_that_answers_already_is_not_taken_for_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = Place.at(tmp_path)
    with servers.running(port=place.port):
        assert place.here(start=f"sleep 300.{place.port}") == 2
    assert "something answers at" in capfd.readouterr().err
    assert not place.alive()


def test_a_dry_run_starts_nothing_and_shows_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = Place.at(tmp_path)
    assert place.here("--dry-run") == 0
    out, _ = capfd.readouterr()
    assert "would start: echo secret password=***" in out
    assert "DRY RUN" in out
    assert not place.alive()
    assert not (place.folder / "tests.xml").exists()


def test_a_dry_run_says_what_it_cannot_tell_before_the_service_runs(capfd: pytest.CaptureFixture[str]) -> None:
    nobody = ("ci", "--dry-run", "--target", "http://127.0.0.1:9", "--scenario", "Application Container Restart")
    assert chaoslab(*nobody, "--start", "serve") == 0
    assert "cannot be told before the service runs: " in capfd.readouterr().out
    assert chaoslab(*nobody) == 4


def test_stages_are_timed_and_those_that_never_began_are_skipped() -> None:
    clock = iter([1.0, 3.5, 4.0, 4.25])
    stages = Stages(names=("a", "b", "c"), clock=lambda: next(clock))
    with stages.stage("a") as note:
        note.detail = "well"
    with pytest.raises(ValueError, match="no"), stages.stage("b"):
        raise ValueError("no")
    assert [(stage.outcome, stage.seconds, stage.detail) for stage in stages.all] == [
        ("passed", 2.5, "well"),
        ("failed", 0.25, "no"),
        ("skipped", 0.0, "an earlier stage did not succeed"),
    ]

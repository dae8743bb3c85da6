"""The pipeline files are sound, and their shell steps do what they say, run here in order against the embedded shop."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import chaoslab
from chaoslab import targets
from chaoslab.stages import CI
from tests.faults.trials import free_port

ROOT = Path(chaoslab.__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "chaos.yml"
SCRIPT = ROOT / "run_chaos_tests.sh"
BIN = Path(sys.executable).parent

Need = Callable[[str, str], None]


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(WORKFLOW.read_text(), Loader=yaml.BaseLoader)
    return document


@pytest.fixture
def lint(need: Need, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    for program in ("actionlint", "shellcheck"):
        need(program, "pip install '.[dev]'")


def said_by(*argv: str) -> str:
    found = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    return found.stdout + found.stderr


@pytest.mark.usefixtures("lint")
def test_the_linters_find_nothing_in_the_workflow_and_the_scripts(tmp_path: Path) -> None:
    assert not said_by("actionlint", str(WORKFLOW))
    assert not said_by("shellcheck", str(SCRIPT))
    steps = [
        *(("bash", step["run"]) for step in load("action.yml")["runs"]["steps"] if "run" in step),
        *(("sh", line) for line in load(".gitlab-ci.yml")["chaos"]["script"]),
    ]
    for number, (shell, text) in enumerate(steps):
        script = tmp_path / f"{number}.sh"
        script.write_text(f"#!/usr/bin/env {shell}\n{text}")
        assert not said_by("shellcheck", str(script))


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load((ROOT / name).read_text(), Loader=yaml.BaseLoader)
    return document


def test_the_workflow_has_the_seven_jobs_their_triggers_and_no_more_rights_than_they_need(
    workflow: dict[str, Any],
) -> None:
    assert tuple(workflow["jobs"]) == CI
    assert set(workflow["on"]) == {"pull_request", "schedule", "workflow_dispatch"}
    assert workflow["on"]["schedule"] == [{"cron": "0 2 * * *"}]
    assert workflow["on"]["workflow_dispatch"]["inputs"]["intensity"]["options"] == [
        *("smoke_test", "standard_test", "stress_test", "infrastructure_test", "production_readiness")
    ]
    assert workflow["permissions"] == {"contents": "read"}
    granted = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert granted == {"summary": {"contents": "read", "pull-requests": "write"}}
    assert all(workflow["jobs"][name]["if"] == "always()" for name in ("cleanup", "summary"))
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


def test_actions_are_pinned_artifacts_are_kept_and_no_expression_reaches_a_shell(workflow: dict[str, Any]) -> None:
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]] + load("action.yml")["runs"]["steps"]
    for step in steps:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step.get("uses", "actions/none@" + "0" * 40))
        assert "${{" not in step.get("run", "")
    kept = [step["with"]["retention-days"] for step in steps if "upload-artifact" in step.get("uses", "")]
    assert kept
    assert set(kept) == {"30"}
    for line in (WORKFLOW.read_text() + (ROOT / "action.yml").read_text()).splitlines():
        assert re.search(r"# v\d+\.\d+\.\d+$", line) or "uses: actions/" not in line


class Runner:
    """What of a GitHub runner the shell steps of a workflow can tell, with one folder for all jobs."""

    def __init__(self, folder: Path, workflow: Mapping[str, Any], contexts: Mapping[str, str]) -> None:
        self.folder, self._workflow, self._contexts = folder, workflow, dict(contexts)
        (folder / "bin").mkdir()
        for name in ("chaoslab", "python"):
            (folder / "bin" / name).symlink_to(BIN / name)
        self._stub("gh", f'printf "%s\\n" "$*" >>{folder}/gh.log')

    def _stub(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def choose(self, **contexts: str) -> dict[str, str]:
        """Run the step that chooses what the others do; return its outputs."""
        before, self._contexts = self._contexts, dict(contexts)
        (step,) = (step for step in self._workflow["jobs"]["setup"]["steps"] if step.get("id") == "choose")
        ended = self._step(step)
        found, self._contexts = self._contexts, before
        assert ended.returncode == 0, ended.stderr
        return {name.rpartition(".")[2]: value for name, value in found.items() if name not in contexts}

    def run(self, name: str) -> list[subprocess.CompletedProcess[str]]:
        """Run a job's shell steps in order, all but the installation."""
        job = self._workflow["jobs"][name]
        steps = [step for step in job["steps"] if "run" in step and step["name"] != "Install"]
        ended = [self._step(step) for step in steps]
        self._contexts |= {
            f"needs.{name}.outputs.{output}": self._valued(value) for output, value in job.get("outputs", {}).items()
        }
        return ended

    def _step(self, step: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        output = self.folder / "output"
        output.write_text("")
        variables = {**self._workflow["env"], **step.get("env", {})}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")},
            **{name: self._valued(value) for name, value in variables.items()},
            targets.STATE_VARIABLE: str(self.folder / "state"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(self.folder / "step_summary.md"),
        }
        argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        ended = subprocess.run(argv, cwd=self.folder, env=environment, capture_output=True, text=True)
        for line in output.read_text().splitlines():
            key, _, value = line.partition("=")
            self._contexts[f"steps.{step['id']}.outputs.{key}"] = value
        return ended

    def _valued(self, text: str) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda match: self._expression(match[1]), text)

    def _expression(self, words: str) -> str:
        """`a || 'b'`: the first that is not empty. Nothing else stands in variables."""
        parts = [part.strip() for part in words.split("||")]
        values = [part[1:-1] if part.startswith("'") else self._contexts.get(part, "") for part in parts]
        return next((value for value in values if value), "")


CONTEXTS = {
    "github.event_name": "pull_request",
    "inputs.intensity": "infrastructure_test",  # its doses are delivered however busy the machine is
    "github.repository": "us/shop",
    "github.event.pull_request.number": "7",
    "vars.CHAOS_REPEATS": "1",
    "vars.CHAOS_DURATION_SCALE": "0.05",
    "toJSON(needs)": json.dumps({name: {"result": "success", "outputs": {}} for name in CI[:-1]}),
}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, workflow: dict[str, Any]) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("runner")
    port = free_port()
    text = json.dumps(workflow).replace("18080", str(port))
    yield Runner(folder, json.loads(text), CONTEXTS)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("contexts", "suite", "gate"),
    [
        ({"github.event_name": "pull_request"}, "smoke_test", "--fail-on-violation"),
        ({"github.event_name": "schedule"}, "standard_test", "--fail-on-violation"),
        ({"inputs.intensity": "stress_test", "inputs.fail_on_violation": "false"}, "stress_test", ""),
        ({"inputs.intensity": "smoke_test", "inputs.fail_on_violation": "true"}, "smoke_test", "--fail-on-violation"),
    ],
)
def test_what_started_the_workflow_chooses_the_suite(
    contexts: dict[str, str], suite: str, gate: str, runner: Runner
) -> None:
    chosen = runner.choose(**contexts)
    assert (chosen["suite"], chosen["gate"]) == (suite, gate)
    assert chosen["start"].startswith("chaoslab demo --serve --port ")


def test_a_service_that_runs_already_is_not_started(runner: Runner) -> None:
    usual = {"vars.CHAOS_TARGET": "https://y.example", "vars.CHAOS_START": "serve y"}
    chosen = runner.choose(**usual, **{"inputs.target_url": "https://x.example"})
    assert (chosen["target"], chosen["start"]) == ("https://x.example", "")
    chosen = runner.choose(**usual)
    assert (chosen["target"], chosen["start"]) == ("https://y.example", "serve y")


@pytest.mark.timeout(400)
def test_the_shell_steps_of_each_job_do_what_they_say(runner: Runner, need: Need) -> None:
    need("jq", "apt-get install jq")
    ended = {name: runner.run(name) for name in CI}
    codes = {name: [step.returncode for step in steps] for name, steps in ended.items()}
    troubles = [step.stderr for steps in ended.values() for step in steps if step.returncode]
    # One run of each scenario decides nothing, and a pull request wants to know.
    assert codes == {
        "setup": [0, 0, 0],
        "deploy_service": [0],
        "chaos_injection": [0, 0],
        "resilience_validation": [3],
        "performance_comparison": [0],
        "cleanup": [0],
        "summary": [0, 0],
    }, troubles
    campaign = runner.folder / "campaigns" / "ci"
    for name in ("chaos_results.json", "resilience_validation.json", "chaos_report.md", "report.html", "ci_summary.md"):
        assert (campaign / name).is_file()
    assert list(campaign.rglob("*.parquet"))
    assert {path.name for path in (runner.folder / "results").iterdir()} == {
        *("junit.xml", "chaos_results.csv", "chaos_metrics.prom", "validation.md")
    }
    assert "cleanup: passed" in ended["cleanup"][0].stdout
    assert "no baseline" in (runner.folder / "comparison" / "comparison.md").read_text()
    summary = (runner.folder / "summary.md").read_text()
    assert summary.startswith("<!-- chaoslab -->\n\n## Resilience\n\n**Inconclusive.**")
    assert "| chaos_injection | success |" in summary
    assert "| deploy\\_service | ● passed |" in summary
    asked = (runner.folder / "gh.log").read_text()
    assert "api repos/us/shop/issues/7/comments --paginate" in asked
    assert "api --method POST repos/us/shop/issues/7/comments --field body=@comment.md" in asked


def test_the_steps_of_the_action_and_of_gitlab_take_their_options(tmp_path: Path) -> None:
    """A dry run of each: their options are those of `chaoslab ci`."""
    inputs = {name: entry.get("default", "") for name, entry in load("action.yml")["inputs"].items()}
    inputs |= {"target": "http://127.0.0.1:9", "start": "serve it", "environment": "staging", "options": "--dry-run\n"}
    (step,) = (step for step in load("action.yml")["runs"]["steps"] if step.get("name") == "Run")
    variables = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: inputs[match[1]], value)
        for name, value in step["env"].items()
    }
    job = load(".gitlab-ci.yml")["chaos"]
    for shell, script, environment in (
        ("bash", step["run"], variables),
        ("sh", "\n".join(job["script"]), job["variables"] | {"CHAOS_OPTIONS": "--dry-run"}),
    ):
        (folder := tmp_path / shell).mkdir()
        ended = subprocess.run(
            [shell, "-euc", script],
            env=os.environ | environment | {"PATH": f"{BIN}:{os.environ['PATH']}"},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        assert "would start: " in ended.stdout
        assert "Light Memory Stress" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--target"], {}, "--target takes a value"),
        (["--target="], {}, "--target takes a value"),
        (["--intensity", "heavy"], {}, "--intensity is heavy; accepted: smoke, standard, stress"),
        (["--port", "80"], {}, "--port is not accepted; accepted: --target URL"),
        ([], {"CHAOS_TARGET_PORT": "http"}, "CHAOS_TARGET_PORT is http; accepted: a port number"),
    ],
)
def test_the_script_refuses_what_it_does_not_know(
    arguments: list[str], variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    ended = script(*arguments, folder=tmp_path, **variables)
    assert ended.returncode == 2
    assert said in ended.stderr


def script(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("TARGET_URL", "CHAOS_TARGET_PORT")}
    clean |= {"PATH": f"{BIN}:{os.environ['PATH']}"} | variables
    return subprocess.run([str(SCRIPT), *arguments], env=clean, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "variables", "target", "suite"),
    [
        (["--target", "http://127.0.0.1:9"], {"TARGET_URL": "http://127.0.0.1:8"}, "http://127.0.0.1:9", "smoke"),
        (["--intensity=standard"], {"TARGET_URL": "http://127.0.0.1:8"}, "http://127.0.0.1:8", "standard"),
        (["--intensity", "stress"], {"CHAOS_TARGET_PORT": "81"}, "http://localhost:81", "stress"),
        (["--", "--repeats", "2"], {}, "http://localhost:8080", "smoke"),
    ],
)
def test_the_script_takes_its_target_from_where_it_did(
    arguments: list[str], variables: dict[str, str], target: str, suite: str, tmp_path: Path
) -> None:
    ended = script("--dry-run", *arguments, folder=tmp_path, **variables)
    assert ended.returncode == 0, ended.stderr
    assert f"DRY RUN: nothing is done to {target}" in ended.stdout
    word = {"smoke": "Light", "standard": "Medium", "stress": "Heavy"}[suite]
    assert f"{word} Memory Stress, repeat {2 if '--repeats' in arguments else 3}" in ended.stdout

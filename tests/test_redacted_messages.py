"""What a command refuses or shows holds no secret, whatever it was given."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chaoslab.faults import victims
from chaoslab.faults.victims import ProcessChoice
from tests.faults.kit import surroundings
from tests.test_cli import NOBODY, chaoslab

PASSWORD, QUERY, START, ABORT, VARIABLE, VICTIM = (f"c4nary-{number}-0x9f" for number in range(6))


@pytest.mark.parametrize(
    "target",
    [
        f"ftp://me:{PASSWORD}@127.0.0.1",
        f"http://me:{PASSWORD}/x@127.0.0.1",
        f"http://me:{PASSWORD}@127.0.0.1:99999",
        f"http://me:{PASSWORD}@127.0.0.1:9/?token={QUERY}",
        f"http://me:{PASSWORD}@[::1/?token={QUERY}",
    ],
)
@pytest.mark.parametrize("verbose", [(), ("--verbose",)])
def test_a_target_that_is_refused(target: str, verbose: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab("run", "--target", target, "--scenario", "Control (no fault)", *verbose) == 2
    printed = "".join(capsys.readouterr())
    assert printed
    assert PASSWORD not in printed
    assert QUERY not in printed


@pytest.mark.parametrize(
    "safety",
    [
        f"{{abort_conditions: {{probe: {{command: {{run: 'psql --password {ABORT}'}}}}}}}}",
        f"{{abort_conditions: {{probe: {{command: [psql, --password, {ABORT}], interval: soon}}}}}}",
        f"{{allowed_targets: 'http://me:{ABORT}@x'}}",
        f"{{cooldown_seconds: 'token={ABORT}'}}",
    ],
)
def test_a_scenario_file_that_is_refused(safety: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "f.yml"
    config.write_text(f"scenarios: [{{name: A, type: control, duration: 3}}]\nsafety: {safety}\n")
    assert chaoslab("scenarios", "--check", str(config), "--verbose") == 2
    printed = "".join(capsys.readouterr())
    assert "f.yml:2" in printed
    assert ABORT not in printed


def test_what_scenarios_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "f.yml"
    command = ["sh", "-c", "x", "--token", START]
    config.write_text(
        "scenarios:\n  - {name: A, type: database_outage, duration: 3, parameters: "
        f"{{stop_command: {json.dumps(command)}, start_command: {json.dumps(command)}}}}}\n"
    )
    for options in ((), ("--json",)):
        assert chaoslab("scenarios", "--config", str(config), *options) == 0
    assert chaoslab("trust", str(config)) == 0
    printed = "".join(capsys.readouterr())
    assert "***" in printed
    assert START not in printed


def test_the_command_line_of_a_victim(tmp_path: Path) -> None:
    marker = tmp_path.name
    argv = ["python", "-c", "input()", "--password", VICTIM, marker]
    with subprocess.Popen(argv, executable=sys.executable, stdin=subprocess.PIPE) as process:
        try:
            shown = victims.find(ProcessChoice(process=re.escape(marker)), surroundings()).shown
        finally:
            process.kill()
    assert "--password ***" in shown
    assert VICTIM not in shown


def test_a_variable_that_holds_no_secret_because_it_is_misspelt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_LICENCE", VARIABLE)
    config = tmp_path / "f.yml"
    config.write_text("scenarios: [{name: A, type: control, duration: 3}]\nsafety: {secrets: [SHOP_LICENSE]}\n")
    assert chaoslab("run", "--target", NOBODY, "--config", str(config), "--dry-run") == 2
    assert "which is not set (did you mean 'SHOP_LICENCE'?)" in capsys.readouterr().err


def test_the_target_may_come_from_the_environment_which_no_list_of_processes_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHAOSLAB_TARGET", f"http://me:{PASSWORD}@127.0.0.1:9")
    assert chaoslab("run", "--scenario", "Control (no fault)", "--dry-run") == 0
    assert "nothing is done to http://127.0.0.1:9" in capsys.readouterr().out

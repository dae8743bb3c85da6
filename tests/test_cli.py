"""The command line: every mistake is one sentence and the right exit code, and nothing is injected by mistake."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jsonschema
import pytest
import yaml

from chaoslab import share, store
from chaoslab.cli import main
from chaoslab.journal import Journal
from tests.journals import disown
from tests.test_journal import touching

NOBODY = "http://127.0.0.1:9"


def chaoslab(*arguments: str) -> int:
    """Run the command line in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


class Sick(BaseHTTPRequestHandler):
    """A service that answers, and is never healthy."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sick() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Sick) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


NAMES = (
    *("demo", "run", "report", "validate", "compare", "baseline", "plan", "trends", "watch", "batch", "export", "ci"),
    *("import", "scenarios", "trust", "doctor", "recover", "completion", "notebooks"),
)


def test_help_names_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab("--help") == 0
    text = capsys.readouterr().out
    for name in NAMES:
        assert f"  {name} " in text
    assert "130, 143, 129" in " ".join(text.split())


@pytest.mark.parametrize("command", sorted({*NAMES} - {"baseline"}))  # a group, whose commands have it
def test_every_command_has_help_and_verbose(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab(command, "--help") == 0
    assert "--verbose" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "--target", NOBODY, "--scenario", "Control (no fault)"], 2, "does not answer: connection refused"),
        (["run", "--target", "nonsense", "--scenario", "Control (no fault)"], 2, "is not accepted"),
        (["run", "--target", NOBODY, "--scenario", "Ligth CPU Stress"], 2, "did you mean 'Light CPU Stress'"),
        (["run", "--target", NOBODY, "--suite", "smoke"], 2, "did you mean 'smoke_test'"),
        (["run", "--target", NOBODY, "--environment", "prod"], 2, "did you mean 'production'"),
        (["run", "--target", NOBODY, "--config", "/nonexistent.yml"], 2, "cannot be read: No such file"),
        (["run", "--target", NOBODY, "--repeats", "0"], 2, "--repeats is 0"),
        (["run", "--target", NOBODY, "--probe-rate", "0"], 2, "--probe-rate is 0"),
        (["run", "--target", NOBODY, "--intensity", "extreme"], 2, "light"),
        (["run", "--target", "http://192.0.2.1", "--suite", "smoke_test"], 4, "memory_stress would hit this machine"),
        (["run", "--target", NOBODY, "--scenario", "Application Container Restart"], 4, "has not published"),
        (["run", "--target", "http://192.0.2.1", "--scenario", "Light CPU Stress"], 4, "is another one"),
        (
            ["run", "--target", NOBODY, "--environment", "production", "--scenario", "Database Brief Outage"],
            2,
            "not allowed in the environment production",
        ),
        (["report", "/nonexistent"], 2, "is not a campaign folder"),
        (["validate", "/nonexistent"], 2, "is not a campaign folder"),
        (["demo", "--build", "solid"], 2, "fragile"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_right_exit_code(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = ["--output", str(tmp_path / "campaign")] if arguments[0] == "run" else []
    assert chaoslab(*arguments, *output) == code
    printed = capsys.readouterr().err
    assert words in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "campaign").exists()


def test_an_output_folder_that_holds_a_campaign_is_never_touched(
    sick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / store.CAMPAIGN_FILE).write_text("precious")
    arguments = ["run", "--target", sick, "--scenario", "Control (no fault)", "--output", str(tmp_path)]
    assert chaoslab(*arguments) == 2
    assert "already holds a campaign" in capsys.readouterr().err
    assert (tmp_path / store.CAMPAIGN_FILE).read_text() == "precious"


def test_a_port_that_is_taken_is_one_sentence(sick: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab("demo", "--serve", "--port", sick.rsplit(":", 1)[1]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert sick.rsplit(":", 1)[1] in printed


def test_nothing_is_injected_into_a_target_that_is_not_healthy(
    sick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "campaign"
    run = ["run", "--target", sick, "--scenario", "Light CPU Stress", "--repeats", "1", "--duration-scale", "0.05"]
    assert chaoslab(*run, "--output", str(folder), "--fail-on-violation") == 3
    assert "100% of the baseline's probes failed" in " ".join(capsys.readouterr().out.split())
    (recorded,) = store.Campaign.open(folder).runs
    assert recorded.injection_us is None
    assert chaoslab("validate", str(folder)) == 0
    assert chaoslab("validate", str(folder), "--fail-on-violation") == 3


def test_a_dry_run_prints_the_commands_and_changes_nothing(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rehearsal"
    run = ["run", "--target", NOBODY, "--scenario", "Light CPU Stress", "--repeats", "1", "--dry-run"]
    assert chaoslab(*run, "--output", str(folder)) == 0
    printed = capsys.readouterr().out
    assert "DRY RUN" in printed
    assert "do        " in printed
    assert "undo      " in printed
    assert not [path for path in state.rglob("*") if path.is_file()]
    assert chaoslab("validate", str(folder)) == 2
    assert "is a dry run" in capsys.readouterr().err
    assert chaoslab("report", str(folder)) == 0
    page = (folder / "report.html").read_text()
    assert "Nothing was measured" in page
    assert "stress" in page
    assert not {"report.ipynb", "chaos_results.json"} & {file.name for file in folder.iterdir()}


def test_an_output_folder_that_was_open_to_others_is_closed_to_them_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o755)
    run = ["run", "--target", NOBODY, "--scenario", "Light CPU Stress", "--repeats", "1", "--dry-run"]
    assert chaoslab(*run, "--output", str(tmp_path)) == 0
    assert f"{tmp_path} was open to others" in capsys.readouterr().err
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_names_that_a_terminal_would_obey_are_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "f.yml"
    config.write_text('scenarios: [{name: "[/red]\\e[31mA", type: control, duration: 3}]\n')
    assert chaoslab("scenarios", "--config", str(config)) == 0
    assert chaoslab("run", "--target", NOBODY, "--config", str(config), "--dry-run") == 0
    assert chaoslab("run", "--target", NOBODY, "--config", str(config), "--scenario", "B") == 2
    printed = "".join(capsys.readouterr())
    assert printed.count("[/red]") == 5
    assert "\x1b" not in printed


def test_scenarios_lists_checks_and_describes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab("scenarios") == 0
    assert "Database Extended Outage" in capsys.readouterr().out
    assert chaoslab("scenarios", "--schema") == 0
    jsonschema.validate(yaml.safe_load(share.scenario_file().read_text()), json.loads(capsys.readouterr().out))
    assert chaoslab("scenarios", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["scenarios"]) == 19
    bad = tmp_path / "bad.yml"
    bad.write_text("scenarios:\n  - name: A\n    typ: control\n")
    assert chaoslab("scenarios", "--check", str(bad)) == 2
    assert f"{bad}:2: " in capsys.readouterr().err


def test_doctor_says_for_every_type_what_can_be_injected_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab("doctor", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["type"] for row in rows} >= {"control", "cpu_stress", "container_crash", "database_outage"}
    assert next(row for row in rows if row["mechanism"] == "python workers")["usable"]
    assert all(row["usable"] or row["reason"] for row in rows)


def leftover(path: Path, undo: tuple[str, ...] | None = None) -> Journal:
    """A journal whose owner is dead, with one step still open."""
    journal = Journal.create(f"dead-{path.name}")
    journal.intend("r", touching(path, undo_argv=undo))
    disown(journal)
    path.touch()
    return journal


def test_recover_shows_and_then_reverts_what_a_dead_process_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = tmp_path / "left"
    journal = leftover(left)
    assert chaoslab("recover", "--list") == 0
    assert left.exists()
    assert chaoslab("scenarios") == 0
    captured = capsys.readouterr()
    assert "left something behind (file left): run `chaoslab recover`" in captured.err
    assert chaoslab("recover") == 0
    assert not left.exists()
    assert not journal.path.exists()
    assert chaoslab("recover") == 0
    assert "nothing is left behind" in capsys.readouterr().out


def test_recover_says_what_it_could_not_revert_and_how_to_do_it_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leftover(tmp_path / "stuck", undo=("false", "--by-hand"))
    leftover(tmp_path / "easy")
    assert chaoslab("recover") == 6
    assert "    false --by-hand" in capsys.readouterr().err
    assert not (tmp_path / "easy").exists()


def test_the_program_is_installed_as_a_command_and_as_a_module() -> None:
    for argv in ([str(Path(sys.executable).with_name("chaoslab"))], [sys.executable, "-m", "chaoslab"]):
        shown = subprocess.run([*argv, "--version"], capture_output=True, text=True)
        assert shown.returncode == 0
        assert "chaoslab" in shown.stdout


@pytest.mark.parametrize(
    ("safety", "words"),
    [
        ("{allowed_targets: ['*.staging.example.com', '127.0.0.1:8080']}", "is not among safety.allowed_targets"),
        ("{abort_conditions: {probe: {command: ['true']}}}", "give --allow-commands"),
    ],
)
def test_what_the_files_safety_settings_do_not_allow_is_refused(
    safety: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "f.yml"
    config.write_text(f"scenarios: [{{name: A, type: control, duration: 3}}]\nsafety: {safety}\n")
    assert chaoslab("run", "--target", NOBODY, "--config", str(config), "--dry-run") == 2
    assert words in capsys.readouterr().err

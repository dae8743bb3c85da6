"""A dry run changes nothing: not the machine, not the target, not the state folder; and nothing takes it for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaoslab.cli import main
from tests.conform import IN_A_NAMESPACE
from tests.dry_run import changes
from tests.faults.trials import HERE, NAMESPACED
from tests.test_cli import NOBODY, chaoslab, leftover


@pytest.mark.parametrize("name", HERE)
def test_a_rehearsal_changes_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", os.environ.get("TMPDIR", "/tmp"))  # put back what `changes` sets
    assert changes(name, tmp_path / "work") == ""


def test_nor_does_that_of_what_would_change_the_network(tmp_path: Path) -> None:
    argv = [*IN_A_NAMESPACE, sys.executable, "-m", "tests.dry_run", str(tmp_path), *NAMESPACED]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == dict.fromkeys(NAMESPACED, "")


REHEARSAL = ["run", "--target", NOBODY, "--scenario", "Light CPU Stress", "--repeats", "1", "--dry-run"]


def test_the_state_folder_need_not_be_there_and_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHAOSLAB_STATE_DIR", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    assert chaoslab(*REHEARSAL) == 0
    assert list(tmp_path.iterdir()) == []
    assert "undo      " in capsys.readouterr().out


def test_what_a_dead_process_left_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = leftover(tmp_path / "left")
    before = journal.path.read_bytes()
    assert chaoslab(*REHEARSAL) == 0
    assert "left something behind" in capsys.readouterr().err
    assert journal.path.read_bytes() == before


@pytest.mark.parametrize("command", [["validate"], ["validate", "--json"], ["run", "--resume"]])
def test_no_command_takes_its_folder_for_a_campaigns(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rehearsal"
    assert chaoslab(*REHEARSAL, "--output", str(folder)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["rehearsal"]
    files = {path: path.read_bytes() for path in folder.rglob("*")}
    with pytest.raises(SystemExit) as ended:
        main([*command, str(folder)])
    assert ended.value.code == 2
    assert "is a dry run" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*")} == files

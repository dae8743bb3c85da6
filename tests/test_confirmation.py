"""What could hurt needs a word: --yes, or in a terminal the target's own name; and production only what it allows."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from chaoslab import targets
from chaoslab.targets import Target

COMMANDS = "{stop_command: [a], start_command: [b], check_command: [c]}"
NOBODY = "http://user:secret@127.0.0.1:9"

FILE = """
scenarios:
  - {name: A, type: control, duration: 3}
  - {name: B, type: database_outage, duration: 3, parameters: COMMANDS}
environments:
  production: {allowed_scenarios: ALLOWED}
safety: {require_confirmation: CONFIRMED}
"""


def chaoslab(
    folder: Path, *options: str, typed: str | None = None, confirmed: str = "[control]", allowed: str = "[A]"
) -> str:
    """Run the program in a terminal in which somebody types, or in none; return what it prints."""
    config = folder / "f.yml"
    config.write_text(FILE.replace("COMMANDS", COMMANDS).replace("CONFIRMED", confirmed).replace("ALLOWED", allowed))
    argv = [sys.executable, "-m", "chaoslab", "run", "--target", NOBODY, "--config", str(config), *options]
    if typed is None:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr
    master, terminal = pty.openpty()
    with subprocess.Popen(argv, stdin=terminal, stderr=subprocess.PIPE, text=True) as process:
        os.write(master, f"{typed}\n".encode())
        _, printed = process.communicate(timeout=60)
    os.close(terminal)
    os.close(master)
    assert process.returncode == 2
    return printed


GOES_ON = "does not answer: connection refused"
STOPS = "A need a confirmation here: give --yes"


@pytest.mark.parametrize(
    ("typed", "words"), [("127.0.0.1:9", GOES_ON), ("127.0.0.1", STOPS), ("yes", STOPS), ("", STOPS), (None, STOPS)]
)
def test_a_confirmation_is_the_targets_host_and_port(typed: str | None, words: str, tmp_path: Path) -> None:
    printed = chaoslab(tmp_path, "--scenario", "A", typed=typed)
    assert words in printed
    assert "secret" not in printed


@pytest.mark.parametrize(("typed", "words"), [("the shop", GOES_ON), ("127.0.0.1:9", STOPS)])
def test_a_target_that_has_published_its_name_is_confirmed_by_that(typed: str, words: str, tmp_path: Path) -> None:
    targets.publish(Target(url="http://127.0.0.1:9", name="the shop", build="", pid_file="/nonexistent"))
    printed = chaoslab(tmp_path, "--scenario", "A", typed=typed)
    assert "(the shop)" in printed
    assert words in printed


def test_yes_needs_nobody_to_type(tmp_path: Path) -> None:
    assert GOES_ON in chaoslab(tmp_path, "--scenario", "A", "--yes")


def test_a_confirmation_is_asked_only_of_the_types_that_are_named(tmp_path: Path) -> None:
    assert GOES_ON in chaoslab(tmp_path, "--scenario", "A", confirmed="[database_outage]")


def test_production_runs_what_it_allows_and_asks_for_what_is_destructive(tmp_path: Path) -> None:
    production = ("--environment", "production", "--allow-commands")
    assert "allowed: A" in chaoslab(tmp_path, *production, "--scenario", "B", "--yes")
    destructive = chaoslab(tmp_path, *production, "--scenario", "B", confirmed="[]", allowed="[A, B]")
    assert "B need a confirmation here" in destructive
    assert GOES_ON in chaoslab(tmp_path, *production, "--scenario", "A", confirmed="[]")

"""A scenario file runs its commands only when the user says so: on the command line, or once for the file as it is."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from chaoslab import experiment, trust
from chaoslab.errors import NotDelivered, ScenarioFileError, UsageError
from chaoslab.experiment import Request
from chaoslab.scenario_file import load_with_digest, parse
from tests.conftest import missing
from tests.test_cli import NOBODY, chaoslab

CONFIG = """
scenarios: [{name: A, type: control, duration: 3}]
safety: {abort_conditions: {probe: {command: ["sh", "-c", "true", "--password", "hunter22"]}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "scenarios.yml"
    path.write_text(CONFIG)
    return path


def rehearsed(config: Path, *options: str) -> int:
    return chaoslab("run", "--target", NOBODY, "--config", str(config), "--dry-run", *options)


def test_a_file_runs_no_commands_unless_asked_and_the_refusal_names_both_ways(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rehearsed(config) == 2
    refusal = capsys.readouterr().err
    assert "--allow-commands" in refusal
    assert "`chaoslab trust FILE`" in refusal
    assert rehearsed(config, "--allow-commands") == 0


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("database_outage", "{stop_command: ['true'], start_command: ['true'], check_command: ['true']}"),
        ("database_outage", "{cut_port: 1, check_command: ['true']}"),
        ("database_outage", "{data_directory: /x, pg_bin: /tmp, connection: 'host=x'}"),
        ("container_crash", "{process: x, start_command: ['true']}"),
    ],
)
def test_every_command_of_a_fault_needs_it(kind: str, parameters: str, tmp_path: Path) -> None:
    text = f"scenarios: [{{name: A, type: {kind}, duration: 3, parameters: {parameters}}}]"
    file = parse(text)
    request = Request(file=file, source=tmp_path, scenarios=file.scenarios, target=NOBODY, confirmed=True)
    with pytest.raises(NotDelivered, match="only when asked to"):
        experiment.prepare(request)


def test_a_trusted_file_runs_them_until_it_changes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab("trust", str(config)) == 0
    shown = capsys.readouterr().out
    assert "safety.abort_conditions.probe.command: sh -c true --password '***'" in shown
    assert rehearsed(config) == 0
    config.write_text(CONFIG.replace('"true"', '"false"'))
    assert rehearsed(config) == 2
    config.write_text(CONFIG)
    assert rehearsed(config) == 0
    assert chaoslab("trust", "--remove", str(config)) == 0
    assert rehearsed(config) == 2


def test_a_copy_of_a_trusted_file_is_not_trusted_but_a_link_to_it_is(config: Path) -> None:
    assert chaoslab("trust", str(config)) == 0
    copy, link = config.with_name("copy.yml"), config.with_name("link.yml")
    copy.write_bytes(config.read_bytes())
    link.symlink_to(config)
    assert rehearsed(copy) == 2
    assert rehearsed(link) == 0


def test_trust_is_listed_with_whether_it_still_holds(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab("trust", "--list") == 0
    assert "no file is trusted" in capsys.readouterr().out
    chaoslab("trust", str(config))
    config.write_text(CONFIG + "# more\n")
    capsys.readouterr()
    assert chaoslab("trust", "--list") == 0
    assert f"{config}   (changed since" in capsys.readouterr().out
    assert chaoslab("trust", "--list", "--json") == 0
    known = hashlib.sha256(CONFIG.encode()).hexdigest()
    assert json.loads(capsys.readouterr().out) == [{"file": str(config), "sha256": known, "unchanged": False}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "accepted: FILES"),
        (["--list", "x.yml"], "accepted: FILES"),
        (["--list", "--remove"], "accepted: FILES"),
        (["/nonexistent.yml"], "cannot be read"),
        (["--remove", "/nonexistent.yml"], "is not trusted; trusted: none"),
    ],
)
def test_what_trust_refuses(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab("trust", *arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("key", ["trusted: true", "allow_commands: true", "safety: {allow_commands: true}"])
def test_no_file_can_say_of_itself_that_it_is_trusted(key: str) -> None:
    with pytest.raises(ScenarioFileError, match="unknown key"):
        parse(f"scenarios: [{{name: A, type: control, duration: 3}}]\n{key}\n")


def test_the_store_is_its_owners_alone(config: Path) -> None:
    before = os.umask(0)
    try:
        chaoslab("trust", str(config))
    finally:
        os.umask(before)
    assert stat.S_IMODE(trust.store().stat().st_mode) == 0o600
    assert stat.S_IMODE(trust.store().parent.stat().st_mode) == 0o700


def writable(path: Path) -> None:
    path.chmod(0o666)


def writable_folder(path: Path) -> None:
    path.parent.chmod(0o777)


def damaged(path: Path) -> None:
    path.write_text("[]")


def of_somebody_else(path: Path) -> None:
    if os.geteuid() != 0:
        missing("giving a file away takes root: run the tests as root")
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (writable, "others than its owner may write"),
        (writable_folder, "others than its owner may write"),
        (of_somebody_else, "belongs to another user (uid 12345)"),
        (damaged, "holds no trusted files"),
    ],
)
def test_a_store_that_somebody_else_could_have_written_counts_for_nothing_and_that_is_said(
    tamper: Callable[[Path], None], words: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chaoslab("trust", str(config))
    tamper(trust.store())
    assert rehearsed(config) == 2
    assert words in capsys.readouterr().err
    assert chaoslab("trust", str(config)) == 2  # nor is anything added to it


def test_what_is_trusted_is_what_was_read(config: Path) -> None:
    """A file that changes between its reading and the question is known by what was read."""
    chaoslab("trust", str(config))
    harmless = config.read_bytes()
    config.write_text(CONFIG.replace('"true"', '"rm -rf /"'))
    _, read = load_with_digest(config)
    config.write_bytes(harmless)
    assert not trust.allows(config, read)
    assert trust.allows(config, trust.digest(harmless))


def test_python_follows_the_same_rule(config: Path, tmp_path: Path) -> None:
    options = {"target": NOBODY, "config": config, "output": tmp_path / "campaign"}
    with pytest.raises(UsageError, match="chaoslab trust FILE"):
        experiment.run(**options)  # type: ignore[arg-type]
    chaoslab("trust", str(config))
    with pytest.raises(UsageError, match="does not answer"):
        experiment.run(**options)  # type: ignore[arg-type]

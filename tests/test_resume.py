"""An interrupted campaign goes on: what was finished is kept, what was broken is repeated and stays on record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaoslab import store
from tests import servers
from tests.test_processes import until

CONFIG = """
phases: {baseline_seconds: 2, recovery_seconds: 4}
scenarios:
  - {name: Stress, type: memory_stress, duration: 1, parameters: {memory_size: 32MB}}
"""


def chaoslab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "chaoslab", *arguments], capture_output=True, text=True)


def finished(folder: Path) -> int:
    """How many runs have their one file of events."""
    return len(list((folder / "events").glob("*.parquet")))


@dataclass(frozen=True)
class Killed:
    """A campaign of two runs whose second one was killed, with all its processes, while injecting."""

    folder: Path
    config: Path
    target: str


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    folder = tmp_path_factory.mktemp("resume") / "campaign"
    config = folder.with_suffix(".yml")
    config.write_text(CONFIG)
    with servers.running() as service, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAOSLAB_STATE_DIR", str(folder.parent / "state"))
        options = ["--target", service.url("/ok"), "--config", str(config), "--output", str(folder), "--repeats", "2"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([sys.executable, "-m", "chaoslab", "run", *options], **quiet) as process:  # type: ignore[call-overload]
            journal = folder / "journal.jsonl"
            until(lambda: journal.exists() and journal.read_text().count('"verified"') == 2, seconds=60)
            under_way = chaoslab("run", "--resume", str(folder))
            process.kill()
        assert under_way.returncode == 2
        assert "still under way" in under_way.stderr
        until(lambda: not journal.is_symlink(), seconds=5)  # its guardian has undone all, and is gone
        assert finished(folder) == 1
        yield Killed(folder, config, service.url("/ok"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--repeats", "5"], "--repeats cannot be given with --resume"),
        (["--target", "http://127.0.0.1:9/ok"], "--target is http://127.0.0.1:9/ok, but the campaign's is"),
        (["--config", "{other}"], "says something else than the scenario file of the campaign"),
    ],
)
def test_what_is_not_the_campaigns_own_is_refused(killed: Killed, options: list[str], words: str) -> None:
    other = killed.folder.with_name("other.yml")
    other.write_text(CONFIG.replace("duration: 1", "duration: 2"))
    ended = chaoslab("run", "--resume", str(killed.folder), *(option.format(other=other) for option in options))
    assert ended.returncode == 2
    assert words in ended.stderr


def test_the_rest_is_run_and_the_broken_run_stays_on_record(killed: Killed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAOSLAB_STATE_DIR", str(killed.folder.parent / "state"))
    before = (killed.folder / "probes" / "0000-stress-r1.parquet").read_bytes()
    ended = chaoslab("run", "--resume", str(killed.folder))
    assert ended.returncode == 0, ended.stderr
    campaign = store.Campaign.open(killed.folder)
    assert [(run.repeat, str(run.state)) for run in campaign.runs] == [
        (1, "completed"),
        (2, "broken"),
        (3, "completed"),
    ]
    assert (killed.folder / "probes" / "0000-stress-r1.parquet").read_bytes() == before
    assert campaign.runs[2].baseline_us > campaign.runs[1].finished_us
    (scenario,) = json.loads((killed.folder / "chaos_results.json").read_text())["scenarios"]
    assert scenario["usable_runs"] == 2
    (excluded,) = scenario["excluded_runs"]
    assert excluded["state"] == "repeated"
    assert "chaoslab was killed" in excluded["reason"]
    assert "repeated as #3" in excluded["reason"]
    assert (killed.folder / "journal-1.jsonl").exists()

    again = chaoslab("run", "--resume", str(killed.folder))
    assert again.returncode == 2
    assert "nothing left to run" in again.stderr


def test_a_folder_that_is_no_campaign_is_refused(tmp_path: Path) -> None:
    ended = chaoslab("run", "--resume", str(tmp_path))
    assert ended.returncode == 2
    assert "is not a campaign folder" in ended.stderr

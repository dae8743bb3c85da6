"""The cases in which other tools leave a fault behind, or say that all is well: here each ends undone, and says so.

A stand-in for a database in three commands plays the victim: it answers while a file is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaoslab import report, store, targets
from tests import servers
from tests.test_processes import until
from tests.test_runner import Service, service
from tests.test_survival import ours

__all__ = ["service"]  # the fixture

CONFIG = """
scenarios:
  - name: Outage
    type: database_outage
    duration: {duration:g}
    parameters:
      stop_command: {stop}
      start_command: {start}
      check_command: ["test", "-e", "{file}"]
phases: {{baseline_seconds: 2, recovery_seconds: {recovery:g}}}
safety: {{abort_conditions: {{consecutive_failures: 2}}}}
monitoring: {{health_check: {{interval: 0.5}}}}
"""


class Case:
    """A campaign of one outage whose commands are given, on a part of the machine that is its own."""

    def __init__(self, folder: Path, url: str, *, duration: float = 2, recovery: float = 4) -> None:
        self.up, self.folder, self.state, self.url = folder / "up", folder / "campaign", folder / "state", url
        self._duration, self._recovery = duration, recovery
        self.up.touch()

    def configure(self, *, stop: list[str] | None = None, start: list[str] | None = None) -> Path:
        config = self.folder.with_suffix(".yml")
        commands = {"stop": stop or ["rm", "-f", str(self.up)], "start": start or ["touch", str(self.up)]}
        text = {name: json.dumps(argv) for name, argv in commands.items()}
        config.write_text(CONFIG.format(file=self.up, duration=self._duration, recovery=self._recovery, **text))
        return config

    def begin(
        self, *, stop: list[str] | None = None, start: list[str] | None = None, **streams: Any
    ) -> subprocess.Popen[str]:
        config = self.configure(stop=stop, start=start)
        options = ["--target", self.url, "--config", str(config), "--output", str(self.folder), "--allow-commands"]
        argv = [sys.executable, "-m", "chaoslab", "run", *options, "--repeats", "1"]
        environment = os.environ | {targets.STATE_VARIABLE: str(self.state)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        return subprocess.Popen(argv, text=True, env=environment, **pipes)

    def is_undone(self) -> bool:
        """Whether the database is up again, and no process is left."""
        return self.up.exists() and not ours(self.state)


@pytest.fixture
def case(tmp_path: Path, service: Service) -> Case:
    return Case(tmp_path, service.url)


Ended = tuple[Case, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Ended]]:
    """Cases that need nobody to interfere: all under way from the first test on."""
    commands = {
        "inject": {"stop": ["sh", "-c", "echo the lock is held >&2; exit 7"]},
        "undo": {"start": ["sh", "-c", "echo no space >&2; exit 1"]},
    }
    with servers.running() as server:
        cases = {name: Case(tmp_path_factory.mktemp(name), server.url("/ok")) for name in commands}
        under_way = {name: cases[name].begin(**argv) for name, argv in commands.items()}

        def ended(name: str) -> Ended:
            process = under_way[name]
            out, err = process.communicate(timeout=60)
            return cases[name], subprocess.CompletedProcess(process.args, process.returncode, out, err)

        yield ended
        for process in under_way.values():
            process.kill()
            process.communicate()


def test_a_safeguard_that_fires_during_a_blocking_step_cuts_the_step_and_undoes_it(
    case: Case, service: Service
) -> None:
    with case.begin(stop=["sh", "-c", f"rm -f {case.up}; sleep 25"]) as process:
        until(lambda: not case.up.exists(), seconds=30)
        service.sick = True
        began = time.monotonic()
        _, complaint = process.communicate(timeout=20)
    assert time.monotonic() - began < 15
    assert process.returncode == 5
    assert "no probe has succeeded" in complaint
    assert case.is_undone()
    (run,) = store.Campaign.open(case.folder).runs
    assert run.state == "aborted"


def test_a_signal_ends_it_undone_with_its_own_code_even_when_it_comes_again_during_the_undo(case: Case) -> None:
    with case.begin(start=["sh", "-c", f"sleep 0.5; touch {case.up}"]) as process:
        until(lambda: not case.up.exists(), seconds=30)
        process.terminate()
        until(lambda: "undo_started" in (case.folder / "journal.jsonl").read_text(), seconds=10)
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 143
    assert case.is_undone()


def test_a_fault_that_fails_to_inject_is_exit_4(failing: Callable[[str], Ended]) -> None:
    case, ended = failing("inject")
    assert ended.returncode == 4
    assert "the lock is held" in ended.stdout
    assert case.is_undone()


def test_an_undo_that_fails_is_exit_6_with_the_command_and_the_report_opens_with_it(
    failing: Callable[[str], Ended],
) -> None:
    case, ended = failing("undo")
    assert ended.returncode == 6
    assert "no space" in ended.stderr
    assert "sh -c 'echo no space >&2; exit 1'" in ended.stderr
    page = report.render(case.folder).read_text()
    assert page.index("Still broken") < page.index("Was the fault there?")

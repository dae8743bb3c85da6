"""The guardian undoes everything when the runner is gone, and nothing while it works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaoslab.agent import processes
from chaoslab.errors import Aborted
from chaoslab.guardian import Guardian
from chaoslab.journal import Journal, Step
from tests.test_journal import touching
from tests.test_processes import until

RUNNER = """
import sys, time
from pathlib import Path
from chaoslab.guardian import Guardian
from chaoslab.hosts import LocalHost
from chaoslab.journal import Journal, Step
journal = Journal.create("run")
guardian = Guardian(journal)
step = Step(name="stress", do=("sleep", "60"), token=sys.argv[1], deadline=float(sys.argv[2]), holds=True,
            undo=(sys.executable, "-m", "chaoslab.agent.processes", "end", sys.argv[1]))
journal.intend("r", step)
LocalHost().hold(step.do, token=step.token)
print(guardian._process.pid, flush=True)
time.sleep(60)
"""


def start_runner(token: str, deadline: float = 60.0) -> tuple[subprocess.Popen[str], int]:
    argv = [sys.executable, "-c", RUNNER, token, str(deadline)]
    runner = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert runner.stdout is not None
    guardian = int(runner.stdout.readline())
    assert processes.family(token)
    return runner, guardian


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_runner_that_dies_has_its_fault_undone_within_two_seconds(how: int, state: Path) -> None:
    token = f"guard-{os.urandom(4).hex()}"
    runner, guardian = start_runner(token)
    identity = processes.identify(guardian)
    assert identity is not None
    with runner:
        runner.send_signal(how)
        runner.wait()
        killed = time.monotonic()
        until(lambda: not processes.family(token), seconds=2.0)
        assert time.monotonic() - killed < 2.0
        until(lambda: not identity.alive)
    assert not list((state / "journals").iterdir())


def test_signals_do_not_end_the_guardian() -> None:
    token = f"guard-{os.urandom(4).hex()}"
    runner, guardian = start_runner(token)
    with runner:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(guardian, signum)
        runner.kill()
        runner.wait()
        until(lambda: not processes.family(token), seconds=2.0)


def test_a_step_past_its_deadline_is_undone_while_the_runner_hangs() -> None:
    token = f"guard-{os.urandom(4).hex()}"
    runner, _ = start_runner(token, deadline=0.5)
    with runner:
        until(lambda: not processes.family(token), seconds=3.0)
        assert runner.poll() is None
        runner.kill()


def test_a_guardian_that_is_told_that_all_is_done_undoes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.touch()
    journal = Journal.create("j")
    guardian = Guardian(journal)
    journal.intend("r", touching(path))
    guardian.dismiss()
    assert path.exists()


def test_a_killed_guardian_is_noticed() -> None:
    guardian = Guardian(Journal.create("j"))
    guardian.check()
    guardian._process.kill()
    guardian._process.wait()
    with pytest.raises(Aborted, match="guardian"):
        guardian.check()
    guardian.dismiss()


def test_what_a_guardian_cannot_undo_stays_on_record(tmp_path: Path, state: Path) -> None:
    journal = Journal.create("j")
    step = Step(name="stuck", do=("true",), undo=("false",), token="none", deadline=60.0)
    journal.intend("r", step)
    argv = [sys.executable, "-m", "chaoslab.guardian", str(journal.path)]
    ended = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True)
    assert ended.returncode == 6
    assert [found.step for found in journal.open_steps()] == [step]

"""INT, TERM and HUP, at any instant, once or again and again: what was done is undone, and the exit code says which."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.test_processes import until
from tests.test_promises import Case
from tests.test_runner import Service, service

__all__ = ["service"]  # the fixture

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def journal(case: Case) -> str:
    file = case.folder / "journal.jsonl"
    return file.read_text() if file.exists() else ""


def at_the_start(case: Case) -> bool:
    """A journal is open, and nothing else has begun."""
    return bool(list((case.state / "journals").glob("*.jsonl")))


def in_the_baseline(case: Case) -> bool:
    return bool(list((case.folder / "events").rglob("*.parquet")))


def in_the_fault(case: Case) -> bool:
    return "verified" in journal(case)


def in_a_step_that_blocks(case: Case) -> bool:
    return not case.up.exists()


def in_the_undo(case: Case) -> bool:
    return "undo_started" in journal(case)


def while_the_results_are_written(case: Case) -> bool:
    """The journal is closed: it lies in the campaign's folder, and is no link any more."""
    file = case.folder / "journal.jsonl"
    return file.exists() and not file.is_symlink()


Moment = Callable[[Case], bool]
MOMENTS: tuple[tuple[Moment, float], ...] = (
    (at_the_start, 20),
    (in_the_baseline, 20),
    (in_the_fault, 20),
    (in_a_step_that_blocks, 20),
    (in_the_undo, 0.5),
    (while_the_results_are_written, 0.5),
)


@pytest.mark.parametrize(("moment", "duration"), MOMENTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_signal_at_any_moment_ends_it_undone_with_its_own_code(
    moment: Moment, duration: float, tmp_path: Path, service: Service
) -> None:
    """One campaign for each signal, side by side: most of their time they wait."""

    def end(signum: signal.Signals) -> None:
        (folder := tmp_path / signum.name).mkdir()
        case = Case(folder, service.url, duration=duration, recovery=1)
        blocks = {"stop": ["sh", "-c", f"rm -f {case.up}; sleep 25"]} if moment is in_a_step_that_blocks else {}
        with case.begin(**blocks, start=["sh", "-c", f"sleep 0.3; touch {case.up}"]) as process:
            until(lambda: moment(case), seconds=60)
            again_and_again(process, signum)
            _, complaint = process.communicate(timeout=30)
        assert process.returncode == CODES[signum], complaint
        assert f"interrupted by {signum.name}; everything was reverted" in complaint
        assert "Traceback" not in complaint
        assert case.is_undone()
        assert not list((case.state / "journals").iterdir())

    with ThreadPoolExecutor(len(CODES)) as pool:
        for ended in [pool.submit(end, signum) for signum in CODES]:
            ended.result()


def again_and_again(process: subprocess.Popen[str], first: signal.Signals) -> None:
    """Send a signal, then others, while the process cleans up after the first: they must not disturb it."""
    process.send_signal(first)
    for signum in (first, signal.SIGTERM, signal.SIGINT):
        time.sleep(0.1)
        process.send_signal(signum)


def test_a_hangup_that_nohup_ignores_is_ignored(tmp_path: Path, service: Service) -> None:
    case = Case(tmp_path, service.url, duration=0.5, recovery=1)
    with case.begin(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        for moment in (in_the_baseline, in_the_undo, while_the_results_are_written):
            until(lambda: moment(case), seconds=60)  # noqa: B023 - called at once
            process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
    assert process.returncode == 0

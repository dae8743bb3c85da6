"""However the tool comes to its end, what it did is undone within two seconds: nobody has to know how it died.

A stand-in for a database in three commands is the victim, as in `test_promises`: it answers while a file is there.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from chaoslab import store, targets
from chaoslab.cli import main
from tests.test_processes import until
from tests.test_promises import Case
from tests.test_runner import Service, service
from tests.test_survival import ours

__all__ = ["service"]  # the fixture

LIMIT = 2.0


@pytest.fixture
def case(tmp_path: Path, service: Service) -> Case:
    return Case(tmp_path, service.url, duration=30)


def undone_after(case: Case, *others: int) -> float:
    """The seconds until the victim is back and no process is left but those `others`."""
    began = time.monotonic()
    until(lambda: case.up.exists() and not [one for one in ours(case.state) if one.pid not in others], seconds=10)
    return time.monotonic() - began


def injected(case: Case) -> None:
    until(lambda: not case.up.exists(), seconds=30)


def member(case: Case, words: str) -> psutil.Process:
    """The one process of the campaign whose command line holds `words`."""
    (found,) = [one for one in ours(case.state) if words in " ".join(one.cmdline())]
    return found


# The command line.


def test_a_terminal_that_is_closed_is_a_hangup_undone_with_exit_129(case: Case) -> None:
    master, terminal = pty.openpty()
    with case.begin(stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=lambda: own(terminal)) as process:
        os.close(terminal)
        while case.up.exists():
            os.read(master, 4096)  # a terminal that nobody reads makes its writers wait
        os.close(master)
        assert undone_after(case, process.pid) < LIMIT  # which still writes its results
        assert process.wait(timeout=20) == 129
    (run,) = store.Campaign.open(case.folder).runs
    assert run.state == "aborted"


def own(terminal: int) -> None:
    """Make this process the leader of a session whose terminal it is, as a login shell is."""
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def test_the_tool_killed_is_undone_by_the_guardian(case: Case) -> None:
    with case.begin() as process:
        injected(case)
        process.kill()
        assert undone_after(case) < LIMIT


def test_the_guardian_killed_is_noticed_within_a_second_undone_and_exit_5(case: Case) -> None:
    with case.begin() as process:
        injected(case)
        member(case, "chaoslab.guardian").kill()
        killed = time.monotonic()
        until(lambda: case.up.exists(), seconds=10)
        assert time.monotonic() - killed < LIMIT
        _, complaint = process.communicate(timeout=20)
    assert process.returncode == 5
    assert "the guardian process was killed; everything was reverted" in complaint
    noticed_us = next(
        int(event["at_us"])
        for event in store.Campaign.open(case.folder).events.to_dict("records")
        if event["event"] == "aborted"
    )
    anchor_ns = store.Campaign.open(case.folder).meta["anchor"]["monotonic_ns"]
    assert anchor_ns / 1e9 + noticed_us / 1e6 - killed < 1.0


# Commands with what they need to get as far as they can; each of them must speak of what is left.
COMMANDS = {
    "run": ["run", "--target", "http://127.0.0.1:9", "--scenario", "Control (no fault)"],
    "dry run": ["run", "--target", "http://127.0.0.1:9", "--scenario", "Control (no fault)", "--dry-run"],
    "demo": ["demo", "--build", "solid"],
    "report": ["report", "/nonexistent"],
    "validate": ["validate", "/nonexistent", "--json"],
    "scenarios": ["scenarios", "--json"],
    "doctor": ["doctor", "--json"],
}


def test_both_killed_at_once_leaves_what_the_next_command_of_any_kind_names(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with case.begin() as process:
        injected(case)
        for one in (member(case, "chaoslab.guardian"), psutil.Process(process.pid)):
            one.kill()
        process.communicate()
    monkeypatch.setenv(targets.STATE_VARIABLE, str(case.state))
    until(lambda: not ours(case.state))  # the prober and the sampler end by themselves
    words = "a dead process left something behind (outage of the database): run `chaoslab recover`"
    for name, argv in COMMANDS.items():
        quit_with(argv)
        printed = capsys.readouterr()
        assert words in printed.err, name
        assert words not in printed.out, name
    for argv in (["--help"], ["run", "--help"], ["recover", "--list"]):
        assert quit_with(argv) == 0
        assert words not in capsys.readouterr().err
    assert not case.up.exists()
    assert quit_with(["recover"]) == 0
    assert case.up.exists()
    quit_with(["scenarios"])
    assert words not in capsys.readouterr().err


def quit_with(argv: list[str]) -> object:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    return ended.value.code


# A notebook.


@pytest.fixture
def kernel(case: Case, monkeypatch: pytest.MonkeyPatch) -> Iterator[KernelManager]:
    """A kernel of its own in which a campaign holds its fault."""
    monkeypatch.setenv(targets.STATE_VARIABLE, str(case.state))
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(case.folder.parent), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    config = case.configure()
    client.execute(
        "import chaoslab\n"
        f"chaoslab.run(target={case.url!r}, config={str(config)!r}, scenarios=['Outage'], repeats=1,"
        f" output={str(case.folder)!r}, allow_commands=True)"
    )
    injected(case)
    yield manager
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def pid_of(manager: KernelManager) -> int:
    """The kernel's process."""
    assert manager.provisioner is not None
    pid = manager.provisioner.pid  # type: ignore[attr-defined]
    assert isinstance(pid, int)
    return pid


def interrupted(manager: KernelManager) -> None:
    manager.interrupt_kernel()


def restarted(manager: KernelManager) -> None:
    manager.restart_kernel(now=True)


def crashed(manager: KernelManager) -> None:
    os.kill(pid_of(manager), signal.SIGKILL)


@pytest.mark.parametrize("end", [interrupted, restarted, crashed])
def test_a_kernel_that_ends_in_the_middle_of_a_cell_leaves_nothing(
    end: Callable[[KernelManager], None], kernel: KernelManager, case: Case
) -> None:
    first = pid_of(kernel)
    end(kernel)
    began = time.monotonic()
    until(case.up.exists, seconds=10)
    assert time.monotonic() - began < LIMIT
    assert undone_after(case, first, pid_of(kernel)) < LIMIT

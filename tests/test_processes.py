"""Processes of our own are found by their token and ended, and only they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from chaoslab.agent import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
# A family like stress-ng's: the leader's child wipes its own environment, so that only the session shows it.
FAMILY = """
import os, sys, time
if os.fork() == 0:
    os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"], {})
time.sleep(60)
"""


def until(condition: Callable[[], bool], seconds: float = 5.0, show: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come about within {seconds:g} s: {show()}"
        time.sleep(0.01)


@pytest.fixture
def token() -> Iterator[str]:
    name = f"test-{os.urandom(6).hex()}"
    yield name
    assert not processes.end_family(name)


def test_a_family_is_found_whole_even_where_a_member_has_no_token_left(token: str) -> None:
    leader = processes.spawn([sys.executable, "-c", FAMILY], token=token)
    until(lambda: len(processes.family(token)) == 2)
    assert leader.pid in {member.pid for member in processes.family(token)}
    assert not processes.end_family(token)
    leader.wait()
    assert not processes.family(token)


def test_a_process_that_ignores_term_is_killed(token: str) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    stubborn = processes.spawn([sys.executable, "-c", code], token=token, stdout=subprocess.PIPE)
    with stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        assert not processes.end_family(token)
        assert stubborn.wait() == -signal.SIGKILL


def test_a_stopped_process_is_ended_too(token: str) -> None:
    stopped = processes.spawn(SLEEP, token=token)
    os.kill(stopped.pid, signal.SIGSTOP)
    assert not processes.end_family(token)
    stopped.wait()


def test_a_reused_pid_is_not_taken_for_the_process_that_had_it() -> None:
    with subprocess.Popen(SLEEP) as stranger:
        true = processes.identify(stranger.pid)
        assert true is not None
        impostor = processes.Identity(stranger.pid, true.start_ticks - 1)
        assert not impostor.alive
        assert not impostor.send(signal.SIGKILL)
        assert true.alive
        assert true.send(signal.SIGKILL)


def test_a_zombie_counts_as_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    identity = processes.identify(child.pid)
    assert identity is not None
    until(lambda: not identity.alive)
    child.wait()


def test_a_token_that_nobody_carries_has_no_family_and_ending_it_is_no_error() -> None:
    assert processes.family("nobody") == frozenset()
    assert processes._main(["end", "nobody"]) == 0


def test_usage_counts_the_cpu_that_a_family_takes(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    busy = processes.spawn([sys.executable, "-c", "while True: pass"], token=token)
    until(lambda: processes.usage(token)["cpu_seconds"] > 0.2)
    used = processes.usage(token)
    assert used["processes"] == 1
    assert used["runnable_seconds"] >= used["cpu_seconds"]
    assert used["anonymous_bytes"] > 1_000_000
    processes.end_family(token)
    busy.wait()


def test_a_child_dies_with_its_parent(token: str) -> None:
    code = (
        "import os, time\nfrom chaoslab.agent.processes import die_with_parent\n"
        "child = os.fork()\n"
        "if child == 0:\n    die_with_parent(); print(os.getpid(), flush=True)\ntime.sleep(60)"
    )
    with processes.spawn([sys.executable, "-c", code], token=token, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = processes.identify(int(parent.stdout.readline()))
        assert child is not None
        parent.kill()
        until(lambda: not child.alive)

"""memory_stress: the bytes are really resident, kept while the fault lasts, and free afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from chaoslab.agent import processes
from chaoslab.faults import Mechanism, choose, failure_types
from chaoslab.faults.memory_stress import StressNg
from tests.faults.kit import deliver, do, scenario, surroundings, wait_for_effect


@pytest.fixture(params=failure_types()["memory_stress"].mechanisms, ids=lambda mechanism: mechanism.name)
def mechanism(request: pytest.FixtureRequest, need: Callable[[str, str], None]) -> Mechanism:
    if isinstance(request.param, StressNg):
        need("stress-ng", "apt-get install stress-ng")
    assert isinstance(request.param, Mechanism)
    return request.param


def test_the_memory_that_was_asked_is_held_within_five_percent(mechanism: Mechanism) -> None:
    (dose,) = deliver(mechanism, scenario("memory_stress", memory_size="256M"), surroundings(), seconds=0.5)
    assert dose.asked == 256
    assert dose.delivered == pytest.approx(256, rel=0.05)
    assert dose.ok


def test_the_worker_that_holds_memory_is_the_first_that_the_kernel_would_kill(mechanism: Mechanism) -> None:
    asked = scenario("memory_stress", memory_size="64M")
    injection = mechanism.inject(asked, surroundings(), seconds=5, token="memory-victim")
    do(injection.steps[0])
    wait_for_effect(injection)
    scores = [Path(f"/proc/{member.pid}/oom_score_adj").read_text() for member in processes.family("memory-victim")]
    assert not processes.end_family("memory-victim")
    assert max(map(int, scores)) == 1000


def test_more_than_the_machine_can_give_is_refused_before_anything_is_touched(mechanism: Mechanism) -> None:
    asked = scenario("memory_stress", memory_size=psutil.virtual_memory().total)
    assert "must stay" in str(mechanism.obstacle(asked, surroundings()))


def test_without_stress_ng_our_own_worker_is_chosen_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert choose(scenario("memory_stress", memory_size="64M"), surroundings()).name == "python worker"

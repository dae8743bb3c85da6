"""cpu_stress: the cores are really busy, by either mechanism, and free again afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from chaoslab.agent import processes
from chaoslab.faults import Mechanism, choose, failure_types
from chaoslab.faults.cpu_stress import OwnWorkers, StressNg
from tests.faults.kit import deliver, do, scenario, surroundings, wait_for_effect
from tests.test_processes import until


@pytest.fixture(params=failure_types()["cpu_stress"].mechanisms, ids=lambda mechanism: mechanism.name)
def mechanism(request: pytest.FixtureRequest, need: Callable[[str, str], None]) -> Mechanism:
    if isinstance(request.param, StressNg):
        need("stress-ng", "apt-get install stress-ng")
    assert isinstance(request.param, Mechanism)
    return request.param


def test_the_demand_that_was_asked_is_delivered_and_measured(mechanism: Mechanism) -> None:
    demand, busy = deliver(mechanism, scenario("cpu_stress", cpu_workers=2), surroundings())
    assert demand.asked == 2
    assert demand.delivered == pytest.approx(2, rel=0.1)
    assert demand.ok
    assert busy.delivered is not None
    assert 0 < busy.delivered <= (os.cpu_count() or 1) * 1.1


def test_more_workers_than_cores_are_measured_as_demand_not_as_cores(mechanism: Mechanism) -> None:
    cores = os.cpu_count() or 1
    demand, busy = deliver(mechanism, scenario("cpu_stress", cpu_workers=cores + 2), surroundings())
    assert demand.delivered == pytest.approx(cores + 2, rel=0.1)
    assert busy.asked == cores


def test_a_partial_load_is_partial(mechanism: Mechanism) -> None:
    demand, busy = deliver(mechanism, scenario("cpu_stress", cpu_workers=1, cpu_load=40), surroundings(), seconds=2.0)
    # It may have to wait for its core, which is demand too; it never takes more of it than it was asked to.
    assert demand.delivered is not None
    assert busy.delivered is not None
    assert demand.delivered >= 0.36
    assert busy.delivered <= 0.46


def test_the_workers_end_by_themselves_when_everyone_who_could_end_them_is_dead() -> None:
    step = OwnWorkers().inject(scenario("cpu_stress", cpu_workers=1), surroundings(), seconds=1, token="alone").steps[0]
    processes.spawn([*step.do[:-1], "0.3"], token="alone").wait(timeout=5)
    assert not processes.family("alone")


def test_killing_the_leader_takes_the_workers_along(mechanism: Mechanism) -> None:
    token = f"kit-{os.urandom(4).hex()}"
    injection = mechanism.inject(scenario("cpu_stress", cpu_workers=2), surroundings(), seconds=5, token=token)
    do(injection.steps[0])
    wait_for_effect(injection)
    leader = min(processes.family(token))
    leader.send(9)
    until(lambda: not processes.family(token), seconds=2.0)


def test_stress_here_is_refused_when_the_target_is_elsewhere(mechanism: Mechanism) -> None:
    obstacle = mechanism.obstacle(scenario("cpu_stress", cpu_workers=1), surroundings(local=False))
    assert "another" in str(obstacle)


def test_without_stress_ng_our_own_workers_are_chosen_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert choose(scenario("cpu_stress", cpu_workers=1), surroundings()).name == "python workers"

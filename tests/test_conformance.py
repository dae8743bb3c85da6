"""Every mechanism keeps what every mechanism must keep: the kit takes each through all of it."""

from __future__ import annotations

import pytest

from chaoslab.conformance import NotConforming, Trial, conform
from chaoslab.faults import failure_types
from chaoslab.faults.database_outage import Commands
from chaoslab.scenario import Scenario
from tests.faults.conftest import image, namespace
from tests.faults.kit import scenario, surroundings
from tests.faults.trials import ELSEWHERE, HERE, NAMESPACED, TRIALS

__all__ = ["image", "namespace"]  # the fixtures


@pytest.mark.parametrize("name", HERE)
def test_a_mechanism_keeps_its_promises(name: str, image: str) -> None:
    with HERE[name]() as trial:
        conform(trial)


@pytest.mark.parametrize("name", NAMESPACED)
def test_a_mechanism_that_changes_the_network_keeps_its_promises(name: str, namespace: None) -> None:
    with NAMESPACED[name]() as trial:
        conform(trial)


def test_no_mechanism_goes_untried() -> None:
    tried = {name.partition(",")[0] for name in TRIALS}
    untried = [
        f"{kind} by {mechanism.name}"
        for kind, fault in failure_types().items()
        for mechanism in fault.mechanisms
        if mechanism.name not in ELSEWHERE
        and kind != "control"
        and f"{kind} by {mechanism.name}".partition(",")[0] not in tried
    ]
    assert untried == []


def broken(**commands: list[str]) -> Trial:
    whole = {"stop_command": ["true"], "start_command": ["true"], "check_command": ["false"]}
    asked: Scenario = scenario("database_outage", **(whole | commands))
    return Trial(mechanism=Commands(), asked=asked, where=surroundings(allow_commands=True), seconds=0.1)


def test_the_kit_finds_a_mechanism_that_delivers_nothing() -> None:
    with pytest.raises(NotConforming, match="the dose was not delivered"):
        conform(broken(check_command=["sh", "-c", "exit 1"]))

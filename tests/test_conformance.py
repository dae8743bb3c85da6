"""Every mechanism keeps what every mechanism must keep: the kit takes each through all of it."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping

import pytest

from chaoslab.conformance import NotConforming, conform
from chaoslab.faults import failure_types
from tests import machines
from tests.conform import start
from tests.conftest import missing
from tests.faults.trials import ELSEWHERE, HERE, NAMESPACED, TRIALS

NEEDED = {"stress-ng": "stress-ng", "nft": "nftables", "iptables": "iptables", "ip": "iproute2"}


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What each mechanism does not keep, or an empty string."""
    machines.make_image()
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAOSLAB_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        under_way = [start(HERE, namespaced=False), start(NAMESPACED, namespaced=True)]
    found: dict[str, str] = {}
    for process in under_way:
        with process:
            out, err = process.communicate(timeout=280)
        assert process.returncode == 0, err
        found |= json.loads(out)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TRIALS)
def test_a_mechanism_keeps_its_promises(name: str, need: Callable[[str, str], None], problems: dict[str, str]) -> None:
    for program, package in NEEDED.items():
        need(program, f"apt-get install {package}")
    assert problems[name] == ""


def test_no_mechanism_goes_untried() -> None:
    tried = {name.partition(",")[0] for name in TRIALS}
    there = {
        f"{kind} by {mechanism.name.partition(',')[0]}"
        for kind, fault in failure_types().items()
        for mechanism in fault.mechanisms
        if mechanism.name not in ELSEWHERE
    }
    assert there - tried == {"control by no fault"}


def test_the_kit_finds_a_machine_that_is_not_as_before() -> None:
    with HERE["database_outage by commands of the scenario"]() as trial:
        changing = itertools.count()
        with pytest.raises(NotConforming, match="the machine was 0 before and is 1 afterwards"):
            conform(
                type(trial)(mechanism=trial.mechanism, asked=trial.asked, where=trial.where, state=changing.__next__)
            )

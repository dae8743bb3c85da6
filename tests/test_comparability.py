"""Numbers that do not mean the same are not compared; what else differs is said."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from chaoslab.comparison import comparability, compare
from chaoslab.errors import UsageError
from tests.campaigns import make_campaign, make_run


@pytest.fixture
def meta(tmp_path: Path) -> dict[str, Any]:
    found = dict(make_campaign(tmp_path / "one", [make_run()]).meta)
    found["scenarios"][0] |= {"phases": {"baseline": 5.0, "injection": 10.0, "recovery": 5.0}}
    return found


def other(meta: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Another campaign in which the key at `path` is `value`."""
    changed = copy.deepcopy(meta) | {"campaign": "other"}
    *way, last = path.split("/")
    place: Any = changed
    for key in way:
        place = place[int(key) if key.isdigit() else key]
    place[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("schema_version", 0, "schema version was 1, is 0"),
        ("required_health_checks", 5, "required health checks was 3, is 5"),
        ("probe/rate_hz", 20.0, "probe rate (per second) was 10, is 20"),
        ("probe/timeout_seconds", 5.0, "probe time-out (s) was 2, is 5"),
        ("probe/url", "http://127.0.0.1:8080/other", "probed path was /api/health, is /other"),
        ("scenarios/0/duration", 30.0, "Light CPU Stress: duration was 10, is 30"),
        ("scenarios/0/mechanism", "stress-ng", "mechanism was python workers, is stress-ng"),
        ("scenarios/0/type", "memory_stress", "type was cpu_stress, is memory_stress"),
        ("scenarios/0/parameters/cpu_workers", 4, "parameters.cpu_workers was 2, is 4"),
        (
            "scenarios/0/phases",
            {"baseline": 5.0, "injection": 30.0, "recovery": 5.0},
            "phases was baseline 5, injection 10 and recovery 5, is baseline 5, injection 30 and recovery 5",
        ),
        ("scenarios/0/faults", [{"name": "a", "type": "cpu_stress"}], "a: type was not given, is cpu_stress"),
    ],
)
def test_what_gives_numbers_another_meaning_is_refused(meta: dict[str, Any], path: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError) as error:
        comparability.refuse(meta, other(meta, path, value), ["Light CPU Stress"])
    assert said in str(error.value)
    assert "record a new baseline" in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("target_build", "v2", "Build was not given, is v2."),
        ("environment", "staging", "Environment was not given, is staging."),
        ("host/cpus", 8, "CPUs of the measuring host was 4, is 8."),
        ("host/system", "Other", "System of the measuring host was Linux, is Other."),
        ("versions/chaoslab", "9", "Chaoslab was 0.1.0, is 9."),
        ("target", "http://shop-2:8080", "Address of the target was http://127.0.0.1:8080, is http://shop-2:8080."),
        ("status", "stopped", "The candidate did not finish (stopped): only its usable runs are compared."),
        ("slos", [], "The objectives differ; those of the candidate say which metrics the gate looks at."),
    ],
)
def test_what_may_have_caused_a_change_is_marked(meta: dict[str, Any], path: str, value: Any, said: str) -> None:
    changed = other(meta, path, value)
    comparability.refuse(meta, changed, ["Light CPU Stress"])
    assert comparability.marks(meta, changed) == [said]


def test_what_says_nothing_about_the_fault_is_neither(meta: dict[str, Any]) -> None:
    changed = other(meta, "scenarios/0/description", "another wording")
    changed = other(changed, "scenarios/0/parameters/expected_impact", "none")
    comparability.refuse(meta, changed, ["Light CPU Stress"])
    assert comparability.marks(meta, changed) == []


def test_a_named_target_may_have_another_port(meta: dict[str, Any]) -> None:
    named = meta | {"target_name": "the embedded shop"}
    assert comparability.marks(named, other(named, "target", "http://127.0.0.1:9999")) == []


def test_only_the_scenarios_that_are_compared_must_agree(meta: dict[str, Any]) -> None:
    comparability.refuse(meta, other(meta, "scenarios/0/duration", 30.0), [])


def test_a_campaign_is_not_compared_with_itself(meta: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="there is nothing to compare"):
        comparability.refuse(meta, meta, ["Light CPU Stress"])


def test_campaigns_with_no_scenario_in_common_are_refused(tmp_path: Path) -> None:
    one = make_campaign(tmp_path / "a", [make_run("A")], campaign="a")
    two = make_campaign(tmp_path / "b", [make_run("B")], campaign="b")
    with pytest.raises(UsageError, match="no scenario in common: the baseline has A, the candidate B"):
        compare(one, two)

"""Scenario files: what loads, and what is refused with file, line and what is accepted."""

from __future__ import annotations

import contextlib
import textwrap
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoslab import share
from chaoslab.errors import ScenarioFileError, UsageError
from chaoslab.faults.cpu_stress import CpuParameters
from chaoslab.faults.memory_stress import MemoryParameters
from chaoslab.scenario import ScenarioFile, resolve_slos, select
from chaoslab.scenario_file import json_schema, load, parse

NINETEEN = [
    "Control (no fault)",
    "Light CPU Stress",
    "Medium CPU Stress",
    "Heavy CPU Stress",
    "Light Memory Stress",
    "Medium Memory Stress",
    "Heavy Memory Stress",
    "Light Disk Stress",
    "Medium Disk Stress",
    "Heavy Disk Stress",
    "Light Network Delay",
    "Medium Network Delay",
    "Heavy Network Delay",
    "Light Packet Loss",
    "Medium Packet Loss",
    "Heavy Packet Loss",
    "Application Container Restart",
    "Database Brief Outage",
    "Database Extended Outage",
]

LEGACY = """
scenarios:
  - name: CPU
    type: cpu_exhaust
    intensity: light
    duration: 30
    description: d
    target: app
    parameters: {cpu_workers: 2, expected_impact: slower, recovery_time_expected: 5}
  - {name: Mem, type: memory_leak, intensity: light, duration: 30, parameters: {memory_size: 256M}}
  - {name: Disk, type: disk_stress, intensity: light, duration: 30, parameters: {io_workers: 1}}
  - {name: Delay, type: network_delay, intensity: light, duration: 30, parameters: {delay_ms: 50, interface: eth0}}
  - {name: Loss, type: network_loss, intensity: light, duration: 30, parameters: {loss_percent: 5, interface: eth0}}
  - {name: Crash, type: container_crash, intensity: medium, duration: 60, parameters: {container: app}}
  - {name: Down, type: database_down, intensity: light, duration: 10, parameters: {database: postgres}}
scenario_groups:
  smoke_test: {description: first, scenarios: [CPU, Mem, Delay]}
slo_targets:
  mttr_seconds: 20
  max_error_rate_percent: 4
  min_availability_percent: 96
  max_latency_degradation_ms: 400
  recovery: {max_recovery_time_seconds: 9, required_health_checks: 4, health_check_interval_seconds: 2}
slo_severity:
  blocking: {max_error_rate_percent: 20}
  warning: {max_error_rate_percent: 10}
monitoring:
  metrics: [cpu, memory]
  sampling_interval: 1
  health_check: {endpoint: /healthz, timeout: 5, interval: 2}
  alerts: [{name: high, threshold: 3}]
environments:
  staging: {slo_targets: {mttr_seconds: 45}, allowed_scenarios: [CPU]}
safety:
  abort_conditions: {error_rate_percent: 50, consecutive_failures: 10, response_time_ms: 10000}
  cooldown_seconds: 30
  max_total_duration_seconds: 3600
  require_confirmation: true
  auto_rollback: true
"""


@pytest.fixture(scope="module")
def shipped() -> ScenarioFile:
    return load(share.scenario_file())


def refusal(text: str) -> str:
    with pytest.raises(ScenarioFileError) as refused:
        parse(textwrap.dedent(text), source="f.yml")
    return str(refused.value)


def test_the_shipped_file_holds_the_nineteen_scenarios_under_the_names_users_know(shipped: ScenarioFile) -> None:
    assert [scenario.name for scenario in shipped.scenarios] == NINETEEN


def test_the_shipped_doses_are_those_of_the_specification(shipped: ScenarioFile) -> None:
    heavy = shipped.scenario("Heavy CPU Stress")
    assert isinstance(heavy.parameters, CpuParameters)
    assert (heavy.parameters.cpu_workers, heavy.duration) == (8, 60)
    memory = shipped.scenario("Heavy Memory Stress")
    assert isinstance(memory.parameters, MemoryParameters)
    assert memory.parameters.memory_size == 1024**3
    assert shipped.scenario("Heavy Packet Loss").duration == 30


def test_the_shipped_suites_hold_what_the_specification_lists(shipped: ScenarioFile) -> None:
    assert [s.name for s in shipped.suite("smoke_test")] == [
        "Light CPU Stress",
        "Light Memory Stress",
        "Light Network Delay",
    ]
    assert len(shipped.suite("all")) == 19
    assert {"standard_test", "stress_test", "infrastructure_test", "production_readiness"} <= set(
        shipped.scenario_groups
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [(None, (30, 5, 95, 500, 10)), ("development", (60, 10, 90, 500, 10)), ("production", (30, 1, 99, 500, 10))],
)
def test_thresholds_come_from_the_environment_then_the_defaults(
    shipped: ScenarioFile, environment: str | None, expected: tuple[float, ...]
) -> None:
    assert tuple(slo.threshold for slo in resolve_slos(shipped, environment)) == expected


def test_a_file_of_the_older_suite_loads_as_it_is() -> None:
    file = parse(LEGACY)
    assert [scenario.type for scenario in file.scenarios] == [
        "cpu_stress",
        "memory_stress",
        "disk_stress",
        "network_latency",
        "packet_loss",
        "container_crash",
        "database_outage",
    ]
    assert file.slo_targets.recovery.required_health_checks == 4


def test_severity_overrides_what_blocks_and_adds_what_only_warns() -> None:
    slos = [slo for slo in resolve_slos(parse(LEGACY)) if slo.metric == "error_rate_percent"]
    assert [(slo.severity, slo.threshold) for slo in slos] == [("blocking", 20), ("warning", 10)]


def test_an_unknown_key_names_file_line_what_is_accepted_and_the_nearest_match() -> None:
    message = refusal("""
        scenarios:
          - name: A
            type: cpu_stress
            duration: 3
            parameters: {cpu_worker: 2, cpu_workers: 2}
        """)
    assert message.startswith("f.yml:6: unknown key 'cpu_worker'")
    assert "did you mean 'cpu_workers'" in message
    assert "cpu_load" in message


def test_a_misspelt_type_names_the_nearest_match() -> None:
    message = refusal("scenarios:\n  - name: A\n    type: cpu_stres\n    duration: 3\n")
    assert message.startswith("f.yml:3: unknown type 'cpu_stres' (did you mean 'cpu_stress'?)")


def test_a_negative_duration_is_refused_where_it_stands() -> None:
    assert refusal("scenarios:\n  - name: A\n    type: control\n    duration: -3\n").startswith("f.yml:4:")


def test_a_scenario_that_a_suite_names_and_nobody_defines_is_refused() -> None:
    message = refusal("""
        scenarios: [{name: Light, type: control, duration: 3}]
        scenario_groups:
          mine:
            scenarios:
              - Light
              - Lihgt
        """)
    assert message.startswith("f.yml:7: scenario_groups.mine names the scenario 'Lihgt'")
    assert "did you mean 'Light'" in message


def test_a_key_given_twice_is_refused_because_yaml_would_drop_one_in_silence() -> None:
    message = refusal("scenarios: []\nslo_targets: {}\nslo_targets: {mttr_seconds: 3}\n")
    assert message == "f.yml:3: key 'slo_targets' stands here and in line 2"


def test_two_scenarios_of_one_name_are_refused() -> None:
    text = "scenarios:\n- {name: A, type: control, duration: 3}\n- {name: a, type: control, duration: 3}\n"
    assert refusal(text).startswith("f.yml:3: a second scenario is called 'a'")


def test_malformed_yaml_names_file_and_line() -> None:
    assert refusal("scenarios:\n  - name: [\n").startswith("f.yml:3: not valid YAML")


def test_a_stop_command_without_its_start_command_is_refused() -> None:
    text = """
        scenarios:
          - {name: A, type: database_outage, duration: 3, parameters: {stop_command: ["x"]}}
        """
    assert "cannot be undone" in refusal(text)


def test_every_fault_of_a_file_is_named_not_only_the_first() -> None:
    message = refusal("scenarios:\n- {name: A, type: control, duration: -1}\nslo_target: {}\nsafty: {}\n")
    assert len(message.splitlines()) == 3


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ScenarioFileError, match="cannot be read: No such file"):
        load(tmp_path / "none.yml")


@given(st.text(max_size=200))
def test_no_text_whatsoever_gives_a_traceback(text: str) -> None:
    with contextlib.suppress(ScenarioFileError):
        parse(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # the first example makes the schema, which takes its time on a busy machine
@given(key=st.sampled_from(list(ScenarioFile.model_fields)), value=json_values)
def test_any_value_at_any_key_is_read_or_refused_in_our_words(key: str, value: object) -> None:
    document = {"scenarios": [{"name": "A", "type": "control", "duration": 3}], key: value}
    with contextlib.suppress(ScenarioFileError):
        parse(yaml.safe_dump(document))


def test_an_unknown_scenario_or_suite_names_the_nearest(shipped: ScenarioFile) -> None:
    with pytest.raises(UsageError, match="did you mean 'Light CPU Stress'"):
        select(shipped, names=["Light CPU Stres"])
    with pytest.raises(UsageError, match="did you mean 'smoke_test'"):
        select(shipped, suites=["smoketest"])


def test_intensity_keeps_its_level_and_the_control(shipped: ScenarioFile) -> None:
    names = [scenario.name for scenario in select(shipped, intensity="light")]
    assert names[:2] == ["Control (no fault)", "Light CPU Stress"]
    assert all("Heavy" not in name and "Medium" not in name for name in names)


def test_a_scenario_asked_for_twice_runs_once(shipped: ScenarioFile) -> None:
    chosen = select(shipped, suites=["smoke_test"], names=["light cpu stress"])
    assert [scenario.name for scenario in chosen].count("Light CPU Stress") == 1


def test_the_published_schema_accepts_the_shipped_file_and_refuses_an_unknown_key() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = yaml.safe_load(share.scenario_file().read_text())
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"slo_target": {}}, schema)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system [touch {trace}]", "!!python/name:os.system", "!!python/module:os"]
)
def test_yaml_that_would_make_objects_is_refused_and_makes_none(tag: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(ScenarioFileError, match=r"f.yml:2: not valid YAML: could not determine a constructor"):
        parse(f"scenarios: []\nsafety: {tag.format(trace=trace)}\n", source="f.yml")
    assert not trace.exists()

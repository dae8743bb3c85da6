"""Combined scenarios: several faults in one run, each there in its own time, each with its own dose."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import pytest

from chaoslab import experiment, store
from chaoslab.delivery import contested
from chaoslab.errors import ScenarioFileError
from chaoslab.faults import Injection
from chaoslab.report.figures import fault_spans
from chaoslab.scenario import Scenario
from chaoslab.scenario_file import parse
from tests import servers


def combined(faults: str, **changes: object) -> Scenario:
    head = "".join(f"    {key}: {value}\n" for key, value in ({"duration": 10} | changes).items())
    text = f"scenarios:\n  - name: Storm\n    type: combined\n{head}    faults:\n{textwrap.indent(faults, '      ')}"
    return parse(text, source="f.yml").scenarios[0]


CPU = "- {type: cpu_stress, parameters: {cpu_workers: 1}}\n"
MEMORY = "- {type: memory_stress, offset: 4s, duration: 2s, parameters: {memory_size: 64M}}\n"


def test_a_fault_takes_what_it_leaves_out_from_the_whole() -> None:
    storm = combined(CPU + "- {type: cpu_exhaust, offset: 4, parameters: {cpu_workers: 2}}\n", intensity="heavy")
    assert [(part.name, part.type, part.offset, part.duration, part.intensity) for part in storm.parts] == [
        ("cpu_stress", "cpu_stress", 0, 10, "heavy"),
        ("cpu_exhaust", "cpu_stress", 4, 6, "heavy"),
    ]


def test_two_faults_of_one_type_are_told_apart_by_number() -> None:
    assert [part.name for part in combined(CPU + CPU).parts] == ["cpu_stress 1", "cpu_stress 2"]


def test_a_scenario_of_one_fault_is_its_own_only_part() -> None:
    (one,) = parse("scenarios: [{name: A, type: control, duration: 3}]").scenarios
    assert one.parts == (one,)


def test_a_combination_is_destructive_if_one_of_its_faults_is() -> None:
    assert not combined(CPU).destructive
    assert combined(CPU + "- {type: container_crash}\n").destructive


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ("- {type: cpu_stress, parameters: {cpu_wrkers: 2}}\n", "f.yml:6: unknown key 'cpu_wrkers'"),
        (MEMORY.replace("2s", "7s"), "ends 11 s after the start, later than the scenario's 10 s"),
        (MEMORY.replace("4s", "-1"), "offset"),
        ("- {type: combined, faults: []}\n", "unknown type 'combined'"),
        ("[]\n", "at least 1 item"),
        ("- 7\n", "faults[0]"),
    ],
)
def test_a_combination_that_cannot_be_is_refused(faults: str, words: str) -> None:
    with pytest.raises(ScenarioFileError) as refused:
        combined(faults)
    assert words in str(refused.value)


def test_an_offset_outside_of_a_combination_is_refused() -> None:
    with pytest.raises(ScenarioFileError, match=r"<text>:1: scenarios\[0\].offset is 3: accepted only among"):
        parse("scenarios: [{name: A, type: control, duration: 3, offset: 3}]")


def claiming(*claims: str) -> Injection:
    return Injection(mechanism="M", steps=(), took_effect=lambda _: True, doses=lambda _: (), claims=tuple(claims))


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ((0, 5, "eth0"), (4, 5, "eth0"), "eth0"),
        ((0, 5, "eth0"), (5, 5, "eth0"), ""),
        ((0, 5, "eth0"), (0, 5, "eth1"), ""),
    ],
)
def test_two_faults_may_not_need_the_same_thing_at_the_same_time(
    first: tuple[float, float, str], second: tuple[float, float, str], shared: str
) -> None:
    spans = [(offset, seconds, claiming(claim)) for offset, seconds, claim in (first, second)]
    assert contested(spans) == shared


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[store.Campaign]:
    """One run of three faults against a real server."""
    folder = tmp_path_factory.mktemp("storm")
    config = folder / "f.yml"
    config.write_text("""
phases: {baseline_seconds: 2, recovery_seconds: 4}
scenarios:
  - name: Storm
    type: combined
    duration: 4
    faults:
      - {type: cpu_stress, parameters: {cpu_workers: 1}}
      - {type: memory_stress, offset: 0.5, duration: 1.5, parameters: {memory_size: 64M}}
      - {type: network_latency, offset: 1, duration: 1.5, parameters: {delay_ms: 40}}
""")
    with servers.running() as target, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAOSLAB_STATE_DIR", str(folder / "state"))
        yield experiment.run(target=target.url("/ok"), config=config, output=folder / "campaign", repeats=1)


def instants(campaign: store.Campaign, event: str) -> dict[str, float]:
    """Seconds since the start of the injection at which something happened, by fault."""
    (run,) = campaign.runs
    assert run.injection_us is not None
    return {
        step["detail"]["fault"]: (step["at_us"] - run.injection_us) / 1e6
        for step in run.steps
        if step["event"] == event
    }


def test_each_fault_comes_at_its_offset_and_goes_after_its_own_time(storm: store.Campaign) -> None:
    began, ended = instants(storm, "do"), instants(storm, "undo")
    assert 0 <= began["cpu_stress"] < 0.5 <= began["memory_stress"] < began["network_latency"]
    assert began["memory_stress"] + 1.5 <= ended["memory_stress"] < ended["network_latency"] < ended["cpu_stress"]
    assert ended["cpu_stress"] >= 4


def test_each_fault_has_a_dose_of_its_own(storm: store.Campaign) -> None:
    (run,) = storm.runs
    assert run.state == "completed"
    assert {dose.quantity.partition(":")[0] for dose in run.doses} == {"cpu_stress", "memory_stress", "network_latency"}
    assert all(dose.ok for dose in run.doses)


def test_the_run_recovers_from_the_end_of_its_last_fault(storm: store.Campaign) -> None:
    (run,) = storm.runs
    assert run.recovery_us is not None
    assert run.fault_over_us is not None
    assert 0 <= run.fault_over_us - run.recovery_us < 100_000


def test_the_report_draws_when_each_fault_was_there(storm: store.Campaign) -> None:
    spans = fault_spans(storm.runs)
    assert [span.label for span in spans] == ["cpu_stress", "memory_stress", "network_latency"]
    assert all(span.began < span.ended for span in spans)

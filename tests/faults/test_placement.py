"""Stress on another host, or beside the service: it competes there, proven by control groups, and is ended there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml

from chaoslab.agent import processes
from chaoslab.errors import ScenarioFileError
from chaoslab.faults import Mechanism, Reading, Surroundings, cpu_stress, disk_stress, failure_types, memory_stress
from chaoslab.hosts import host_of
from chaoslab.hosts.ssh import CONFIG_VARIABLE
from chaoslab.scenario_file import json_schema, parse
from chaoslab.targets import Target
from tests.conftest import missing
from tests.faults.kit import deliver, do, scenario, surroundings, wait_for_effect
from tests.machines import container, sshd
from tests.test_processes import until

DOSES = {
    "cpu_stress": {"workers": 1, "load": 50},
    "memory_stress": {"size": "32M"},
    "disk_stress": {"workers": 1, "worker_size": "4M", "folder": "/var/tmp"},
}


@pytest.fixture(scope="module")
def small() -> Iterator[str]:
    """A container that may take half a core and 160 MB, and listens on a port of this machine."""
    if os.geteuid() != 0:
        missing("entering a container takes root")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    limits = ["--cpus=0.5", "--memory=160m", "--network=host", f"--label=port={port}"]
    web = ("httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "/bin")
    with container("chaoslab-test-small", *web, options=limits) as name:
        yield name


def inspected(name: str, field: str) -> str:
    result = subprocess.run(["docker", "inspect", "--format", f"{{{{{field}}}}}", name], capture_output=True, text=True)
    return result.stdout.strip()


@pytest.fixture(params=["container", "pid_file", "port", "target"])
def beside(request: pytest.FixtureRequest, small: str, tmp_path: Path) -> tuple[dict[str, object], Surroundings]:
    """A placement beside the container's first process, and the surroundings in which it can be found."""
    pid = inspected(small, ".State.Pid")
    file = tmp_path / "pid"
    file.write_text(pid)
    port = int(inspected(small, ".Config.Labels.port"))
    until(lambda: processes.listener(port) == int(pid))
    places: dict[str, object] = {"container": small, "pid_file": str(file), "port": port, "target": True}
    target = Target(url="http://127.0.0.1:1", name="small", build="", pid_file=str(file))
    return {request.param: places[request.param]}, surroundings(target)


@pytest.fixture
def stress_ng(need: Callable[[str, str], None]) -> None:
    need("stress-ng", "apt-get install stress-ng")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.geteuid() != 0:
        missing("an sshd of the test's own needs root")
    with sshd(tmp_path_factory.mktemp("sshd")) as config:
        yield config


MECHANISMS = [one for name in DOSES for one in failure_types()[name].mechanisms]


def kind(mechanism: Mechanism) -> str:
    return type(mechanism).__module__.rpartition(".")[2]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda one: f"{kind(one)}, {one.name}")
def test_the_stress_in_a_container_is_within_its_limits_and_proven_by_its_control_groups(
    mechanism: Mechanism, small: str, stress_ng: None
) -> None:
    where = replace(surroundings(), host=host_of(f"docker:{small}"))
    doses = deliver(mechanism, scenario(kind(mechanism), **DOSES[kind(mechanism)]), where, seconds=0.5)
    assert all(dose.ok for dose in doses), doses
    identifier = inspected(small, ".Id")
    assert all(f"every worker in the control groups of the container {small}" in dose.how for dose in doses)
    assert all(identifier in dose.how for dose in doses)


def test_the_stress_joins_the_process_that_a_placement_names(
    beside: tuple[dict[str, object], Surroundings], small: str
) -> None:
    placement, where = beside
    asked = scenario("cpu_stress", workers=1, placement=placement)
    doses = deliver(cpu_stress.OwnWorkers(), asked, where, seconds=0.2)
    assert all(inspected(small, ".Id") in dose.how for dose in doses)


def test_a_quota_lower_than_the_demand_is_stated_and_the_cores_busy_are_judged_by_it(small: str) -> None:
    asked = scenario("cpu_stress", workers=2, placement={"container": small})
    demand, busy = deliver(cpu_stress.OwnWorkers(), asked, surroundings(), seconds=1.0)
    assert (demand.asked, busy.asked) == (2, 0.5)
    assert demand.ok
    assert busy.delivered is not None
    assert busy.delivered <= 0.5 * 1.05
    assert "no more than 0.5 cores to get" in busy.how


def test_more_memory_than_a_container_may_take_is_refused_and_a_share_is_one_of_what_it_has(small: str) -> None:
    mechanism = memory_stress.OwnWorker()
    asked = scenario("memory_stress", size="150M", placement={"container": small})
    assert "MB are free, of which 40 MB must stay" in str(mechanism.obstacle(asked, surroundings()))
    asked = scenario("memory_stress", size="40%", placement={"container": small})
    (dose,) = deliver(mechanism, asked, surroundings(), seconds=0.1)
    assert dose.asked == pytest.approx(0.4 * 160, rel=0.2)
    assert dose.ok


def test_every_worker_is_a_first_victim_when_memory_runs_out_stress_ng_included(stress_ng: None) -> None:
    for mechanism in MECHANISMS:
        token = f"victim-{os.urandom(4).hex()}"
        asked = scenario(kind(mechanism), **DOSES[kind(mechanism)])
        injection = mechanism.inject(asked, surroundings(), seconds=5, token=token)
        try:
            for step in injection.steps:
                do(step)
            wait_for_effect(injection)
            scores = {Path(f"/proc/{one.pid}/oom_score_adj").read_text() for one in processes.family(token)}
            assert scores == {"1000\n"}, mechanism
        finally:
            assert not processes.end_family(token)
            for step in injection.steps[:-1]:
                subprocess.run(step.undo, check=True)


def test_a_worker_outside_the_control_groups_makes_the_dose_undelivered(small: str) -> None:
    asked = scenario("cpu_stress", workers=1, placement={"container": small})
    injection = cpu_stress.OwnWorkers().inject(asked, surroundings(), seconds=1, token="t")
    outside = [str(group) for group in processes.cgroups.of()]
    data = {"at": 0.0, "cpu_seconds": 0.0, "runnable_seconds": 0.0, "groups": [outside]}
    later = data | {"at": 1.0, "cpu_seconds": 0.5, "runnable_seconds": 1.0}
    readings = [Reading(at_us=number, exit_code=0, data=found) for number, found in enumerate((data, later))]
    assert [dose.delivered for dose in injection.doses(readings)] == [None, None]
    assert all("was outside the control groups" in dose.how for dose in injection.doses(readings))


@pytest.mark.parametrize("mechanism", [cpu_stress.OwnWorkers(), disk_stress.StressNg()], ids=kind)
def test_the_stress_on_another_machine_is_measured_and_ended_over_ssh(
    mechanism: Mechanism, config: Path, stress_ng: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    where = replace(surroundings(), host=host_of("ssh://here"))
    doses = deliver(mechanism, scenario(kind(mechanism), **DOSES[kind(mechanism)]), where, seconds=0.3)
    assert all(dose.ok for dose in doses), doses
    assert not list(Path("/var/tmp").glob("chaoslab-kit-*"))


def test_a_placement_that_cannot_be_is_refused_before_anything_is_done(small: str, tmp_path: Path) -> None:
    mechanism = cpu_stress.OwnWorkers()

    def obstacle(where: Surroundings = surroundings(), **placement: object) -> str:  # noqa: B008
        return str(mechanism.obstacle(scenario("cpu_stress", workers=1, placement=placement), where))

    assert "there is no container 'none-such'; running:" in obstacle(container="none-such")
    assert "names no process" in obstacle(pid_file=str(tmp_path / "none"))
    assert "listens on port 1" in obstacle(port=1)
    assert "has published no process" in obstacle(target=True)
    inside = replace(surroundings(), host=host_of(f"docker:{small}"))
    assert "is a placement already" in obstacle(inside, container=small)


def test_stress_beside_the_target_is_refused_on_a_host_that_does_not_serve_it(small: str) -> None:
    where = replace(surroundings(local=False), host=host_of(f"docker:{small}"))
    obstacle = cpu_stress.OwnWorkers().obstacle(scenario("cpu_stress", workers=1), where)
    assert f"would hit the container {small}, but the target" in str(obstacle)
    assert "allow_other_host: true" in str(obstacle)


FILE = "scenarios: [{{name: S, type: {kind}, duration: 1, parameters: {parameters}}}]"


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("cpu_stress", "{workers: 2, load: 50}"),
        ("cpu_exhaust", "{cpu_workers: 2, cpu_load: 50}"),
        ("memory_stress", "{size: 40%}"),
        ("memory_stress", "{size: 64M, placement: {port: 80}}"),
        ("disk_stress", "{workers: 2, worker_size: 8M, folder: /var/tmp, placement: {target: true}}"),
    ],
)
def test_short_forms_are_accepted_by_the_file_and_by_its_schema(kind: str, parameters: str) -> None:
    text = FILE.format(kind=kind, parameters=parameters)
    jsonschema.validate(yaml.safe_load(text), json_schema())
    assert parse(text).scenarios[0].type in DOSES


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("cpu_stress", "{workers: 2, cpu_workers: 2}", "workers is short for cpu_workers; accepted: one of the two"),
        ("cpu_stress", "{workers: 2, load: 5, cpu_load: 5}", "load is short for cpu_load"),
        ("cpu_stress", "{load: 5}", "lacks the key 'cpu_workers'"),
        ("cpu_stress", "{worker: 2}", "did you mean 'workers'"),
        ("cpu_stress", "{workers: 0}", "parameters.workers is 0"),
        ("memory_stress", "{size: 0%}", 'or a share of what is free such as "40%"'),
        ("memory_stress", "{size: -5}", 'text such as "256M"'),
        ("disk_stress", "{workers: 1, worker_size: 2G}", "less than or equal to 1073741824"),
        ("cpu_stress", "{workers: 1, placement: {}}", "exactly one of container, pid_file, port, target"),
        ("cpu_stress", "{workers: 1, placement: {port: 80, target: true}}", "exactly one of container"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_is_accepted(kind: str, parameters: str, words: str) -> None:
    text = FILE.format(kind=kind, parameters=parameters)
    with pytest.raises(ScenarioFileError, match=re.escape(words)):
        parse(text)

"""database_outage: the evidence is that the database itself refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from chaoslab.agent import database, process_table, processes
from chaoslab.demo.premises import Premises
from chaoslab.errors import ScenarioFileError
from chaoslab.faults import Reading
from chaoslab.faults.database_outage import (
    Commands,
    DatabaseContainer,
    FrozenServer,
    PgCtl,
    PublishedControl,
    SystemdUnit,
)
from chaoslab.faults.outage import DatabaseParameters
from chaoslab.scenario import Scenario
from chaoslab.targets import Target
from tests.faults.conftest import inspect
from tests.faults.kit import HOST, deliver, do, read, scenario, surroundings
from tests.test_processes import until

Shop = tuple[Premises, Target]


def by_commands(file: Path, **changes: list[str]) -> Scenario:
    """A stand-in for a database in three commands: it answers while a file is there."""
    commands = {
        "stop_command": ["rm", str(file)],
        "start_command": ["touch", str(file)],
        "check_command": ["test", "-e", str(file)],
    }
    return scenario("database_outage", 1.0, **(commands | changes))


def parameters(asked: Scenario) -> DatabaseParameters:
    assert isinstance(asked.parameters, DatabaseParameters)
    return asked.parameters


def address(shop: Premises) -> str:
    return f"host={shop.data} port=5432"


def frozen(data: Path) -> set[str]:
    """The states of the server's processes."""
    server = database.postmaster(data)
    assert server is not None
    return {member.state for member in process_table.family(process_table.look(), server.pid)}


# A pair of commands.


def test_a_pair_of_commands_stops_and_starts_the_database(tmp_path: Path) -> None:
    file = tmp_path / "up"
    file.touch()
    (dose,) = deliver(Commands(), by_commands(file), surroundings(allow_commands=True), seconds=1.0)
    assert dose.ok
    assert dose.delivered == pytest.approx(1.0, abs=0.2)
    assert file.exists()


def test_a_stop_command_that_stops_nothing_is_a_dose_of_zero(tmp_path: Path) -> None:
    file = tmp_path / "up"
    file.touch()
    injection = Commands().inject(
        by_commands(file, stop_command=["true"]), surroundings(allow_commands=True), seconds=1.0, token="t"
    )
    readings = [read(injection.steps[0])]
    assert not injection.took_effect(readings)
    (dose,) = injection.doses(readings)
    assert (dose.delivered, dose.ok) == (0.0, False)


def test_a_check_that_cannot_run_or_hangs_is_no_evidence() -> None:
    asked = by_commands(Path("/nonexistent/x"), check_command=["no-such-program-at-all"])
    injection = Commands().inject(asked, surroundings(allow_commands=True), seconds=1.0, token="t")
    answers = Reading(at_us=0, exit_code=0, data={})
    for cannot_tell in (126, 127, None):
        assert not injection.took_effect([answers, Reading(at_us=1, exit_code=cannot_tell, data={})])


def test_a_database_that_refused_before_anything_was_done_is_not_our_outage() -> None:
    injection = Commands().inject(by_commands(Path("/x")), surroundings(allow_commands=True), seconds=1.0, token="t")
    refuses = [Reading(at_us=at, exit_code=1, data={}) for at in range(2)]
    assert not injection.took_effect(refuses)


def test_a_scenario_file_may_not_run_commands_unless_it_was_asked_to(tmp_path: Path) -> None:
    obstacle = Commands().obstacle(by_commands(tmp_path / "x"), surroundings())
    assert "--allow-commands" in str(obstacle)


def test_commands_without_a_check_are_refused_because_nothing_would_show_the_outage(tmp_path: Path) -> None:
    asked = scenario("database_outage", stop_command=["true"], start_command=["true"])
    assert "check_command" in str(Commands().obstacle(asked, surroundings(allow_commands=True)))


# The target's own control.


def test_a_target_that_published_no_database_is_refused() -> None:
    assert "published" in str(PublishedControl().obstacle(scenario("database_outage"), surroundings()))


def test_the_published_control_yields_to_a_victim_that_the_scenario_names(shop: Shop) -> None:
    asked = scenario("database_outage", unit="postgresql", connection="host=/x")
    assert "unit of its own" in str(PublishedControl().obstacle(asked, surroundings(shop[1])))


# PostgreSQL, for real.


def test_pg_ctl_stops_the_server_and_starts_it_as_it_was(shop: Shop) -> None:
    premises, target = shop
    before = database.describe(premises.data, None)
    asked = scenario("database_outage", data_directory=str(premises.data))
    (dose,) = deliver(PgCtl(), asked, surroundings(target), seconds=0.5)
    assert dose.ok
    after = database.describe(premises.data, None)
    assert after["pid"] != before["pid"]
    assert {key: after[key] for key in ("pg_ctl", "log", "address")} == {
        key: before[key] for key in ("pg_ctl", "log", "address")
    }
    assert before["log"] == str(premises.database_log)
    assert process_table.look()[after["pid"]].uid == premises.data.stat().st_uid
    assert process_table.token(after["pid"]) is None
    until(lambda: httpx.get(f"{target.url}/api/health").is_success, seconds=15)


def test_a_server_that_keeps_its_command_line_options_over_an_outage(shop: Shop) -> None:
    premises, _ = shop
    options = premises.data / "postmaster.opts"
    kept = options.read_text()
    try:
        options.write_text(f'{kept.strip()} "-c" "work_mem=7 MB"\n')
        assert database._last_options(premises.data)[-2:] == ["-c", "work_mem=7 MB"]
        assert "-D" not in database._last_options(premises.data)
    finally:
        options.write_text(kept)


def test_a_start_of_a_server_that_runs_is_fine_and_a_stop_of_one_that_does_not_is_not(
    shop: Shop, tmp_path: Path
) -> None:
    premises, target = shop
    asked = scenario("database_outage", data_directory=str(premises.data), stop_mode="immediate")
    (step,) = PgCtl().inject(asked, surroundings(target), seconds=1, token="t").steps
    assert HOST.run(step.undo, timeout=30).ok
    nowhere = [part if part != str(premises.data) else str(tmp_path) for part in step.do]
    result = HOST.run(nowhere, timeout=30)
    assert not result.ok
    assert "not ours to claim" in result.problem


def test_a_data_folder_in_which_nothing_runs_is_refused(tmp_path: Path) -> None:
    asked = scenario("database_outage", data_directory=str(tmp_path))
    assert "no PostgreSQL runs in" in str(PgCtl().obstacle(asked, surroundings()))
    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n")
    assert "no PostgreSQL runs in" in str(PgCtl().obstacle(asked, surroundings()))


def test_a_pg_bin_without_pg_ctl_is_refused(shop: Shop, tmp_path: Path) -> None:
    premises, target = shop
    asked = scenario("database_outage", data_directory=str(premises.data), pg_bin=str(tmp_path))
    assert f"there is no pg_ctl in {tmp_path}" in str(
        PgCtl().obstacle(asked, surroundings(target, allow_commands=True))
    )


def test_a_pg_bin_decides_what_runs_so_it_is_a_command_of_the_file(shop: Shop, tmp_path: Path) -> None:
    premises, target = shop
    asked = scenario("database_outage", data_directory=str(premises.data), pg_bin=str(tmp_path))
    assert "chaoslab trust FILE" in str(PgCtl().obstacle(asked, surroundings(target)))


def test_a_frozen_server_accepts_connections_and_answers_none_and_goes_on(shop: Shop) -> None:
    premises, target = shop
    choice = {"pid_file": str(premises.data / "postmaster.pid")}
    asked = scenario("database_outage", freeze=choice, connection=address(premises))
    before = database.postmaster(premises.data)
    injection = FrozenServer().inject(asked, surroundings(target), seconds=1, token="test-frozen")
    do(injection.steps[0])
    assert frozen(premises.data) == {"T"}
    accepts = Reading(at_us=0, exit_code=0, data={})
    assert injection.took_effect([accepts, read(injection.steps[0])])
    assert injection.steps[0].restored == injection.steps[0].evidence
    for _ in range(2):
        assert HOST.run(injection.steps[0].undo, timeout=10).ok
    assert "T" not in frozen(premises.data)
    assert database.postmaster(premises.data) == before
    until(lambda: httpx.get(f"{target.url}/api/health").is_success, seconds=15)


def test_a_ping_tells_acceptance_refusal_and_no_telling(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert database._main(["ping", address(shop[0]), "--limit", "10"]) == 0
    assert database._main(["ping", "host=127.0.0.1 port=1", "--limit", "10"]) == 1
    assert database._main(["ping", "nonsense", "--limit", "10"]) == 127
    said = [json.loads(line)["ping"] for line in capsys.readouterr().out.splitlines()]
    assert said == ["accepts", "no response", "not tried"]


@pytest.mark.parametrize("given", ["postgresql://me:s3cret@db:5433/shop", "host=db port=5433 user=me password=s3cret"])
def test_of_a_connection_only_what_reaches_the_server_is_kept(given: str) -> None:
    asked = scenario("database_outage", unit="postgresql", connection=given)
    kept = parameters(asked).connection
    assert kept is not None
    assert set(kept.split()) == {"host=db", "port=5433", "dbname=postgres"}
    assert "s3cret" not in asked.model_dump_json()


def test_a_connection_that_cannot_be_read_is_refused_without_showing_it() -> None:
    asked = scenario("database_outage", unit="postgresql", connection="postgresql://me:s3cret@[db")
    obstacle = str(SystemdUnit().obstacle(asked, surroundings()))
    assert "is no URL or conninfo" in obstacle
    assert "s3cret" not in obstacle + asked.model_dump_json()


# A container.


@pytest.mark.parametrize(("action", "ends"), [("stop", True), ("pause", False)])
def test_a_databases_container_goes_away_and_comes_back(
    run_container: Callable[..., str], action: str, ends: bool
) -> None:
    container = run_container("--stop-signal=KILL")
    # `docker exec` answers only in a container that runs: it stands for the client of a database in it.
    check = ["docker", "exec", container, "/bin/busybox", "true"]
    asked = scenario("database_outage", container=container, action=action, check_command=check)
    where = surroundings(allow_commands=True)
    (dose,) = deliver(DatabaseContainer(), asked, where, seconds=0.3)
    assert dose.ok
    assert inspect(container, "Status") == "running"
    assert (inspect(container, "FinishedAt") > "1970") == ends


def test_a_databases_container_that_does_not_exist_is_refused(image: str) -> None:
    asked = scenario("database_outage", container="none-such", connection="host=db")
    assert "there is no container 'none-such'" in str(DatabaseContainer().obstacle(asked, surroundings()))


# A systemd unit: no machine of ours in a test runs systemd.

STAND_IN = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
    show) echo Version=252 ;;
    is-active) test -e {state} && echo active || {{ echo inactive; exit 3; }} ;;
    stop) rm -f {state} ;;
    start) touch {state} ;;
esac
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called systemctl that stands in for systemd: the unit is active while a file is there."""
    state, program = tmp_path / "active", tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(log=tmp_path / "log", state=state))
    program.chmod(0o755)
    state.touch()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return state


def by_unit(state: Path) -> Scenario:
    return scenario("database_outage", unit="postgresql@15-main", check_command=["test", "-e", str(state)])


def test_a_stand_in_for_systemctl_is_told_to_stop_and_start_the_unit(stand_in: Path) -> None:
    (dose,) = deliver(SystemdUnit(), by_unit(stand_in), surroundings(allow_commands=True), seconds=0.3)
    assert dose.ok
    told = (stand_in.parent / "log").read_text().splitlines()
    unit = "postgresql@15-main"
    assert told[-3:] == [f"stop {unit}", f"start {unit}", f"start {unit}"]


def test_a_units_steps_are_systemctls_own_commands() -> None:
    asked = by_unit(Path("/x"))
    (step,) = SystemdUnit().inject(asked, surroundings(allow_commands=True), seconds=1, token="t").steps
    assert step.do == ("systemctl", "stop", "postgresql@15-main")
    assert step.undo == ("systemctl", "start", "postgresql@15-main")
    assert step.restored == step.evidence == ("test", "-e", "/x")


def test_a_unit_that_is_not_active_is_refused(stand_in: Path) -> None:
    stand_in.unlink()
    obstacle = str(SystemdUnit().obstacle(by_unit(stand_in), surroundings(allow_commands=True)))
    assert "is inactive, not active" in obstacle


def test_a_machine_without_systemd_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "systemd does not answer" in str(SystemdUnit().obstacle(None, surroundings()))


# Bad input.


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"unit": "a", "container": "b"}, "container and unit are different ways"),
        ({"unit": "-a"}, "should match pattern"),
        ({"freeze": {}}, "exactly one of pid_file, port and process"),
        ({"freeze": {"port": 1, "process": "x"}}, "exactly one of"),
        ({"freeze": {"pidfile": "x"}}, "did you mean 'pid_file'"),
        ({"unit": "a", "stop_mode": "immediate"}, "stop_mode goes with data_directory"),
        ({"unit": "a", "cut_by": "drop"}, "cut_by goes with cut_port"),
        ({"unit": "a", "connection": "host=x", "check_command": ["x"]}, "two kinds of evidence"),
        ({"cut_port": 0}, "greater than or equal to 1"),
        ({"cut_port": 1, "cut_address": "db.example"}, "IPv4"),
        ({"unit": "a", "stop_command": ["x"]}, "go together"),
    ],
)
def test_bad_input_is_refused_when_the_file_is_read(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(ScenarioFileError, match=complaint):
        scenario("database_outage", **given)


def test_what_was_read_can_be_written_down_and_read_again() -> None:
    for kind, given in (("database_outage", {"unit": "a"}), ("container_crash", {"container": "a", "action": "stop"})):
        asked = scenario(kind, **given)
        assert scenario(kind, **asked.parameters.model_dump(mode="json")) == asked


def test_a_frozen_database_without_evidence_is_refused() -> None:
    asked = scenario("database_outage", freeze={"port": 1})
    assert "nothing would show" in str(FrozenServer().obstacle(asked, surroundings()))


def test_what_chaoslab_itself_runs_is_no_database_to_freeze(tmp_path: Path) -> None:
    own = processes.spawn([sys.executable, "-c", "import time; time.sleep(60)"], token="test-own-db")
    (tmp_path / "pid").write_text(f"{own.pid}\n")
    asked = scenario("database_outage", freeze={"pid_file": str(tmp_path / "pid")}, connection="host=db")
    assert "chaoslab's own" in str(FrozenServer().obstacle(asked, surroundings()))
    processes.end_family("test-own-db")
    own.wait()


def test_the_commands_of_a_database_end_with_2_on_bad_usage() -> None:
    argv = [sys.executable, "-m", "chaoslab.agent.database", "stop"]
    assert subprocess.run(argv, capture_output=True).returncode == 2

"""database_outage: the evidence is that the database itself refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaoslab.faults.database_outage import Commands, PublishedControl
from chaoslab.scenario import Scenario
from tests.faults.kit import deliver, scenario, surroundings


def by_commands(file: Path, **changes: list[str]) -> Scenario:
    """A stand-in for a database in three commands: it answers while a file is there."""
    commands = {
        "stop_command": ["rm", str(file)],
        "start_command": ["touch", str(file)],
        "check_command": ["test", "-e", str(file)],
    }
    return scenario("database_outage", 1.0, **(commands | changes))


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
    from tests.faults.kit import read

    readings = [read(injection.steps[0])]
    assert not injection.took_effect(readings)
    (dose,) = injection.doses(readings)
    assert (dose.delivered, dose.ok) == (0.0, False)


def test_a_check_that_cannot_run_is_no_evidence() -> None:
    from chaoslab.faults import Reading

    asked = by_commands(Path("/nonexistent/x"), check_command=["no-such-program-at-all"])
    injection = Commands().inject(asked, surroundings(allow_commands=True), seconds=1.0, token="t")
    assert not injection.took_effect([Reading(at_us=0, exit_code=127, data={})])


def test_a_scenario_file_may_not_run_commands_unless_it_was_asked_to(tmp_path: Path) -> None:
    obstacle = Commands().obstacle(by_commands(tmp_path / "x"), surroundings())
    assert "--allow-commands" in str(obstacle)


def test_commands_without_a_check_are_refused_because_nothing_would_show_the_outage(tmp_path: Path) -> None:
    asked = scenario("database_outage", stop_command=["true"], start_command=["true"])
    assert "check_command" in str(Commands().obstacle(asked, surroundings(allow_commands=True)))


def test_a_target_that_published_no_database_is_refused() -> None:
    assert "published" in str(PublishedControl().obstacle(scenario("database_outage"), surroundings()))

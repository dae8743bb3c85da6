"""A scenario file of the script suite runs as it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chaoslab.errors import ScenarioFileError
from chaoslab.records import RunState
from chaoslab.scenario import resolve_slos
from chaoslab.scenario_file import load, parse
from chaoslab.store import Campaign
from tests.test_cli import chaoslab

FILE = Path(__file__).parent / "imports" / "chaos_scenarios.yml"


class Healthy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_its_types_doses_and_objectives_are_read() -> None:
    file = load(FILE)
    assert {scenario.type for scenario in file.scenarios} == {
        "cpu_stress",
        "memory_stress",
        "network_latency",
        "packet_loss",
        "container_crash",
        "database_outage",
        "disk_stress",
    }
    assert file.scenario("Heavy Memory Stress").parameters.model_dump()["memory_size"] == 1024**3
    slos = {(slo.metric, slo.severity): slo.threshold for slo in resolve_slos(file)}
    assert (slos["mttr_seconds", "blocking"], slos["mttr_seconds", "warning"]) == (60, 45)
    assert (slos["recovery_time_seconds", "blocking"], slos["error_rate_percent", "warning"]) == (30, 8)


def test_a_threshold_that_is_given_twice_is_refused() -> None:
    twice = "slo_severity: {blocking: {max_recovery_time_seconds: 30, recovery: {max_recovery_time_seconds: 15}}}"
    with pytest.raises(ScenarioFileError, match="accepted once"):
        parse(f"scenarios: []\n{twice}")


def test_it_runs_unchanged(target: str, tmp_path: Path) -> None:
    before, out = FILE.read_bytes(), tmp_path / "out"
    asked = ["run", "--config", str(FILE), "--target", target, "--suite", "smoke_test", "--repeats", "1"]
    assert chaoslab(*asked, "--duration-scale", "0.05", "--seed", "1", "--output", str(out)) == 0
    campaign = Campaign.open(out)
    [run] = campaign.runs
    assert (run.scenario, run.state) == ("Light Disk Stress", RunState.COMPLETED)
    assert run.doses
    assert all(dose.ok for dose in run.doses)
    assert FILE.read_bytes() == before


def test_what_it_calls_destructive_asks_first(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["run", "--config", str(FILE), "--target", target, "--scenario", "Database Brief Outage"]
    assert chaoslab(*asked) != 0
    assert "database" in capsys.readouterr().err.lower()

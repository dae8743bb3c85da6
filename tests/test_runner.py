"""The runner: what ends a campaign early ends it at once, reverted, and on record."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from chaoslab import experiment, store
from chaoslab.aborts import UserProbe, abort_reason, host_in_danger
from chaoslab.errors import ChaoslabError
from chaoslab.hosts import LocalHost
from chaoslab.instruments.probe import Live
from chaoslab.scenario import AbortConditions, AbortProbe
from tests.faults.test_network import Echo
from tests.test_processes import until
from tests.test_survival import injecting, ours

CONDITIONS = AbortConditions(error_rate_percent=50, consecutive_failures=4, response_time_ms=1000, window_seconds=10)


def live(**changes: object) -> Live:
    """A target that fares well, as seen over a full window, with some of it changed."""
    well: dict[str, object] = {
        "at_us": 60_000_000,
        "scheduled": 1200,
        "successes_1s": 20,
        "failures_1s": 0,
        "failing_since_us": None,
        "window_count": 200,
        "window_failures": 0,
        "window_filled_s": 10.0,
        "median_latency_us": 1000,
    }
    return Live(**(well | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (live(), ""),
        (None, ""),
        (live(failing_since_us=60_000_000 - 19_900_000), ""),
        (live(failing_since_us=60_000_000 - 20_000_000), r"no probe has succeeded for 20\.0 s"),
        (live(window_failures=100), ""),
        (live(window_failures=101), "50% of probes failed|51% of probes failed"),
        (live(window_failures=200, window_filled_s=9.9), ""),
        (live(median_latency_us=1_000_001), "the median response took 1000 ms"),
        (live(median_latency_us=None), ""),
        (live(at_us=56_000_000), r"the prober has said nothing for 4\.0 s"),
    ],
)
def test_abort_conditions_hold_exactly_where_the_file_says(seen: Live | None, words: str) -> None:
    reason = abort_reason(seen, CONDITIONS, at_us=60_000_000, check_interval=5)
    assert re.fullmatch(f".*({words}).*", reason) if words else reason == ""


def test_conditions_that_the_file_does_not_give_never_hold() -> None:
    suffering = live(failing_since_us=0, window_failures=200)
    assert abort_reason(suffering, AbortConditions(), at_us=60_000_000, check_interval=5) == ""


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:80", True),
        ("http://localhost", True),
        ("http://192.0.2.1", False),
        ("http://no.invalid", False),
    ],
)
def test_the_targets_machine_is_told_from_this_one(url: str, local: bool) -> None:
    assert LocalHost().serves(url) is local


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        (AbortConditions(), ""),
        (AbortConditions(min_free_memory_percent=100), "MB of memory are free"),
        (AbortConditions(min_free_disk_mb=1e12), "MB are free on the campaign's disk"),
        (AbortConditions(max_load_per_core=1e9), ""),
    ],
)
def test_the_host_stops_a_fault_where_it_runs_short(conditions: AbortConditions, words: str, tmp_path: Path) -> None:
    reason = host_in_danger(tmp_path, conditions)
    assert words in reason if words else reason == ""


def test_a_high_load_stops_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 0.0, 0.0))
    assert "the load average is" in host_in_danger(tmp_path, AbortConditions(max_load_per_core=4))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("sh", "-c", "exit 3"), "the probe `sh -c 'exit 3'` ended with 3"),
        (("no-such-program",), "cannot be started"),
        (("sleep", "60"), "did not end within 0.2 s"),
    ],
)
def test_a_probe_of_the_users_stops_a_fault(command: tuple[str, ...], words: str) -> None:
    probe = UserProbe(AbortProbe(command=command, interval=0.1, timeout=0.2))
    until(lambda: words in probe.reason(), seconds=5)
    probe.close()


def test_a_probe_of_the_users_that_is_content_is_asked_again_and_again(tmp_path: Path) -> None:
    file = tmp_path / "asked"
    probe = UserProbe(AbortProbe(command=("sh", "-c", f"echo >> {file}"), interval=0.05))

    def asked_three_times() -> bool:
        assert probe.reason() == ""
        return file.exists() and len(file.read_text().splitlines()) >= 3

    until(asked_three_times, seconds=5)
    probe.close()


class Moody(Echo):
    """Answers well until it is told to be sick."""

    def do_GET(self) -> None:
        if self.server.sick:  # type: ignore[attr-defined]
            self.wfile.write(b"HTTP/1.1 503 Sick\r\nContent-Length: 0\r\n\r\n")
        else:
            self.answer(b"ok")


class Service(ThreadingHTTPServer):
    """A service that falls sick when the test says so."""

    sick = False
    daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(("127.0.0.1", 0), Moody) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def campaign(service: Service, folder: Path, config: str) -> subprocess.Popen[str]:
    """A campaign of one CPU stress of 20 s, with the safety settings given."""
    file = folder.with_suffix(".yml")
    scenario = "scenarios: [{name: Stress, type: cpu_stress, duration: 20, parameters: {cpu_workers: 1}}]\n"
    phases = "phases: {baseline_seconds: 2, recovery_seconds: 4}\n"
    file.write_text(scenario + phases + textwrap.dedent(config))
    options = ["--target", service.url, "--config", str(file), "--output", str(folder), "--repeats", "1"]
    argv = [sys.executable, "-m", "chaoslab", "run", *options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_an_abort_condition_cuts_the_fault_at_once_and_ends_with_5(
    service: Service, tmp_path: Path, state: Path
) -> None:
    folder = tmp_path / "campaign"
    config = """
        safety: {abort_conditions: {consecutive_failures: 2}}
        monitoring: {health_check: {interval: 0.5}}
    """
    with campaign(service, folder, config) as running:
        until(lambda: injecting(folder), seconds=30)
        service.sick = True
        _, complaint = running.communicate(timeout=15)
    assert running.returncode == 5
    assert "no probe has succeeded for 1." in complaint
    (run,) = store.Campaign.open(folder).runs
    assert run.state == "aborted"
    assert run.injection_us is not None
    assert run.recovery_us is not None
    assert run.recovery_us - run.injection_us < 15_000_000
    assert all(path.is_file() for path in (folder / "probes").iterdir())
    assert not ours(state)


def test_a_guardian_that_is_killed_ends_the_campaign_reverted(service: Service, tmp_path: Path, state: Path) -> None:
    folder = tmp_path / "campaign"
    with campaign(service, folder, "") as running:
        until(lambda: injecting(folder), seconds=30)
        (guardian,) = [process for process in ours(state) if "chaoslab.guardian" in process.cmdline()]
        guardian.kill()
        _, complaint = running.communicate(timeout=15)
    assert running.returncode == 5
    assert "the guardian process was killed" in complaint
    assert not ours(state)


def test_a_campaign_has_a_limit_of_its_own(service: Service, tmp_path: Path, state: Path) -> None:
    folder = tmp_path / "campaign"
    with campaign(service, folder, "safety: {max_total_duration_seconds: 10}\n") as running:
        _, complaint = running.communicate(timeout=60)
    assert running.returncode == 2
    assert "max_total_duration_seconds" in complaint
    assert not folder.exists()


def test_a_campaign_that_an_unforeseen_error_ends_is_not_on_record_as_finished(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("out of the blue")

    monkeypatch.setattr("chaoslab.experiment.run_campaign", broken)
    control = {"target": service.url, "scenarios": ["Control (no fault)"], "output": tmp_path / "campaign"}
    with pytest.raises(RuntimeError):
        experiment.run(**control)  # type: ignore[arg-type]
    assert store.Campaign.open(tmp_path / "campaign").meta["status"] == "failed"


def test_an_instrument_that_cannot_be_started_ends_the_campaign_in_one_sentence(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = {"target": service.url, "scenarios": ["Control (no fault)"], "output": tmp_path / "campaign"}
    monkeypatch.setattr("chaoslab.instruments.probe.Prober.module", "no.such.module")
    with pytest.raises(ChaoslabError, match=r"the prober ended before it was told to: .*no\.such\.module"):
        experiment.run(**control)  # type: ignore[arg-type]
    campaign = store.Campaign.open(tmp_path / "campaign")
    (run,) = campaign.runs
    assert (campaign.meta["status"], run.state) == ("failed", "aborted")
    assert "no.such.module" in run.reason


def test_a_way_round_that_cannot_be_started_is_a_fault_that_was_not_delivered(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(LocalHost, "hold", no_more)
    config = tmp_path / "file.yml"
    config.write_text("scenarios: [{name: Errors, type: http_fault, duration: 1, parameters: {status: 503}}]")
    campaign = experiment.run(target=service.url, config=config, repeats=1, output=tmp_path / "campaign")
    (run,) = campaign.runs
    assert run.state == "not_delivered"
    assert run.reason.endswith("it cannot be started: Resource temporarily unavailable")

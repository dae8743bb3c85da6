"""What was recorded survives: a `kill -9` of everything, and a disk that is full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from chaoslab import store, targets
from chaoslab.cli import main
from tests.conftest import missing
from tests.faults.test_network import Echo
from tests.test_processes import until


@pytest.fixture
def target() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def injecting(folder: Path) -> bool:
    return (folder / "journal.jsonl").exists() and "verified" in (folder / "journal.jsonl").read_text()


def run(target: str, folder: Path, *options: str) -> list[str]:
    scenario = ["--scenario", "Light CPU Stress", "--repeats", "3", "--duration-scale", "0.1"]
    return [sys.executable, "-m", "chaoslab", "run", "--target", target, *scenario, "--output", str(folder), *options]


def ours(state: Path) -> list[psutil.Process]:
    """Every process that works for the campaign of this state folder, this one excepted."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(targets.STATE_VARIABLE) == str(state):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_kill_of_everything_at_once_loses_at_most_the_last_second(
    target: str, tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "campaign"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(run(target, folder, "--probe-rate", "50"), **quiet) as process:  # type: ignore[call-overload]
        until(lambda: injecting(folder), seconds=30)
        time.sleep(0.5)  # some way into the injection
        killed_ns = time.monotonic_ns()
        for victim in ours(state):
            victim.kill()
        process.wait()
    campaign = store.Campaign.open(folder)
    last_us = int(campaign.probes["scheduled_us"].max()) + campaign.meta["anchor"]["monotonic_ns"] // 1000
    assert killed_ns / 1000 - last_us < 1_000_000
    assert {"baseline_started", "injection_started", "verified"} <= set(campaign.events["event"])
    (broken,) = campaign.runs
    assert broken.state == "broken"

    with pytest.raises(SystemExit) as ended:
        main(["recover"])
    assert ended.value.code == 0
    assert "cpu_stress by" in capsys.readouterr().out
    until(lambda: not ours(state))


def test_a_full_disk_ends_the_campaign_in_one_sentence_and_keeps_what_is_there(
    target: str, tmp_path: Path, state: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    command = " ".join(run(target, small / "campaign", "--probe-rate", "500"))
    command = command.replace("Light CPU Stress", "'Light CPU Stress'")
    probe = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs -o size=400k none {small}"]
    if subprocess.run(probe, capture_output=True).returncode:
        missing("mounting a small file system needs root")
    # The folder lies on a file system of this command's own: it is looked at from inside.
    script = f"mount -t tmpfs -o size=400k none {small} && {command}; echo $?; cat {small}/campaign/campaign.json"
    ended = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=60)
    (sentence,) = [line for line in ended.stderr.splitlines() if line.startswith("chaoslab:")]
    assert "MB are free on the campaign's disk; everything was reverted" in sentence
    assert "Traceback" not in ended.stderr
    code, _, meta = ended.stdout.partition("{")
    assert code.split()[-1] == "5"
    assert json.loads("{" + meta)["status"] == "stopped"
    assert not ours(state)

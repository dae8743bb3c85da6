"""container_crash: the victim, known by pid and start time, is really gone, and its supervisor brings it back."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaoslab.agent import processes
from chaoslab.errors import NotDelivered
from chaoslab.faults.container_crash import DockerContainer, SupervisedProcess, read_pid_file
from chaoslab.targets import Target
from tests.conftest import missing
from tests.faults.kit import deliver, scenario, surroundings

IMAGE = "chaoslab-test-busybox"

# A supervisor in a few lines: starts a sleeper, writes its pid file, starts another when it dies.
SUPERVISOR = """
import subprocess, sys
from chaoslab.agent import processes
while True:
    child = subprocess.Popen(["sleep", "60"])
    found = processes.identify(child.pid)
    open(sys.argv[1], "w").write(f"{found.pid} {found.start_ticks}")
    child.wait()
"""


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Target]:
    file = tmp_path / "pid"
    supervisor = processes.spawn([sys.executable, "-c", SUPERVISOR, str(file)], token="supervised-test")
    while read_pid_file(file) is None:
        time.sleep(0.01)
    yield Target(url="http://127.0.0.1:1", name="sleeper", build="", pid_file=str(file))
    processes.end_family("supervised-test")
    supervisor.wait()


def test_a_supervised_process_is_killed_and_comes_back(supervised: Target) -> None:
    before = read_pid_file(Path(supervised.pid_file))
    (dose,) = deliver(SupervisedProcess(), scenario("container_crash"), surroundings(supervised), seconds=0.1)
    assert (dose.asked, dose.delivered, dose.ok) == (1, 1, True)
    after = read_pid_file(Path(supervised.pid_file))
    assert before is not None
    assert after is not None
    assert not before.alive
    assert after.alive


def test_a_target_that_published_nothing_is_refused() -> None:
    assert "published" in str(SupervisedProcess().obstacle(scenario("container_crash"), surroundings()))


def test_a_stale_pid_file_is_refused_before_anything_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.write_text("1 123456789")
    target = Target(url="http://127.0.0.1:1", name="stale", build="", pid_file=str(file))
    with pytest.raises(NotDelivered, match="no living process"):
        SupervisedProcess().inject(scenario("container_crash"), surroundings(target), seconds=1, token="t")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image made of a static busybox: there is no registry in a test."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        missing("no Docker engine answers: apt-get install docker.io, and start dockerd")
    busybox = shutil.which("busybox")
    if busybox is None:
        missing("busybox is missing: apt-get install busybox-static")
    archive = tmp_path_factory.mktemp("image") / "root.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(str(busybox), "bin/busybox")
    subprocess.run(["docker", "import", str(archive), IMAGE], check=True, capture_output=True)
    return IMAGE


@pytest.fixture(params=["no", "always"])
def container(request: pytest.FixtureRequest, image: str) -> Iterator[str]:
    name = f"chaoslab-test-{request.param}"
    run = ["docker", "run", "--detach", "--network=none", f"--restart={request.param}", f"--name={name}", image]
    subprocess.run([*run, "/bin/busybox", "sleep", "600"], check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "rm", "--force", name], check=True, capture_output=True)


def test_a_container_is_killed_and_runs_again_with_and_without_a_restart_policy(container: str) -> None:
    asked = scenario("container_crash", container=container)
    (dose,) = deliver(DockerContainer(), asked, surroundings(), seconds=0.5)
    assert dose.ok
    expected = "its restart policy" if container.endswith("always") else "restarted by Docker"
    assert expected in dose.mechanism
    state = subprocess.run(["docker", "inspect", "-f", "{{.State.Status}}", container], capture_output=True, text=True)
    assert state.stdout.strip() == "running"


def test_a_container_that_does_not_exist_is_refused_and_those_that_run_are_named(image: str) -> None:
    obstacle = DockerContainer().obstacle(scenario("container_crash", container="none-such"), surroundings())
    assert "there is no container 'none-such'; running:" in str(obstacle)

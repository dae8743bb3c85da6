"""Victims that tests share: containers, and a shop with its database."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaoslab.demo import launch
from chaoslab.demo.premises import Premises
from chaoslab.targets import Target, find
from tests.conftest import missing

IMAGE = "chaoslab-test-busybox"


@pytest.fixture(scope="session")
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


@pytest.fixture
def run_container(image: str) -> Iterator[Callable[..., str]]:
    """Runs containers that sleep, with options of `docker run`; all are removed with the test."""
    names: list[str] = []

    def run(*options: str) -> str:
        names.append(f"chaoslab-test-{secrets.token_hex(4)}")
        argv = ["docker", "run", "--detach", "--network=none", *options, f"--name={names[-1]}", image]
        subprocess.run([*argv, "/bin/busybox", "sleep", "600"], check=True, capture_output=True)
        return names[-1]

    yield run
    if names:
        subprocess.run(["docker", "rm", "--force", *names], capture_output=True)


def inspect(container: str, key: str) -> str:
    """A part of a container's state, as Docker's own client prints it."""
    argv = ["docker", "inspect", "-f", f"{{{{.State.{key}}}}}", container]
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Premises, Target]]:
    """The embedded shop, open, with what it has published."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAOSLAB_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        folder = Path(tempfile.mkdtemp(prefix="chaoslab-shop-"))
        with launch(folder=folder, build="fragile", token=f"test-shop-{secrets.token_hex(6)}") as opened:
            target = find(opened.url)
            assert target is not None
            yield Premises.at(folder), target
        shutil.rmtree(folder, ignore_errors=True)

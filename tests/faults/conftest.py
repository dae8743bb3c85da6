"""What the fault tests share: containers, a shop with its database, and network namespaces."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaoslab.demo import launch
from chaoslab.demo.premises import Premises
from chaoslab.targets import Target, find
from tests.conftest import missing
from tests.faults import kit
from tests.machines import make_image
from tests.namespaces import own_network


@pytest.fixture(scope="session")
def image() -> str:
    """An image made of a static busybox."""
    return make_image()


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


@pytest.fixture
def namespace(need: Callable[[str, str], None]) -> Iterator[None]:
    """Take this thread, and what it starts, into a network namespace that goes with the test."""
    for program, package in (("ip", "iproute2"), ("nft", "nftables"), ("iptables", "iptables")):
        need(program, f"apt-get install {package}")
    if os.geteuid() != 0:
        missing("network namespaces need root")
    with own_network():
        kit.open_tables()
        yield

"""Shops for tests: real ones, in folders of their own, of which nothing may be left."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaoslab import targets
from chaoslab.agent import processes
from chaoslab.demo import Launched, database, launch, teardown
from chaoslab.demo.premises import Premises


def until(condition: Callable[[], bool], *, seconds: float = 15.0) -> None:
    """Wait until `condition` holds; fail when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@dataclass(frozen=True)
class Site:
    """Where a shop is to live, and the token that its processes are to carry."""

    folder: Path
    token: str

    @property
    def premises(self) -> Premises:
        return Premises.at(self.folder)

    def launch(self, build: str, *, port: int = 0) -> Launched:
        return launch(folder=self.folder, build=build, port=port, token=self.token)

    def left(self) -> list[str]:
        """What is left of the shop: processes, its folder, its publication."""
        members = processes.family(self.token) | database.server_processes(self.premises)
        folder = [str(self.folder)] if self.folder.exists() else []
        return [*map(str, members), *folder, *map(str, targets.folder("targets").iterdir())]


@pytest.fixture
def site() -> Iterator[Site]:
    # Not pytest's own folder: nobody else may pass through it, and its path is too long for a socket.
    site = Site(Path(tempfile.mkdtemp(prefix="chaoslab-shop-")), f"test-shop-{secrets.token_hex(6)}")
    yield site
    if site.premises.occupied:
        teardown.clear(site.premises)
    shutil.rmtree(site.folder, ignore_errors=True)

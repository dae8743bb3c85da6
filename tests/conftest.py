"""Fixtures that every test shares."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chaoslab import targets


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, so that no test sees another's journals or the user's."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv(targets.STATE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def need() -> Callable[[str, str], None]:
    """Skip a test when a program is missing, saying what installs it; with CHAOSLAB_REQUIRE_ALL=1 that is a failure."""

    def need(program: str, install: str) -> None:
        if shutil.which(program) is None:
            missing(f"{program} is missing: {install}")

    return need


def missing(reason: str) -> None:
    """Skip, or fail where every part is required."""
    if os.environ.get("CHAOSLAB_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)

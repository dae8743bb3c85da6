"""The shop's commands as argv, so that each can be run, journalled and published. `__main__` obeys them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, Literal

_PROGRAM: Final = (sys.executable, "-m", "chaoslab.demo")


def serve_command(*, folder: Path, build: str, port: int = 0) -> tuple[str, ...]:
    """Return the argv that runs a shop in the foreground, until its stdin ends."""
    return (*_PROGRAM, "serve", *_folder(folder), "--build", build, "--port", str(port))


def stop_command(*, folder: Path) -> tuple[str, ...]:
    """Return the argv that ends the shop in `folder`, after any crash too; it is done within 2 s, and idempotent."""
    return (*_PROGRAM, "stop", *_folder(folder))


def database_command(action: Literal["stop", "start", "check"], *, folder: Path) -> tuple[str, ...]:
    """Return the argv that takes the shop's database away, brings it back, or looks whether it answers."""
    return (*_PROGRAM, "database", action, *_folder(folder))


def service_command(*, folder: Path, build: str, port: int, supervisor: int) -> tuple[str, ...]:
    """Return the argv of the service alone, which dies with the process `supervisor`, its parent."""
    where = ("--port", str(port), "--supervisor", str(supervisor))
    return (*_PROGRAM, "service", *_folder(folder), "--build", build, *where)


def _folder(folder: Path) -> tuple[str, str]:
    return "--folder", str(folder.resolve())

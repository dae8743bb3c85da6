"""Where chaoslab keeps its own state, and the targets that published how they can be controlled.

A service that wants to be broken without Docker publishes a file in `folder("targets")`: where its supervisor keeps
the pid of the service, and the commands that stop, start and check its database. The embedded target does so.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import platformdirs

from chaoslab.errors import ChaoslabError

STATE_VARIABLE: Final = "CHAOSLAB_STATE_DIR"
_PRIVATE: Final = 0o700
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def place(name: str) -> Path:
    """Return where the folder `name` of this user's state on this machine is; it need not be there."""
    base = os.environ.get(STATE_VARIABLE)
    return (Path(base) if base else platformdirs.user_state_path("chaoslab")) / name


def folder(name: str) -> Path:
    """Return the folder `name` of this user's state on this machine, made if need be; nobody else may enter it (0700).

    Raises:
        ChaoslabError: it cannot be made.
    """
    path = place(name)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if stat.S_IMODE(path.stat().st_mode) != _PRIVATE:
            path.chmod(_PRIVATE)
    except OSError as error:
        raise ChaoslabError(
            f"the state folder {path} cannot be made: {error.strerror}; set {STATE_VARIABLE} to one that can"
        ) from error
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseControl:
    """Commands that control a database: argv each.

    `start` is idempotent and exits 0 once the database answers, or nothing is left that could; `check` exits 0 while
    it answers, 126 or 127 where there is no telling, and anything else while it refuses.
    """

    kind: str
    stop: tuple[str, ...]
    start: tuple[str, ...]
    check: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A published target. `pid_file` holds "PID START_TICKS" of the service, rewritten at each start."""

    url: str
    name: str
    build: str
    pid_file: str
    database: DatabaseControl | None = None


def _file(url: str) -> Path:
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    host = "127.0.0.1" if parts.hostname in ("localhost", "::1", None) else parts.hostname
    return place("targets") / f"{host}-{port}.json"


def publish(target: Target) -> None:
    """Make `target` known to every chaoslab command of this user, in one piece."""
    path = folder("targets") / _file(target.url).name
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(target)), encoding="utf-8")
    temporary.replace(path)


def withdraw(url: str) -> None:
    """Forget the target at `url`; one that is not known is no error."""
    _file(url).unlink(missing_ok=True)


def find(url: str) -> Target | None:
    """Return what the service at `url` published, or None."""
    try:
        fields: dict[str, Any] = json.loads(_file(url).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    database = fields.pop("database")
    control = None
    if database is not None:
        commands = {name: tuple(database[name]) for name in ("stop", "start", "check")}
        control = DatabaseControl(kind=database["kind"], **commands)
    return Target(database=control, **fields)

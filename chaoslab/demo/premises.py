"""The folder that a shop lives in: what lies where, and how it is known for a shop's.

The state file is the first thing written to the folder, and goes with it: whatever lies beside it is the shop's, and no
process of the shop was ever started without it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from chaoslab.agent.processes import Identity
from chaoslab.errors import UsageError

DATABASE_PORT: Final = 5432
_LONGEST_SOCKET_PATH: Final = 107  # sun_path of unix(7), less its final zero
_TAIL_LINES: Final = 15


@dataclass(frozen=True, slots=True)
class Premises:
    """The folder of one shop. `path` is absolute, without symbolic links."""

    path: Path

    @classmethod
    def at(cls, folder: Path) -> Self:
        """Return the premises in `folder`, whether or not anything is there."""
        return cls(folder.resolve())

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder, which holds its socket too: its owner alone may enter."""
        return self.path / "data"

    @property
    def socket(self) -> Path:
        """Where PostgreSQL listens."""
        return self.data / f".s.PGSQL.{DATABASE_PORT}"

    @property
    def postgres(self) -> Path:
        """The shop's own copy of PostgreSQL, made only where the installed one cannot be used."""
        return self.path / "postgres"

    @property
    def pid_file(self) -> Path:
        """Where the supervisor keeps "PID START_TICKS" of the service."""
        return self.path / "service.pid"

    @property
    def url_file(self) -> Path:
        """Where the service answers."""
        return self.path / "url"

    @property
    def service_log(self) -> Path:
        """What the service printed."""
        return self.path / "service.log"

    @property
    def database_log(self) -> Path:
        """What PostgreSQL printed."""
        return self.path / "postgres.log"

    @property
    def database_lock(self) -> Path:
        """Held while the database is being started or stopped."""
        return self.path / "database.lock"

    @property
    def _state_file(self) -> Path:
        return self.path / "state.json"

    @property
    def occupied(self) -> bool:
        """Whether there is a shop, or what is left of one."""
        return self._state_file.exists()

    @property
    def token(self) -> str | None:
        """The token of the shop's processes; None when there is no shop, or one that never started a process."""
        try:
            token = json.loads(self._state_file.read_text(encoding="utf-8"))["token"]
        except (FileNotFoundError, ValueError):
            return None
        return str(token)

    @property
    def url(self) -> str | None:
        """Where the shop's service answers, once that is decided."""
        try:
            return self.url_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def occupy(self, token: str) -> None:
        """Make the folder if need be, and mark it as the shop's whose processes carry `token`.

        Doing so again with the same token is fine.

        Raises:
            UsageError: the folder cannot be made, is another's or not empty, or its path is too long for a socket.
        """
        if len(os.fsencode(self.socket)) > _LONGEST_SOCKET_PATH:
            raise UsageError(
                f"the path of PostgreSQL's socket, {self.socket}, is too long; accepted: {_LONGEST_SOCKET_PATH} bytes"
            )
        try:
            self._occupy(token)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be the shop's folder: {error.strerror}") from error

    def _occupy(self, token: str) -> None:
        self.path.mkdir(mode=0o700, exist_ok=True)
        if self.occupied:
            if self.token != token:
                raise UsageError(f"{self.path} holds another shop already; accepted: a new or empty folder")
            return
        if self.path.stat().st_uid != os.geteuid():
            raise UsageError(f"{self.path} belongs to another user; accepted: a new folder, or an empty one of yours")
        if any(self.path.iterdir()):
            raise UsageError(f"{self.path} is not empty; accepted: a new or empty folder")
        # PostgreSQL does not run as root, and must pass through root's folder as somebody else.
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        descriptor = os.open(self._state_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"token": token}, file)

    def require(self) -> None:
        """Raise UsageError when there is no shop."""
        if not self.occupied:
            raise UsageError(f"there is no shop in {self.path}")

    def note_service(self, service: Identity) -> None:
        """Write the pid file in one piece."""
        temporary = self.pid_file.with_suffix(".tmp")
        temporary.write_text(f"{service.pid} {service.start_ticks}\n")
        temporary.replace(self.pid_file)

    def last_words(self) -> str:
        """Return the last lines of the logs, each under its file's name."""
        return "\n".join(_tail(log) for log in (self.database_log, self.service_log) if log.exists())

    @property
    def removed(self) -> Path:
        """What the folder is called while it is being removed."""
        return self.path.with_name(f"{self.path.name}.removed")

    def vacate(self) -> None:
        """Remove the folder; one that is gone already is fine.

        It is renamed first: whoever starts something in it meanwhile finds no shop, and leaves nothing there.

        Raises:
            UsageError: the folder holds something, and is not a shop's.
            OSError: it cannot be removed, or changes meanwhile.
        """
        if self.path.exists():
            if not self.occupied and any(self.path.iterdir()):
                raise UsageError(f"{self.path} is not a shop's folder; it is left alone")
            self.path.rename(self.removed)
        if self.removed.exists():
            shutil.rmtree(self.removed)


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"{log.name}:", *(f"  {line}" for line in lines[-_TAIL_LINES:])])

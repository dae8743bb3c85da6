"""Which scenario files may run the commands that they name without `--allow-commands`: those that the user trusts.

`chaoslab trust FILE` notes the path of a scenario file and the SHA-256 of its bytes in a file of the user's own. A file
that has changed since is not trusted any more, and none can say of itself that it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs

from chaoslab.errors import UsageError

CONFIG_VARIABLE: Final = "CHAOSLAB_CONFIG_DIR"
WAYS: Final = "--allow-commands, or `chaoslab trust FILE` once for the file as it is"
"""How a scenario file gets to run its commands, for messages."""

_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def store() -> Path:
    """Return the file in which trust is kept; it need not be there."""
    base = os.environ.get(CONFIG_VARIABLE)
    return (Path(base) if base else platformdirs.user_config_path("chaoslab")) / "trust.json"


def digest(content: bytes) -> str:
    """Return what a scenario file is known by: the SHA-256 of its bytes, as sha256sum(1) prints it."""
    return hashlib.sha256(content).hexdigest()


def trusted() -> Mapping[str, str]:
    """Return the digests of the trusted files by their absolute paths.

    Raises:
        UsageError: the store cannot be read, or somebody else could have written it.
    """
    path = store()
    try:
        with path.open("rb") as file:
            _require_own(path, os.fstat(file.fileno()))
            _require_own(path.parent, path.parent.stat())
            found = json.load(file)["files"]
            return {str(name): str(value) for name, value in found.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} holds no trusted files: remove it, and trust them again") from error


def allows(source: Path, content_digest: str) -> bool:
    """Return whether the user trusts the scenario file `source` as it was read; `content_digest` is what was read.

    A store that cannot be relied on is passed over, with a line on standard error.
    """
    try:
        return trusted().get(_known_as(source)) == content_digest
    except UsageError as problem:
        print(f"chaoslab: no scenario file is trusted: {problem}", file=sys.stderr)
        return False


def add(source: Path, content_digest: str) -> None:
    """Trust the scenario file `source` as long as its bytes have that digest.

    Raises:
        UsageError: as `trusted`, or the store cannot be written.
    """
    _write({**trusted(), _known_as(source): content_digest})


def remove(source: Path) -> None:
    """Trust the scenario file `source` no more.

    Raises:
        UsageError: it is not trusted, as `trusted`, or the store cannot be written.
    """
    files = dict(trusted())
    if files.pop(_known_as(source), None) is None:
        raise UsageError(f"{source} is not trusted; trusted: {', '.join(files) or 'none'}")
    _write(files)


def _known_as(source: Path) -> str:
    return str(source.resolve())


def _require_own(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise UsageError(f"{path} belongs to another user (uid {found.st_uid})")
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise UsageError(f"others than its owner may write {path}: chmod go-w {path}")


def _write(files: Mapping[str, str]) -> None:
    path = store()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"files": dict(files)}, file, indent=2, sort_keys=True)
            file.write("\n")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error

"""Files that come with the package: in an installed wheel they lie below it, in a checkout beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from chaoslab.errors import ChaoslabError

_PACKAGE: Final = Path(__file__).resolve().parent
_PLACES: Final = (_PACKAGE / "_share", _PACKAGE.parent)
_LAB: Final = (("notebooks",), ("data", "scenarios.yml"), ("data", "reference"), ("data", "coverage"))
_NOT_OURS: Final = (".*", "__pycache__", "*.py", "campaigns", "batches")
"""What somebody who works in the notebooks of a checkout leaves there."""


def _find(*parts: str) -> Path:
    for place in _PLACES:
        if (found := place.joinpath(*parts)).exists():
            return found
    raise ChaoslabError(f"{parts[-1]} is missing from this installation of chaoslab; install it again")


def scenario_file() -> Path:
    """Return the shipped scenario file."""
    return _find("data", "scenarios.yml")


def notebook(name: str) -> Path:
    """Return the shipped notebook `name`."""
    return _find("notebooks", name)


def copy_lab(folder: Path) -> None:
    """Copy the notebooks into `folder`, and beside them the scenarios and the real campaigns on which they open.

    Raises:
        OSError: it cannot be written, or holds them already.
    """
    for part in _LAB:
        source = _find(*part)
        target = folder.joinpath(*part)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_NOT_OURS))
        else:
            shutil.copy(source, target)

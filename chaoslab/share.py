"""Files that come with the package: in a checkout they lie beside it, in an installed wheel below it."""

from __future__ import annotations

from pathlib import Path

from chaoslab.errors import ChaoslabError

_PACKAGE = Path(__file__).resolve().parent


def _find(*candidates: Path) -> Path:
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise ChaoslabError(f"{candidates[0].name} is missing from this installation of chaoslab; install it again")


def scenario_file() -> Path:
    """Return the shipped scenario file."""
    return _find(_PACKAGE.parent / "data" / "scenarios.yml", _PACKAGE / "_share" / "scenarios.yml")


def notebook(name: str) -> Path:
    """Return the shipped notebook `name`."""
    return _find(_PACKAGE.parent / "notebooks" / name, _PACKAGE / "_share" / "notebooks" / name)

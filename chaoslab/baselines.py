"""Baselines: campaigns that are kept under a name, to hold later ones against.

    data/baselines/NAME/campaign.json, probes/ resources/ events/     the record, as `store` knows it
                        baseline.json                                 name, when it was saved, from which campaign

A baseline is whole or not there: it is copied beside its place, read once, and renamed. One that is replaced is moved
aside first and comes back if the new one cannot take its place, also when the process was killed in between.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from chaoslab.analysis import Analysis, analyse
from chaoslab.errors import CampaignFolderError, UsageError, nearest
from chaoslab.records import TABLES
from chaoslab.store import CAMPAIGN_FILE, Campaign, write_json

FOLDER_VARIABLE: Final = "CHAOSLAB_BASELINES"
DEFAULT_FOLDER: Final = Path("data") / "baselines"
BASELINE_FILE: Final = "baseline.json"
ENOUGH_RUNS: Final = 10
"""Runs of a baseline against which three of a candidate are enough, for up to seven scenarios."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ACCEPTED: Final = "up to 64 letters, digits, dots, dashes and underscores, the first a letter or digit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A stored baseline; `runs` are its usable runs by scenario."""

    name: str
    path: Path
    saved_at: str
    campaign: str
    target: str
    build: str | None
    runs: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self) | {"path": str(self.path), "runs": dict(self.runs)}


def base_folder(folder: Path | None = None) -> Path:
    """Return where baselines are: `folder`, else what the environment names, else `data/baselines` from here."""
    return folder or Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER)


def save(campaign: Path | str, name: str, *, folder: Path | None = None, force: bool = False) -> Baseline:
    """Keep the record of the campaign in the folder `campaign` as the baseline `name`; reports are not kept.

    Raises:
        UsageError: a bad name, a name that is taken (without `force`), or a campaign without a usable run.
        CampaignFolderError: not a campaign, one that still runs, or a folder that cannot be written.
    """
    _check(name)
    source = Campaign.open(campaign)
    if source.meta.get("status") == "running":
        raise CampaignFolderError(f"{source.path} is still running, or was killed: `chaoslab run --resume` finishes it")
    if not _usable(analyse(source)):
        raise UsageError(f"{source.path} has no usable run to hold anything against: `chaoslab validate` says why")
    base = base_folder(folder)
    place = base / name
    try:
        base.mkdir(parents=True, exist_ok=True)
        _heal(place)
        if place.exists() and not force:
            raise UsageError(f"there is a baseline {name!r} in {base} already; --force replaces it")
        copy = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".new", dir=base))
        try:
            _copy(source, copy, name)
            found = _read(copy, name)
            _install(copy, place)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
    except OSError as error:
        raise CampaignFolderError(f"{place} cannot be written: {error.strerror or error}") from error
    return replace(found, path=place)


def stored(folder: Path | None = None) -> list[Baseline]:
    """Return the baselines by name.

    Raises:
        CampaignFolderError: one of them is damaged.
    """
    base = base_folder(folder)
    for aside in sorted(base.glob(".*.replaced")):
        _heal(base / aside.name[1 : -len(".replaced")])
    return [_read(path, path.name) for path in _folders(base)]


def load(name: str, *, folder: Path | None = None) -> Baseline:
    """Return the baseline `name`.

    Raises:
        UsageError: a bad name, or there is none of that name.
        CampaignFolderError: it is damaged.
    """
    return _read(_place(name, folder), name)


def find(path_or_name: Path | str, *, folder: Path | None = None) -> Campaign:
    """Open a campaign by its folder, or a baseline by its name; a folder goes first.

    Raises:
        UsageError: neither.
        CampaignFolderError: not a campaign, or damaged.
    """
    text = str(path_or_name)
    if Path(text).is_dir() or not _NAME.fullmatch(text):
        return Campaign.open(text)
    place = _place(text, folder)
    _saved_at(place)  # damaged there, it is not whole
    return Campaign.open(place)


def _place(name: str, folder: Path | None) -> Path:
    """Return the folder of the baseline `name`; UsageError where there is none."""
    _check(name)
    base = base_folder(folder)
    _heal(base / name)
    if not (base / name / BASELINE_FILE).is_file():
        names = [path.name for path in _folders(base)]
        there = ", ".join(names) or "none"
        raise UsageError(f"no baseline {name!r} in {base}{nearest(name, names)}; there: {there}")
    return base / name


def _folders(base: Path) -> list[Path]:
    return [path for path in sorted(base.glob("*")) if (path / BASELINE_FILE).is_file()]


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"a baseline cannot be called {name!r}; accepted: {_ACCEPTED}")


def _copy(source: Campaign, copy: Path, name: str) -> None:
    for table in TABLES:
        if (source.path / table).is_dir():
            shutil.copytree(source.path / table, copy / table, ignore=shutil.ignore_patterns(".*"))
    shutil.copyfile(source.path / CAMPAIGN_FILE, copy / CAMPAIGN_FILE)
    saved_at = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(copy / BASELINE_FILE, {"name": name, "saved_at": saved_at, "campaign": source.name})
    copy.chmod(0o755 & ~_umask())


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _install(copy: Path, place: Path) -> None:
    """Put the copy in its place; what was there stays beside it until then."""
    aside = _aside(place)
    if place.exists():
        place.rename(aside)
    try:
        copy.rename(place)
    except BaseException:
        _heal(place)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.replaced")


def _heal(place: Path) -> None:
    """Bring back what was moved aside for a replacement that never came."""
    aside = _aside(place)
    if not aside.exists():
        return
    if place.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.rename(place)


def _read(path: Path, name: str) -> Baseline:
    campaign, saved_at = Campaign.open(path), _saved_at(path)
    build = campaign.meta.get("target_build")
    return Baseline(
        name=name,
        path=path,
        saved_at=saved_at,
        campaign=campaign.name,
        target=str(campaign.meta.get("target")),
        build=None if build is None else str(build),
        runs=_usable(analyse(campaign)),
    )


def _saved_at(path: Path) -> str:
    try:
        return str(json.loads((path / BASELINE_FILE).read_text(encoding="utf-8"))["saved_at"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CampaignFolderError(f"{path / BASELINE_FILE} is damaged: {error!r}") from error


def _usable(analysis: Analysis) -> dict[str, int]:
    return {result.name: len(result.runs) for result in analysis.scenarios if result.runs}

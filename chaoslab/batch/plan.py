"""The batch file: which notebooks, with which parameters; everything is checked before anything runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chaoslab import share
from chaoslab.errors import ChaoslabError, UsageError, nearest

_MOST_JOBS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One execution of one notebook; `injects` says that nothing else may run meanwhile."""

    number: int
    notebook: Path
    parameters: Mapping[str, Any]
    injects: bool

    @property
    def slug(self) -> str:
        """File name of what comes of it, without an ending."""
        return f"{self.number:03d}-{self.notebook.stem}"

    def words(self) -> str:
        """Return the parameters as text."""
        return ", ".join(f"{name} = {value}" for name, value in self.parameters.items())


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Entry(_Model):
    notebook: str
    parameters: Mapping[str, Any] = {}
    matrix: Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = {}


class _File(_Model):
    notebooks: Annotated[tuple[_Entry, ...], Field(min_length=1)]


def load(path: Path) -> tuple[Job, ...]:
    """Return the jobs of the batch file at `path`, in its order; the last name of a matrix changes fastest.

    Raises:
        UsageError: the file, a notebook or a parameter is not accepted; the message names the place.
    """
    entries = _parse(path).notebooks
    combinations = [(entry, given) for entry in entries for given in _combinations(entry, path)]
    if len(combinations) > _MOST_JOBS:
        raise UsageError(f"{path} asks for {len(combinations)} executions; accepted: up to {_MOST_JOBS}")
    jobs = tuple(_job(number, entry, given, path) for number, (entry, given) in enumerate(combinations, 1))
    _check(jobs, path)
    return jobs


def _parse(path: Path) -> _File:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise UsageError(f"{path}{f':{mark.line + 1}' if mark else ''} is not YAML: {_first_line(error)}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds {type(document).__name__}; accepted: a mapping with the key notebooks")
    try:
        return _File.model_validate(document)
    except ValidationError as error:
        raise UsageError("\n".join(f"{path}: {_explain(fault)}" for fault in error.errors()[:20])) from error


def _explain(fault: Any) -> str:
    *where, last = fault["loc"]
    place = ".".join(map(str, where)) or "the top"
    accepted = list((_Entry if where else _File).model_fields)
    if fault["type"] == "extra_forbidden":
        return f"{place}: no key is called {str(last)!r}{nearest(str(last), accepted)}; accepted: {', '.join(accepted)}"
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _combinations(entry: _Entry, path: Path) -> list[dict[str, Any]]:
    if both := sorted(set(entry.parameters) & set(entry.matrix)):
        raise UsageError(f"{path}: {entry.notebook}: {both[0]} stands under parameters and under matrix")
    return [
        {**entry.parameters, **dict(zip(entry.matrix, values, strict=True))}
        for values in itertools.product(*entry.matrix.values())
    ]


def _job(number: int, entry: _Entry, given: Mapping[str, Any], path: Path) -> Job:
    from chaoslab.report import notebook

    source = _find(entry.notebook, path)
    notebook.check_parameters(source, given)
    said = notebook.read(source).metadata.get("chaoslab", {})
    # Whoever does not say that a notebook injects nothing is taken to inject: two at once would spoil both.
    return Job(number=number, notebook=source, parameters=given, injects=said.get("injects") is not False)


def _find(name: str, path: Path) -> Path:
    beside = path.parent / name
    if beside.is_file():
        return beside
    try:
        return share.notebook(name)
    except ChaoslabError:
        known = sorted(file.name for file in share.notebook("03_resilience_report.ipynb").parent.glob("*.ipynb"))
        raise UsageError(
            f"{path}: there is no notebook {name!r} beside it{nearest(name, known)}; "
            f"with chaoslab come: {', '.join(known)}"
        ) from None


def _check(jobs: Sequence[Job], path: Path) -> None:
    """See that no two jobs write one campaign folder."""
    written = [str(job.parameters["output"]) for job in jobs if job.injects and job.parameters.get("output")]
    for folder in written:
        if written.count(folder) > 1:
            raise UsageError(f"{path}: several executions would write the campaign folder {folder}")

"""A campaign folder ⇄ tables.

    campaign.json                   what ran: configuration, versions, host, seed, target, order, anchor
    probes/ resources/ events/      Parquet, one file a run; while a run lasts, a folder of small parts
    journal.jsonl                   every step's do and undo

Each table's folder is a Parquet data set as it stands: pandas, DuckDB and Polars read it directly. A part is written
beside its place and renamed, so that whoever kills us finds whole files or none. The last part grows by being written
anew: a run of many hours then has few parts, and they are joined soon and in little memory.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from chaoslab import campaign_file
from chaoslab.errors import CampaignFolderError, DryRun
from chaoslab.records import SCHEMA_VERSION, TABLES, Dose, Event, RunState

if TYPE_CHECKING:
    import pandas as pd

CAMPAIGN_FILE: Final = "campaign.json"
_TEMPORARY: Final = ".tmp"
_PRIVATE: Final = 0o700
_PART_ROWS: Final = 1024
_GROUP_ROWS: Final = 262_144
_ORDERS: Final = {
    "probes": ["scenario", "repeat", "scheduled_us", "seq"],
    "resources": ["scenario", "repeat", "at_us"],
    "events": ["at_us"],
}
_LONGEST_US: Final = 10 * 366 * 86_400 * 10**6
_ONCE: Final = frozenset(
    {
        Event.BASELINE_STARTED,
        Event.STEADY_STATE,
        Event.INJECTION_STARTED,
        Event.RECOVERY_STARTED,
        Event.FAULT_OVER,
        Event.RUN_FINISHED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """Names one run: `index` is its place in the campaign's order, `repeat` counts from 1."""

    campaign: str
    scenario: str
    repeat: int
    index: int

    @property
    def slug(self) -> str:
        """A file name for the run, in the order of the campaign."""
        name = re.sub(r"[^a-z0-9]+", "-", self.scenario.lower()).strip("-")
        return f"{self.index:04d}-{name}-r{self.repeat}"


def write_json(path: Path, document: object) -> None:
    """Write `document` to `path` in one piece, keys sorted, so that equal content is equal bytes."""
    write_text(path, json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one piece; where that fails, what was there stays and nothing is left beside it."""
    temporary = path.with_name(path.name + _TEMPORARY)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class PartWriter:
    """Writes the rows of one run of one table as Parquet parts, and joins them when the run is over."""

    def __init__(self, folder: Path, table: str, key: RunKey) -> None:
        self._schema: pa.Schema = TABLES[table]
        self._key = key
        self._final = folder / table / f"{key.slug}.parquet"
        self._parts = self._final.with_suffix("")
        if recorded := _recorded(folder, table, key):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(recorded))
        self._parts.mkdir(parents=True, exist_ok=True)  # one that was killed before its first row has left it empty
        self._full = 0
        self._last = self._schema.empty_table()

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows from `columns` (all but the run's key), equal in length and not empty; they are on disk then.

        Raises:
            OSError: the disk is full or gone; rows written before are whole, and these are not among them.
        """
        length = len(next(iter(columns.values())))
        key = {
            "campaign": [self._key.campaign] * length,
            "scenario": [self._key.scenario] * length,
            "repeat": [self._key.repeat] * length,
        }
        everything = key | dict(columns)
        arrays = [pa.array(everything[name], type=self._schema.field(name).type) for name in self._schema.names]
        rows = pa.Table.from_arrays(arrays, schema=self._schema)
        grown = pa.concat_tables([self._last, rows]).unify_dictionaries().combine_chunks()
        _write_parquet([grown], self._schema, self._parts / f"part-{self._full:06d}.parquet")
        if len(grown) < _PART_ROWS:
            self._last = grown
        else:
            self._full += 1
            self._last = self._schema.empty_table()

    def compact(self) -> None:
        """Join the parts into the run's one file, and remove them."""
        parts = sorted(self._parts.glob("*.parquet"))
        if parts:
            _write_parquet(_grouped(map(_read, parts)), self._schema, self._final)
        _remove_parts(self._parts)


def _read(part: Path) -> pa.Table:
    with pq.ParquetFile(part) as file:
        return file.read(use_threads=False)


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of `tables` in tables of about `_GROUP_ROWS`, so that never all of them are in memory."""
    gathered: list[pa.Table] = []
    for table in tables:
        gathered.append(table)
        if sum(map(len, gathered)) >= _GROUP_ROWS:
            yield pa.concat_tables(gathered)
            gathered = []
    if gathered:
        yield pa.concat_tables(gathered)


def _write_parquet(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Write tables, each as a row group."""
    # Whoever reads the folder as one data set passes over names with a dot, also of what a kill has left half written.
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    delta = [name for name in ("seq", "scheduled_us", "at_us") if name in schema.names]
    options = {
        "compression": "zstd",
        "use_dictionary": [field.name for field in schema if pa.types.is_dictionary(field.type)],
        "column_encoding": dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
        "write_page_checksum": True,  # a flipped bit shall be damage, not another latency
    }
    try:
        with pq.ParquetWriter(temporary, schema, **options) as writer:
            for table in tables:
                writer.write_table(table.unify_dictionaries())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_parts(folder: Path) -> None:
    for part in folder.iterdir():
        part.unlink()
    folder.rmdir()


def require_empty(path: Path) -> None:
    """See that a campaign can be written to `path`: a new folder, or an empty one.

    Raises:
        CampaignFolderError: it holds something, or cannot be written.
    """
    try:
        if path.exists() and any(path.iterdir()):
            holds = "a campaign" if (path / CAMPAIGN_FILE).exists() else "other files"
            raise CampaignFolderError(f"{path} already holds {holds}; --output takes a new or an empty folder")
    except OSError as error:
        raise CampaignFolderError(f"{path} cannot be written: {error.strerror or error}") from error


def is_open(path: Path) -> bool:
    """Return whether `path` is a folder that others than its owner may enter, read or write; `create` ends that."""
    return path.is_dir() and stat.S_IMODE(path.stat().st_mode) & ~_PRIVATE != 0


def require_unrecorded(path: Path, key: RunKey) -> None:
    """See that nothing of the run `key` is on record in the campaign folder, so that it can be written.

    Raises:
        CampaignFolderError: something is.
    """
    for table in TABLES:
        if recorded := _recorded(path, table, key):
            raise CampaignFolderError(
                f"{recorded} holds rows of {key.scenario}, repeat {key.repeat}, which the events do not know; "
                "they are not written over: move the file away"
            )


def _recorded(folder: Path, table: str, key: RunKey) -> Path | None:
    """Return what holds rows of the run, if anything does."""
    parts = folder / table / key.slug
    found = [parts.with_name(f"{key.slug}.parquet"), *sorted(parts.glob("*.parquet"))]
    return next((path for path in found if path.exists()), None)


def create(path: Path, meta: Mapping[str, Any]) -> None:
    """Make the campaign folder at `path` and write `campaign.json`; nobody but its owner may enter it (mode 0700).

    That holds whatever the umask is, and for an empty folder that was there and open to others: see `is_open`.

    Raises:
        CampaignFolderError: it cannot be written, or already holds something.
    """
    require_empty(path)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
        if stat.S_IMODE(path.stat().st_mode) != _PRIVATE:
            path.chmod(_PRIVATE)
        write_json(path / CAMPAIGN_FILE, meta)
    except OSError as error:
        raise CampaignFolderError(f"{path} cannot be written: {error.strerror or error}") from error


def update(path: Path, **changes: Any) -> None:
    """Change keys of the campaign's `campaign.json`."""
    write_json(path / CAMPAIGN_FILE, json.loads((path / CAMPAIGN_FILE).read_text(encoding="utf-8")) | changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as its events tell it; instants are microseconds since the campaign's anchor, None where not reached.

    Baseline is [baseline_us, injection_us), injection is [injection_us, recovery_us), recovery is [recovery_us,
    finished_us). `fault_over_us` is the instant from which recovery time counts: the revert, or for a fault that
    is over when it is done (a kill), its delivery. `unsteady` is why it was not `steady`, where that is on record.
    """

    scenario: str
    repeat: int
    state: RunState
    reason: str
    steady: bool
    baseline_us: int
    injection_us: int | None
    recovery_us: int | None
    fault_over_us: int | None
    finished_us: int
    unsteady: str = ""
    doses: tuple[Dose, ...] = ()
    undo_failures: tuple[Mapping[str, Any], ...] = ()
    steps: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


class Campaign:
    """A campaign folder, read lazily; the tables are plain DataFrames."""

    def __init__(self, path: Path, meta: Mapping[str, Any]) -> None:
        self.path = path
        self.meta = meta

    @classmethod
    def open(cls, path: Path | str) -> Campaign:
        """Open the folder at `path`.

        Raises:
            CampaignFolderError: not a campaign, cut off, of a newer schema, or (DryRun) a dry run.
        """
        path = Path(path)
        file = path / CAMPAIGN_FILE
        try:
            if file.exists() and not file.is_file():
                raise CampaignFolderError(f"{file} cannot be read: it is not a file")
            meta = campaign_file.parse(file.read_text(encoding="utf-8"))
            version = int(meta["schema_version"])
            dry_run = bool(meta["dry_run"])
        except FileNotFoundError as error:
            raise CampaignFolderError(f"{path} is not a campaign folder: it holds no {CAMPAIGN_FILE}") from error
        except OSError as error:
            raise CampaignFolderError(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise CampaignFolderError(f"{file} is cut off or not a campaign's: {error!r}") from error
        if version > SCHEMA_VERSION:
            raise CampaignFolderError(
                f"{path} has schema version {version}; this chaoslab reads up to {SCHEMA_VERSION}: upgrade chaoslab"
            )
        try:
            campaign_file.check(meta)
        except ValueError as error:
            raise CampaignFolderError(f"{file} is damaged: {error}") from error
        if dry_run:
            raise DryRun(f"{path} is a dry run: nothing was injected, so there is nothing to analyse", meta)
        return cls(path, meta)

    @property
    def name(self) -> str:
        """The campaign's identifier."""
        return str(self.meta["campaign"])

    def __repr__(self) -> str:
        return f"Campaign({str(self.path)!r})"

    def _repr_html_(self) -> str:
        from chaoslab import display

        fields = {
            "folder": self.path,
            "target": self.meta.get("target"),
            "status": f"{self.meta.get('status', '')} {self.meta.get('reason') or ''}".strip(),
            "started": self.meta.get("started_at"),
            "seed": self.meta.get("seed"),
        }
        runs = [(run.scenario, run.repeat, run.state, run.reason) for run in self.runs]
        return display.card(self.name, fields) + display.table(["scenario", "repeat", "ended", "why"], runs)

    @cached_property
    def probes(self) -> pd.DataFrame:
        """One row a probe, ordered by run and schedule; columns as in `records.PROBES`."""
        return self._frame("probes", _files(self.path / "probes"))

    @cached_property
    def resources(self) -> pd.DataFrame:
        """One row a sample of the host; columns as in `records.RESOURCES`."""
        return self._frame("resources", _files(self.path / "resources"))

    @cached_property
    def events(self) -> pd.DataFrame:
        """One row an event, in the order in which they happened; columns as in `records.EVENTS`."""
        return self._frame("events", _files(self.path / "events"))

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The runs that were started, in order; one that left probes and no events is broken.

        Raises:
            CampaignFolderError: an event whose detail cannot be read.
        """
        groups = self.events.groupby(["scenario", "repeat"], sort=False, observed=True)
        try:
            told = tuple(_run(rows, self) for _, rows in groups)
            known = {(run.scenario, run.repeat) for run in told}
            untold = [key for key in self._recorded("probes") if key not in known]
            return told + tuple(_untold(*key, self._of("probes", *key)["scheduled_us"]) for key in untold)
        except (ValueError, KeyError, TypeError) as error:
            raise CampaignFolderError(
                f"{self.path / 'events'} holds an event that cannot be read: {error!r}"
            ) from error

    def probes_of(self, run: Run) -> pd.DataFrame:
        """Return the probes of one run, index from 0; only what is on disk of this run is read."""
        return self._of("probes", run.scenario, run.repeat)

    def resources_of(self, run: Run) -> pd.DataFrame:
        """Return the resource samples of one run, index from 0; only what is on disk of this run is read."""
        return self._of("resources", run.scenario, run.repeat)

    def _of(self, table: str, scenario: str, repeat: int) -> pd.DataFrame:
        files = self._files_of(table)
        if files is not None:
            return self._frame(table, files.get((scenario, repeat), []))
        rows = self._grouped(table).get((scenario, repeat))
        frame: pd.DataFrame = getattr(self, table)
        return (frame.iloc[:0] if rows is None else frame.iloc[rows]).reset_index(drop=True)

    def _recorded(self, table: str) -> list[tuple[str, int]]:
        """Return the runs that `table` has rows of."""
        files = self._files_of(table)
        keys = self._grouped(table) if files is None else files
        return [(str(scenario), int(repeat)) for scenario, repeat in keys]

    def _files_of(self, table: str) -> dict[tuple[str, int], list[Path]] | None:
        """Return the files of each run; None where a file holds more than one, as when others have written it."""
        cache = self.__dict__.setdefault("_files", {})
        if table not in cache:
            found: dict[tuple[str, int], list[Path]] = {}
            for file in _files(self.path / table):
                with _readable(file):
                    key = _only_run(pq.read_metadata(file))
                if key is None:
                    cache[table] = None
                    break
                found.setdefault(key, []).append(file)
            else:
                cache[table] = found
        files: dict[tuple[str, int], list[Path]] | None = cache[table]
        return files

    def _grouped(self, table: str) -> dict[Any, Any]:
        cache = self.__dict__.setdefault("_groups", {})
        if table not in cache:
            frame: pd.DataFrame = getattr(self, table)
            cache[table] = frame.groupby(["scenario", "repeat"], sort=False, observed=True).indices
        groups: dict[Any, Any] = cache[table]
        return groups

    def _frame(self, table: str, files: Sequence[Path]) -> pd.DataFrame:
        folder, schema = self.path / table, TABLES[table]
        with _readable(folder):
            tables = [_rows(file, schema) for file in files]
            rows = pa.concat_tables(tables).unify_dictionaries() if tables else schema.empty_table()
            for part in schema:
                if not part.nullable and rows[part.name].null_count:
                    raise CampaignFolderError(f"{folder}: the column {part.name!r} has rows without a value")
            frame: pd.DataFrame = rows.to_pandas()
        for name in {"scheduled_us", "at_us"} & set(frame.columns):
            if not frame[name].between(-_LONGEST_US, _LONGEST_US).all():
                raise CampaignFolderError(f"{folder}: {name!r} holds an instant years away from the campaign")
        if len(files) == 1 and _in_order(frame, table):
            return frame
        return frame.sort_values(_ORDERS[table], kind="stable", ignore_index=True)


def _in_order(frame: pd.DataFrame, table: str) -> bool:
    """Whether the rows of one file need no sorting: those of one run, each later than the one before it."""
    instants = frame["scheduled_us" if table == "probes" else "at_us"].to_numpy()
    one_run = table == "events" or (frame["scenario"].cat.codes.nunique() <= 1 and frame["repeat"].nunique() <= 1)
    return one_run and bool((instants[1:] > instants[:-1]).all())


def _only_run(metadata: pq.FileMetaData) -> tuple[str, int] | None:
    """Return the one run that a file's statistics say it holds; None for more than one, or where they say nothing."""
    places = {metadata.schema.column(place).path: place for place in range(metadata.num_columns)}
    found = set()
    for group in range(metadata.num_row_groups):
        for name in ("scenario", "repeat"):
            if name not in places:
                return None
            known = metadata.row_group(group).column(places[name]).statistics
            if known is None or not known.has_min_max:
                return None
            found |= {(name, known.min), (name, known.max)}
    values = dict(found)
    return (str(values["scenario"]), int(values["repeat"])) if len(found) == 2 and len(values) == 2 else None


def _rows(file: Path, schema: pa.Schema) -> pa.Table:
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        found = opened.read(use_threads=False)  # a run is small: threads cost more than they save
    missing = set(schema.names) - set(found.column_names)
    if missing:
        raise CampaignFolderError(f"{file.parent} lacks the column {sorted(missing)[0]!r} in {file.name}")
    return found.select(schema.names).cast(schema)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise CampaignFolderError(f"{path} is cut off or damaged: {said}") from error


def _files(folder: Path) -> list[Path]:
    """Whole files of runs, and the parts of runs that were never joined."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise CampaignFolderError(f"{folder} is not a folder")
    whole = sorted(folder.glob("*.parquet"))
    joined = {file.stem for file in whole}
    parts = [file for file in sorted(folder.glob("*/*.parquet")) if file.parent.name not in joined]
    for file in whole + parts:
        if not file.is_file():
            raise CampaignFolderError(f"{file} is not a file")
    return whole + parts


def _untold(scenario: str, repeat: int, scheduled_us: pd.Series[int]) -> Run:
    return Run(
        scenario=scenario,
        repeat=repeat,
        state=RunState.BROKEN,
        reason="the run has probes and no events: chaoslab was killed as it began, or they were removed",
        steady=False,
        baseline_us=int(scheduled_us.min()),
        injection_us=None,
        recovery_us=None,
        fault_over_us=None,
        finished_us=int(scheduled_us.max()),
    )


def _detail(text: str) -> dict[str, Any]:
    detail = campaign_file.parse(text)
    if not isinstance(detail, dict):
        raise ValueError(f"the detail {text[:60]!r} is no JSON object")
    if not isinstance(detail.get("fault", ""), str):
        raise ValueError(f"the fault {detail['fault']!r} is no name")
    return detail


def _run(rows: pd.DataFrame, campaign: Campaign) -> Run:
    scenario, repeat = str(rows["scenario"].iloc[0]), int(rows["repeat"].iloc[0])
    happened: dict[str, tuple[int, dict[str, Any]]] = {}
    steps: list[Mapping[str, Any]] = []
    for event, at_us, step, text in zip(rows["event"], rows["at_us"], rows["step"], rows["detail"], strict=True):
        detail = _detail(text)
        if event in _ONCE and event in happened:
            raise ValueError(f"{scenario}, repeat {repeat}, has two events {event}")
        happened.setdefault(str(event), (int(at_us), detail))
        steps.append({"event": str(event), "at_us": int(at_us), "step": step, "detail": detail})

    def at(event: Event) -> int | None:
        return happened[event][0] if event in happened else None

    finished = happened.get(Event.RUN_FINISHED)
    if finished is None:
        state, reason = RunState.BROKEN, "the run has no end: chaoslab was killed, or is still running"
        last = int(rows["at_us"].iloc[-1])
        seen = campaign._of("probes", scenario, repeat)["scheduled_us"]
        finished_us = max(last, int(seen.max())) if len(seen) else last
    else:
        state, reason, finished_us = RunState(finished[1]["state"]), str(finished[1]["reason"]), finished[0]
    _, looked = happened.get(Event.STEADY_STATE, (0, {}))
    return Run(
        scenario=scenario,
        repeat=repeat,
        state=state,
        reason=reason,
        steady=looked.get("steady", False) is True,
        unsteady=str(looked.get("reason", "")),
        baseline_us=int(rows["at_us"].iloc[0]),
        injection_us=at(Event.INJECTION_STARTED),
        recovery_us=at(Event.RECOVERY_STARTED),
        fault_over_us=at(Event.FAULT_OVER),
        finished_us=finished_us,
        doses=tuple(Dose.from_dict(step["detail"]) for step in steps if step["event"] == Event.DOSE),
        undo_failures=tuple(step["detail"] for step in steps if step["event"] == Event.UNDO_FAILED),
        steps=tuple(steps),
    )

"""From foreign files to a campaign folder that every analysis command opens; all of it, or nothing.

A recording tells nothing of a fault. When it acted is told by whoever imports; that it acted, and how much of it, is
shown by nothing, so the record holds no dose, and the analysis draws no verdict from it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from chaoslab import campaign_file, share, store
from chaoslab.errors import CampaignFolderError, RecordingError, UsageError
from chaoslab.faults import failure_types
from chaoslab.foreign import formats, locust, old_suite, source, spool
from chaoslab.foreign.formats import Format, Loop
from chaoslab.foreign.probes import Gathering
from chaoslab.foreign.spool import Spool
from chaoslab.foreign.window import Piece, Window, cut, shown
from chaoslab.records import SCHEMA_VERSION, Event, RunState
from chaoslab.redaction import learn, redact, redact_document
from chaoslab.scenario import Scenario, ScenarioFile, Slo, resolve_slos
from chaoslab.scenario_file import load
from chaoslab.store import RunKey
from chaoslab.wording import listed, plural

SCENARIO: Final = "Imported recording"
UNKNOWN: Final = "unknown"
"""Type of a scenario of which nobody said what it was."""

_PROBE: Final = "health"
_NO_WINDOW: Final = "no injection window was given (--injection-start, --injection-end), so nothing is estimated"
_PHASES: Final = ("baseline", "injection", "recovery")
_FROM_SENT: Final = "latencies run from when a request was sent, not from when it was due"
_LOOPS: Final[Mapping[Loop, str]] = {
    "open": f"{{tool}} keeps its rate while the service stalls, but {_FROM_SENT}.",
    "closed": (
        f"{{tool}} waits for an answer before it sends again, and {_FROM_SENT}: a stall hides the requests that it "
        "held back (coordinated omission), so latencies and error rates during one are too low."
    ),
    "unknown": (
        f"{{tool}} does not record whether it waited for answers before it sent again (a closed loop, its default), "
        f"and {_FROM_SENT}: if it did, a stall hides the requests that it held back (coordinated omission)."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to import, and what is known about it.

    Attributes:
        windows: when the fault acted. One holds for every recording; as many as recordings are one for each, in the
            order of `files`; several for one recording cut it into runs.
        select: names and values that a row must have, by the words of its format.
        type: failure type; by default that of the scenario of that name in the scenario file.
    """

    files: tuple[Path, ...]
    output: Path
    format: str | None = None
    scenario: str = SCENARIO
    type: str | None = None
    windows: tuple[Window, ...] = ()
    select: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    config: Path | None = None
    environment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import wrote: the folder, its format, numbers of runs and probes, and what a reader must know."""

    folder: Path
    format: str
    runs: int
    probes: int
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {**asdict(self), "folder": str(self.folder), "warnings": list(self.warnings)}


def import_recordings(request: Request) -> Imported:
    """Write the campaign folder of a request; where that fails, nothing of it is left.

    Raises:
        UsageError: an option that cannot be used; RecordingError: a file that cannot be read; CampaignFolderError: the
            folder holds something, or cannot be written.
    """
    output = request.output.resolve()
    store.require_empty(output)
    if request.target is not None:
        learn([request.target])
    found = {formats.recognise(file, request.format).name for file in request.files}
    if len(found) > 1:
        raise UsageError(f"the files are of several formats ({listed(sorted(found))}); accepted: one format at a time")
    form = formats.FORMATS[found.pop()]
    known = load(request.config or share.scenario_file())
    slos = resolve_slos(known, request.environment)
    with _staging(output) as folder:
        job = _Job(request=request, form=form, folder=folder, known=known, slos=slos)
        if form.name == formats.OLD_SUITE:
            written = _import_claims(job)
        elif form.read is None:
            written = _import_totals(job)
        else:
            written = _import_probes(job)
    return Imported(
        folder=request.output,
        format=form.name,
        runs=written.runs,
        probes=written.probes,
        warnings=written.warnings,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    request: Request
    form: Format
    folder: Path
    known: ScenarioFile
    slos: tuple[Slo, ...]

    @property
    def tool(self) -> str:
        return self.form.title.partition(",")[0]

    @property
    def recordings(self) -> list[tuple[Path, ...]]:
        files = self.request.files
        return [files] if self.form.joins else [(file,) for file in files]

    def windows_of(self, number: int) -> tuple[Window, ...]:
        """Return the windows of the recording with that place in the order of the files.

        Raises:
            UsageError: their number fits neither one recording nor all of them.
        """
        windows, recordings = self.request.windows, len(self.recordings)
        if recordings == 1 or len(windows) <= 1:
            return windows
        if len(windows) != recordings:
            raise UsageError(
                f"{plural(len(windows), 'injection window')} were given for {plural(recordings, 'recording')}; "
                "accepted: one for all of them, or one for each"
            )
        return (windows[number],)

    def scenario(self, seconds: float | None) -> dict[str, Any]:
        known = self._known()
        return {
            "name": known.name if known else self.request.scenario,
            "type": canonical(self.request.type) if self.request.type else (known.type if known else UNKNOWN),
            "intensity": known.intensity if known and not self.request.type else "",
            "duration": seconds,
            "mechanism": "not recorded",
        }

    def _known(self) -> Scenario | None:
        asked = self.request.scenario.lower()
        return next((scenario for scenario in self.known.scenarios if scenario.name.lower() == asked), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    runs: int
    probes: int
    warnings: tuple[str, ...]


@contextmanager
def _staging(output: Path) -> Iterator[Path]:
    """Yield a folder beside `output` that takes its place at the end, or is removed."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
        try:
            yield folder
            folder.rename(output)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise CampaignFolderError(f"{output} cannot be written: {error.strerror or error}") from error


# Single probes


@dataclass(frozen=True, slots=True)
class _Recording:
    """One recording: its files, its probes, and the runs that it is cut into."""

    what: str
    spool: Spool
    pieces: list[Piece]


def _import_probes(job: _Job) -> _Written:
    with ExitStack() as open_files:
        gathering = Gathering(job.request.select)
        recordings = [_gather(job, number, gathering, open_files) for number in range(len(job.recordings))]
        recordings.sort(key=lambda recording: recording.spool.first_us)
        _refuse_overlaps(recordings)
        pieces = [piece for recording in recordings for piece in recording.pieces]
        anchor_us = recordings[0].spool.first_us
        warnings = _warnings(job, gathering, timed=bool(job.request.windows))
        meta = _meta(job, gathering, pieces, warnings) | {"probe": _probe(gathering, recordings)}
        _create(job, meta)
        numbers = iter(range(len(pieces)))
        for recording in recordings:
            _write_recording(job, recording, meta, anchor_us, [next(numbers) for _ in recording.pieces])
        return _Written(
            runs=len(pieces), probes=sum(recording.spool.count for recording in recordings), warnings=warnings
        )


def _gather(job: _Job, number: int, gathering: Gathering, open_files: ExitStack) -> _Recording:
    paths = job.recordings[number]
    what = listed(map(str, paths))
    windows = job.windows_of(number)
    held = Spool(open_files.enter_context(tempfile.TemporaryFile(dir=job.folder.parent)))  # noqa: SIM115
    assert job.form.read is not None
    for probe in job.form.read(paths, gathering):
        held.add(probe)
    if not held.count:
        raise gathering.nothing(what)
    return _Recording(
        what,
        held,
        cut(windows, what=what, first_us=held.first_us, last_us=held.last_us, over_us=held.over_us),
    )


def _refuse_overlaps(recordings: Sequence[_Recording]) -> None:
    for one, other in pairwise(recordings):
        if other.spool.first_us < one.pieces[-1].finish_us:
            raise RecordingError(
                f"{one.what} and {other.what} overlap in time (from {shown(other.spool.first_us)}); accepted: "
                "recordings that follow one another, each a repeat; what ran at once goes into folders of its own"
            )


def _write_recording(
    job: _Job, recording: _Recording, meta: Mapping[str, Any], anchor_us: int, numbers: Sequence[int]
) -> None:
    runs = [
        _RunWriter(job, _key(meta, number), piece, anchor_us)
        for number, piece in zip(numbers, recording.pieces, strict=True)
    ]
    borders = [piece.finish_us for piece in recording.pieces[:-1]]
    for rows in recording.spool.in_order():
        parts = np.split(rows, np.searchsorted(rows["sent_us"], borders, side="left"))
        for run, part in zip(runs, parts, strict=True):
            if len(part):
                run.write(part)
    for run in runs:
        run.close()


class _RunWriter:
    """Writes the rows of one run, counts those of its baseline, and writes its events when it is closed."""

    def __init__(self, job: _Job, key: RunKey, piece: Piece, anchor_us: int) -> None:
        self._job = job
        self._key = key
        self._piece = piece
        self._anchor_us = anchor_us
        self._writer = store.PartWriter(job.folder, "probes", key)
        self._rows = self._before = self._failed = 0

    def write(self, rows: spool.Rows) -> None:
        self._writer.write(spool.columns(rows, anchor_us=self._anchor_us, first_seq=self._rows, probe=_PROBE))
        self._rows += len(rows)
        if self._piece.injection_us is not None:
            before = rows[rows["sent_us"] < self._piece.injection_us[0]]
            self._before += len(before)
            self._failed += int((before["error"] >= 0).sum())

    def close(self) -> None:
        self._writer.compact()
        begin, finish = self._piece.begin_us - self._anchor_us, self._piece.finish_us - self._anchor_us
        if self._piece.injection_us is None:
            _write_observed(self._job.folder, self._key, begin, finish, _NO_WINDOW)
            return
        start, end = (edge - self._anchor_us for edge in self._piece.injection_us)
        rows: list[tuple[int, Event, dict[str, Any]]] = [
            (begin, Event.BASELINE_STARTED, {}),
            (start, Event.STEADY_STATE, self._steadiness()),
            (start, Event.INJECTION_STARTED, {"mechanism": "not recorded"}),
            (end, Event.RECOVERY_STARTED, {}),
            (end, Event.FAULT_OVER, {}),
            (finish, Event.RUN_FINISHED, {"state": str(RunState.COMPLETED), "reason": ""}),
        ]
        _write_events(self._job.folder, self._key, rows)

    def _steadiness(self) -> dict[str, Any]:
        """Whether the baseline's probes failed no more than the objective allows; there must be one."""
        tolerated = next(slo.threshold for slo in self._job.slos if slo.metric == "error_rate_percent")
        share = 100 * self._failed / self._before if self._before else 100.0
        steady = share <= tolerated
        said = f"{self._failed} of {plural(self._before, 'probe')} of the baseline failed; {tolerated:g} % are accepted"
        return {"steady": steady, "reason": "" if steady else said}


def _probe(gathering: Gathering, recordings: Iterable[_Recording]) -> dict[str, Any]:
    """How the target was looked at: the rate is what was seen, to two digits."""
    spools = [recording.spool for recording in recordings]
    seconds = sum(held.last_us - held.first_us for held in spools) / 1e6
    rate = sum(held.count for held in spools) / seconds if seconds > 0 else None
    url = redact(next(iter(gathering.urls))) if len(gathering.urls) == 1 else None
    return {
        "name": _PROBE,
        "url": url,
        "rate_hz": None if rate is None else float(f"{rate:.2g}"),
        "timeout_seconds": None,
    }


def _warnings(job: _Job, gathering: Gathering, *, timed: bool) -> tuple[str, ...]:
    shown = (
        "estimates say what the probes saw, and every verdict is inconclusive"
        if timed
        else f"{_NO_WINDOW}, and every verdict is inconclusive"
    )
    said = [
        f"Imported from {job.tool}: no dose was measured, so nothing shows that a fault was delivered; {shown}.",
        _LOOPS[job.form.loop].format(tool=job.tool),
        *gathering.remarks,
    ]
    if len(gathering.urls) > 1:
        said.append("Requests to several addresses are taken together; --select takes those of one.")
    return tuple(map(redact, said))


# What holds no probes


def _import_totals(job: _Job) -> _Written:
    """Import running totals: counts by phase, kept beside a record without probes."""
    counted: list[dict[str, Any]] = []
    reasons: list[str] = []
    pieces: list[Piece] = []
    gathering = Gathering(job.request.select)
    for number, [file] in enumerate(job.recordings):
        totals = locust.read(file, gathering)
        first, last = totals.at_us[0], totals.at_us[-1]
        for piece in cut(job.windows_of(number), what=str(file), first_us=first, last_us=last, over_us=last):
            edges = [piece.begin_us, *(piece.injection_us or ()), min(piece.finish_us, last)]
            phases = totals.counted(edges)
            names = _PHASES if piece.injection_us else ("all",)
            counted.append({"file": file.name, "phases": dict(zip(names, phases, strict=True))})
            reasons.append(_no_requests(job.tool, phases[1] if piece.injection_us else None))
            pieces.append(piece)
    warnings = (
        f"Imported from {job.tool}: {reasons[0]}.",
        f"{job.tool} waits for an answer before it sends again: a stall hides the requests that it held back "
        "(coordinated omission).",
    )
    meta = _meta(job, gathering, pieces, warnings)
    meta["imported"]["counted"] = counted
    _create(job, meta)
    for number, (piece, reason) in enumerate(zip(pieces, reasons, strict=True)):
        begin = (piece.begin_us - pieces[0].begin_us, piece.finish_us - pieces[0].begin_us)
        _write_observed(job.folder, _key(meta, number), *begin, reason)
    return _Written(runs=len(pieces), probes=0, warnings=warnings)


def _no_requests(tool: str, injection: Mapping[str, Any] | None) -> str:
    reason = f"{tool} recorded running totals and no single requests, so nothing is estimated"
    if injection is None:
        return reason
    return (
        f"{reason}; by its totals {injection['failures']} of {plural(injection['requests'], 'request')} during the "
        "injection failed"
    )


def _import_claims(job: _Job) -> _Written:
    """Import what the script suite said: its words, and no numbers of ours."""
    if job.request.windows or job.request.select:
        raise UsageError(
            "the script suite's files hold no probes: --injection-start, --injection-end and --select are not for them"
        )
    reports = [old_suite.read(file) for file in job.request.files]
    learn([report.target for report in reports])
    claims = [claim for report in reports for claim in report.claims]
    scenarios: dict[str, dict[str, Any]] = {}
    order: list[list[Any]] = []
    for claim in claims:
        entry = {
            "name": claim.name,
            "type": canonical(claim.type),
            "intensity": claim.intensity,
            "duration": claim.duration,
            "mechanism": "not recorded",
        }
        scenarios.setdefault(claim.name, entry)
        order.append([claim.name, 1 + sum(name == claim.name for name, _ in order)])
    reason = "the script suite recorded what it concluded and none of what it saw: there are no probes to estimate from"
    warnings = (f"Imported from {job.tool}: {reason[0].lower()}{reason[1:]}, so every verdict is inconclusive.",)
    gathering = Gathering({}, origins={report.target for report in reports if report.target})
    meta = _meta(job, gathering, [], warnings) | {
        "scenarios": list(scenarios.values()),
        "order": order,
        "repeats": max(repeat for _, repeat in order),
    }
    meta["started_at"] = _naive(reports[0].at) or meta["imported"]["at"]
    meta["imported"]["claims"] = [redact_document(dict(claim.said)) for claim in claims]
    _create(job, meta)
    for number in range(len(order)):
        _write_observed(job.folder, _key(meta, number), number, number, reason)
    return _Written(runs=len(order), probes=0, warnings=warnings)


def _naive(text: str) -> str | None:
    """Return a time stamp that can be read; the suite wrote none of a time zone, and UTC is assumed."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def canonical(type_: str) -> str:
    """Return what a failure type is called today; a name that is unknown stays as it is.

    >>> canonical("cpu_exhaust"), canonical("strangling")
    ('cpu_stress', 'strangling')
    """
    names = {alias: kind.type_names()[0] for kind in _scenarios() for alias in kind.type_names()}
    return names.get(type_, type_)


def _scenarios() -> list[type[Scenario]]:
    return [failure_type.scenario for failure_type in failure_types().values()]


# The record


def _meta(job: _Job, gathering: Gathering, pieces: Sequence[Piece], warnings: Sequence[str]) -> dict[str, Any]:
    files = [source.describe(file) for file in job.request.files]
    lengths = [(end - start) / 1e6 for piece in pieces if piece.injection_us for start, end in [piece.injection_us]]
    entry = job.scenario(sum(lengths) / len(lengths) if lengths else None)
    seed = json.dumps([[file["sha256"] for file in files], entry, [asdict(piece) for piece in pieces]], sort_keys=True)
    asked = [job.request.target] if job.request.target else sorted(gathering.origins)
    meta = {
        "schema_version": SCHEMA_VERSION,
        "campaign": f"imported-{hashlib.sha256(seed.encode()).hexdigest()[:12]}",
        "dry_run": False,
        "status": "finished",
        "reason": "",
        "environment": job.request.environment,
        "repeats": len(pieces),
        "scenarios": [entry],
        "order": [[entry["name"], number + 1] for number in range(len(pieces))],
        "slos": [asdict(slo) for slo in job.slos],
        "required_health_checks": job.known.slo_targets.recovery.required_health_checks,
        "versions": {"chaoslab": metadata.version("chaoslab")},
        "imported": {
            "format": job.form.name,
            "tool": job.tool,
            "files": files,
            "loop": job.form.loop,
            "latency_from": "sent",
            "select": redact_document(dict(job.request.select)),
            "warnings": list(warnings),
            "at": datetime.now(UTC).isoformat(),
        },
    }
    if asked:
        meta["target"] = redact(", ".join(asked))
    if pieces:
        first, last = min(piece.begin_us for piece in pieces), max(piece.finish_us for piece in pieces)
        meta["anchor"] = {"monotonic_ns": 0, "wall_ns": first * 1000, "boot_id": "imported"}
        meta |= {"started_at": _iso(first), "finished_at": _iso(last)}
    return meta


def _create(job: _Job, meta: Mapping[str, Any]) -> None:
    """Write `campaign.json`, if whoever opens the folder will be able to read it.

    Raises:
        RecordingError: a file or an option holds what no record may.
    """
    try:
        campaign_file.check(campaign_file.parse(json.dumps(meta)))
    except (ValueError, RecursionError) as error:
        what = listed(map(str, job.request.files))
        raise RecordingError(f"{what}: what it holds or is called cannot be recorded: {error}") from error
    store.create(job.folder, meta)


def _iso(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()


def _key(meta: Mapping[str, Any], number: int) -> RunKey:
    scenario, repeat = meta["order"][number]
    return RunKey(campaign=meta["campaign"], scenario=scenario, repeat=repeat, index=number)


def _write_observed(folder: Path, key: RunKey, begin: int, finish: int, reason: str) -> None:
    ended = {"state": str(RunState.OBSERVED), "reason": reason}
    _write_events(folder, key, [(begin, Event.BASELINE_STARTED, {}), (finish, Event.RUN_FINISHED, ended)])


def _write_events(folder: Path, key: RunKey, rows: Sequence[tuple[int, Event, Mapping[str, Any]]]) -> None:
    writer = store.PartWriter(folder, "events", key)
    writer.write(
        {
            "at_us": [at for at, _, _ in rows],
            "event": [str(event) for _, event, _ in rows],
            "step": [""] * len(rows),
            "detail": [json.dumps(detail) for _, _, detail in rows],
        }
    )
    writer.compact()

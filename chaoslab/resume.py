"""An interrupted campaign, continued: finished runs are kept, broken ones are repeated and stay on record as broken."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from chaoslab import store, trust
from chaoslab.agent.processes import boot_id
from chaoslab.description import digest
from chaoslab.errors import CampaignFolderError, UsageError
from chaoslab.experiment import DEFAULT_RATE_HZ, Prepared, Request, Session, prepare
from chaoslab.journal import JOURNAL_FILE, Journal
from chaoslab.plan import redacted
from chaoslab.records import RunState
from chaoslab.scenario import Scenario
from chaoslab.scenario_file import load_with_digest
from chaoslab.undo import unreadable

_NEEDED: Final = ("anchor", "configuration", "target", "repeats", "duration_scale", "probe", "seed", "order")
_TO_REPEAT: Final = (RunState.BROKEN, RunState.ABORTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """A broken run, and the number under which its repetition is recorded."""

    scenario: str
    repeat: int
    again: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """What is left of a campaign to be run."""

    folder: Path
    prepared: Prepared
    repetitions: tuple[Repetition, ...]


def resume(
    folder: Path,
    *,
    target: str | None = None,
    config: Path | None = None,
    confirmed: bool = False,
    allow_commands: bool = False,
) -> Resumption:
    """Return what is left of the campaign in `folder`, ready to be performed; nothing is written yet.

    Everything comes from the record. `target` is needed where the recorded one was stripped of secrets, `config` where
    the scenario file has moved.

    Raises:
        CampaignFolderError: the folder cannot be read, or its campaign is still under way.
        UsageError: there is nothing left to run, or target or scenario file are not those of the campaign.
        NotDelivered, ...: as `experiment.prepare`.
    """
    campaign = store.Campaign.open(folder)
    _require_rest(campaign)
    request = _request(campaign, target, config)
    runs, repetitions = _rest(campaign, request)
    if not runs:
        raise UsageError(f"{folder} has nothing left to run: every run is finished")
    prepared = prepare(replace(request, confirmed=confirmed, allow_commands=allow_commands or request.allow_commands))
    for index, (scenario, repeat) in runs.items():
        key = store.RunKey(campaign=campaign.name, scenario=scenario.name, repeat=repeat, index=index)
        store.require_unrecorded(folder, key)
    known = {planned.scenario.name: planned for planned in prepared.plan.runs}
    planned = tuple(
        replace(known[scenario.name], repeat=repeat, index=index) for index, (scenario, repeat) in runs.items()
    )
    anchor_ns, anchor_wall_ns = _anchor(campaign.meta["anchor"])
    return Resumption(
        folder=folder,
        prepared=replace(
            prepared,
            name=campaign.name,
            plan=replace(prepared.plan, runs=planned),
            anchor_ns=anchor_ns,
            anchor_wall_ns=anchor_wall_ns,
        ),
        repetitions=repetitions,
    )


def proceed(resumption: Resumption, session: Session) -> None:
    """Record that the campaign goes on, with the session's journal beside the earlier ones.

    Raises:
        CampaignFolderError: the folder cannot be written.
    """
    folder, prepared = resumption.folder, resumption.prepared
    campaign = store.Campaign.open(folder)
    again = [[item.scenario, item.repeat, item.again] for item in resumption.repetitions]
    order = [*campaign.meta["order"], *([scenario, number] for scenario, _, number in again)]
    try:
        _keep_journal(folder)
        store.update(
            folder,
            status="running",
            reason="",
            order=order,
            repeated=[*campaign.meta.get("repeated", []), *again],
            resumed_at=[*campaign.meta.get("resumed_at", []), datetime.now(UTC).isoformat()],
            resumed_runs=[[run.scenario.name, run.repeat] for run in prepared.plan.runs],
        )
        session.journal.attach(folder, secrets=prepared.request.file.safety.secrets)
    except OSError as error:
        raise CampaignFolderError(f"{folder} cannot be written: {error.strerror or error}") from error


def _require_rest(campaign: store.Campaign) -> None:
    """See that the campaign is not under way, and that nothing of it waits to be undone."""
    journal = Journal(campaign.path / JOURNAL_FILE)
    if campaign.meta.get("status") == "running" and journal.owner_alive:
        raise CampaignFolderError(f"{campaign.path} is still under way: a campaign can be resumed once it has stopped")
    left = [found.step.name for found in journal.open_steps()]
    if left:
        raise CampaignFolderError(f"{campaign.path} has left something behind ({', '.join(left)}): `chaoslab recover`")
    if problem := unreadable(journal):
        raise CampaignFolderError(f"{campaign.path} may have left something behind: {problem}")


def _request(campaign: store.Campaign, target: str | None, config: Path | None) -> Request:
    meta = campaign.meta
    if meta.get("imported"):
        raise CampaignFolderError(f"{campaign.path} is imported: nothing of it was run here, so nothing can be resumed")
    missing = [name for name in _NEEDED if meta.get(name) is None]
    if missing:
        raise CampaignFolderError(
            f"{campaign.path / store.CAMPAIGN_FILE} lacks the key {missing[0]!r}, without which nothing can be resumed"
        )
    recorded = meta["configuration"].get("path")
    if config is None and recorded is None:
        raise UsageError(f"{campaign.path} does not say where its scenario file lies; give it with --config")
    source = config or Path(recorded)
    file, content_digest = load_with_digest(source)
    if digest(file) != meta["configuration"]["sha256"]:
        raise UsageError(
            f"{source} says something else than the scenario file of the campaign; give that one with --config"
        )
    if target is not None and redacted(target) != meta["target"]:
        raise UsageError(f"--target is {redacted(target)}, but the campaign's is {meta['target']}")
    if target is None and meta.get("target_withheld"):
        raise UsageError(
            f"the secrets in the URL of the target, {meta['target']}, are not on record: give all of it with --target"
        )
    return Request(
        file=file,
        source=source,
        scenarios=tuple(file.scenario(entry["name"]) for entry in meta["scenarios"]),
        target=target or meta["target"],
        environment=meta.get("environment"),
        repeats=meta["repeats"],
        duration_scale=meta["duration_scale"],
        rate_hz=meta["probe"].get("rate_hz") or DEFAULT_RATE_HZ,
        seed=meta["seed"],
        allow_commands=trust.allows(source, content_digest),
        notes=meta.get("notes", {}),
    )


def _rest(campaign: store.Campaign, request: Request) -> tuple[dict[int, tuple[Scenario, int]], tuple[Repetition, ...]]:
    """Return the runs that are left, by their place in the order, and which of them repeat a broken one."""
    order = [(str(scenario), int(repeat)) for scenario, repeat in campaign.meta["order"]]
    states = {(run.scenario, run.repeat): run.state for run in campaign.runs}
    repeated = {(str(scenario), int(repeat)) for scenario, repeat, _ in campaign.meta.get("repeated", [])}
    broken = [run for run in order if states.get(run) in _TO_REPEAT and run not in repeated]
    numbers = _fresh_numbers(order)
    repetitions = tuple(Repetition(scenario=name, repeat=n, again=next(numbers[name])) for name, n in broken)
    places = {run: place for place, run in enumerate(order) if run not in states}
    places |= {(item.scenario, item.again): len(order) + place for place, item in enumerate(repetitions)}
    return {place: (request.file.scenario(name), n) for (name, n), place in places.items()}, repetitions


def _fresh_numbers(order: list[tuple[str, int]]) -> Mapping[str, Iterator[int]]:
    """Return, for each scenario, the numbers after its last repeat."""
    last: dict[str, int] = {}
    for name, repeat in order:
        last[name] = max(repeat, last.get(name, 0))
    return {name: iter(range(repeat + 1, repeat + 10_000)) for name, repeat in last.items()}


def _anchor(recorded: Mapping[str, Any]) -> tuple[int, int]:
    """Return the campaign's anchor on this boot's clocks, in ns: after a reboot by the wall clock, all there is."""
    wall_ns = int(recorded["wall_ns"])
    if recorded["boot_id"] == boot_id():
        return int(recorded["monotonic_ns"]), wall_ns
    return time.monotonic_ns() - (time.time_ns() - wall_ns), wall_ns


def _keep_journal(folder: Path) -> None:
    """Make room for the next journal: the earlier ones stay beside it, numbered."""
    journal = folder / JOURNAL_FILE
    if journal.is_symlink():
        journal.unlink()  # its session is over, and it leads nowhere
    elif journal.exists():
        number = len(list(folder.glob("journal-*.jsonl"))) + 1
        journal.rename(folder / f"journal-{number}.jsonl")

"""An experiment from request to campaign folder: what the command line, the demo and the notebooks call."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from chaoslab import progress, share, store, targets, trust
from chaoslab.delivery import Chosen
from chaoslab.description import describe
from chaoslab.errors import Aborted, ChaoslabError, Interrupted, NotDelivered, NotReverted, UsageError, nearest
from chaoslab.faults import Surroundings, choose
from chaoslab.guardian import Guardian
from chaoslab.hosts import LocalHost, host_of
from chaoslab.instruments import probe
from chaoslab.interrupts import SIGNALS, Interrupts
from chaoslab.journal import Journal, Step
from chaoslab.monitoring import HIGHEST_RATE_HZ, looks_of, variables_of
from chaoslab.plan import Plan, make_plan, probe_url, redacted
from chaoslab.redaction import learn, learn_environment, redact_document
from chaoslab.rehearsal import Rehearsed, rehearse
from chaoslab.runner import Laboratory, Progress, Watch, run_campaign
from chaoslab.scenario import CommandProbe, Intensity, Scenario, ScenarioFile, Slo, resolve_slos, select
from chaoslab.scenario_file import load_with_digest
from chaoslab.undo import undo_all

PRODUCTION: Final = "production"
DEFAULT_REPEATS: Final = 3
DEFAULT_RATE_HZ: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user asks for. `source` is where `file` came from, for the record."""

    file: ScenarioFile
    source: Path
    scenarios: tuple[Scenario, ...]
    target: str
    environment: str | None = None
    repeats: int = DEFAULT_REPEATS
    duration_scale: float = 1.0
    rate_hz: float = DEFAULT_RATE_HZ
    seed: int | None = None
    confirmed: bool = False
    allow_commands: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request that passed every check that needs no injection.

    The anchor is one instant on both clocks (nanoseconds); every record counts from it.
    """

    request: Request
    name: str
    anchor_ns: int
    anchor_wall_ns: int
    plan: Plan
    watch: Watch
    where: Surroundings
    faults: dict[str, tuple[Chosen, ...]]
    slos: tuple[Slo, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """A journal with its guardian, and the signals that end the work in order."""

    journal: Journal
    guardian: Guardian
    interrupts: Interrupts


@contextmanager
def protected(name: str, *, signals: bool = True) -> Iterator[Session]:
    """Open a journal under guard; whatever is still open at the end is undone.

    With `signals`, INT, TERM and HUP are noted for `session.interrupts.check`; without, they act as they did before.

    Raises:
        NotReverted: something could not be undone; its journal stays for `chaoslab recover`.
        Interrupted: a signal came when there was nothing left to be cut short.
    """
    with Interrupts(SIGNALS if signals else ()) as interrupts:
        journal = Journal.create(name)
        try:
            guardian = Guardian(journal)
        except BaseException:
            journal.close()
            raise
        try:
            yield Session(journal, guardian, interrupts)
        finally:
            try:
                undo_all(journal, LocalHost())
                journal.close()
            except NotReverted:
                # Whoever takes the folder with them to ask for help takes no secret along.
                with suppress(ChaoslabError):
                    journal.leave_copy()
                raise
            finally:
                guardian.dismiss()
        interrupts.check_last()


def prepare(request: Request) -> Prepared:
    """Check a request against the machine, the environment and the target; nothing is injected.

    Raises:
        UsageError: a value out of range, a target that does not answer, a scenario the environment does not allow.
        NotDelivered: a fault that no mechanism can deliver here.
    """
    _learn_secrets(request)
    if not 0.1 <= request.rate_hz <= HIGHEST_RATE_HZ:
        raise UsageError(f"--probe-rate is {request.rate_hz:g}; accepted: 0.1 to {HIGHEST_RATE_HZ:g} probes a second")
    probe_url(request.target, "")  # what is no URL is refused before anything is read from it
    slos = resolve_slos(request.file, request.environment)
    _guard_environment(request)
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    plan = make_plan(
        request.file,
        request.scenarios,
        repeats=request.repeats,
        seed=seed,
        duration_scale=request.duration_scale,
    )
    watch = _watch(request, slos)
    where = Surroundings(
        host=LocalHost(),
        url=redacted(request.target),
        target=targets.find(request.target),
        hits_target=LocalHost().serves(request.target),
        allow_commands=request.allow_commands,
        features=watch.looks[0].features,
    )
    prepared = Prepared(
        request=request,
        name=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        anchor_ns=time.monotonic_ns(),
        anchor_wall_ns=time.time_ns(),
        plan=plan,
        watch=watch,
        where=where,
        faults=_choose_all(request.scenarios, where),
        slos=slos,
    )
    for planned in plan.runs:
        if planned.repeat == 1 and len(planned.scenario.parts) > 1:
            rehearse(planned, plan, prepared.faults[planned.scenario.name])  # are they in each other's way?
    return prepared


def _learn_secrets(request: Request) -> None:
    """Have the secrets of a request hidden from here on, whoever quotes them.

    Raises:
        UsageError: safety.secrets names an environment variable that is not set.
    """
    named = request.file.safety.secrets
    for name in named:
        if name not in os.environ:
            raise UsageError(
                f"safety.secrets names the environment variable {name}, which is not set{nearest(name, os.environ)}"
            )
    learn([request.target])
    learn(request.file.model_dump(mode="json"))
    learn_environment(named)
    learn_environment(variables_of(request.file.monitoring))


def _choose_all(scenarios: Sequence[Scenario], where: Surroundings) -> dict[str, tuple[Chosen, ...]]:
    chosen: dict[str, tuple[Chosen, ...]] = {}
    refusals: list[str] = []
    for scenario in scenarios:
        try:
            chosen[scenario.name] = tuple(_choose(fault, where) for fault in scenario.parts)
        except NotDelivered as refusal:
            refusals.append(str(refusal))
    if refusals:
        raise NotDelivered("\n".join(refusals))
    return chosen


def _choose(fault: Scenario, where: Surroundings) -> Chosen:
    """Return what delivers `fault` on the host that it names.

    Raises:
        NotDelivered: no mechanism can.
        UsageError: there is no such host.
    """
    if fault.host != where.host.name:
        where = replace(where, host=host_of(fault.host))
        where = replace(where, hits_target=where.host.serves(where.url))
    where = replace(where, hits_target=where.hits_target or fault.allow_other_host)
    return Chosen(fault=fault, mechanism=choose(fault, where), where=where)


def _watch(request: Request, slos: Sequence[Slo]) -> Watch:
    file = request.file
    looks = looks_of(file.monitoring, target=request.target, rate_hz=request.rate_hz, folder=request.source.parent)
    for look in looks:
        learn(dict(look.headers))
    tolerated = next(slo.threshold for slo in slos if slo.metric == "error_rate_percent")
    return Watch(
        looks=looks,
        sampling=file.monitoring.sampling_interval,
        steady_error_percent=tolerated,
        abort=file.safety.abort_conditions,
        check_interval=file.monitoring.health_check.interval,
        limit=file.safety.max_total_duration_seconds,
    )


def _guard_environment(request: Request) -> None:
    _guard_target(request)
    if request.file.safety.abort_conditions.probe is not None and not request.allow_commands:
        raise UsageError(
            f"safety.abort_conditions.probe is a command of the scenario file, which runs it only when asked to: "
            f"give {trust.WAYS}"
        )
    commands = [probe.name for probe in request.file.monitoring.probes if isinstance(probe, CommandProbe)]
    if commands and not request.allow_commands:
        raise UsageError(
            f"monitoring.probes: {', '.join(commands)} are commands of the scenario file, which runs them only when "
            f"asked to: give {trust.WAYS}"
        )
    environment = request.file.environment(request.environment)
    allowed = environment.allowed_scenarios
    if allowed is None and request.environment == PRODUCTION:
        raise UsageError("the environment production names no allowed_scenarios, so none may run there")
    if allowed is not None:
        known = {name.lower() for name in allowed}
        refused = [scenario.name for scenario in request.scenarios if scenario.name.lower() not in known]
        if refused:
            raise UsageError(
                f"not allowed in the environment {request.environment}: {', '.join(refused)}; "
                f"allowed: {', '.join(allowed)}"
            )
    if not request.confirmed and (needed := needs_confirmation(request)):
        raise UsageError(
            f"{', '.join(needed)} need a confirmation here: give --yes, or in a terminal type the target's name, "
            f"{name_of(request.target)}"
        )


def _guard_target(request: Request) -> None:
    allowed = request.file.safety.allowed_targets
    parts = urlsplit(request.target)
    names = (parts.hostname or "", parts.netloc.rpartition("@")[2])
    if allowed is not None and not any(fnmatch(name, pattern) for name in names for pattern in allowed):
        raise UsageError(f"the target {names[1]} is not among safety.allowed_targets: {', '.join(allowed) or 'none'}")


def needs_confirmation(request: Request) -> tuple[str, ...]:
    """Return the names of the scenarios that run only with --yes or a typed confirmation."""
    rule = request.file.safety.require_confirmation
    return tuple(
        scenario.name
        for scenario in request.scenarios
        if rule is True
        or (isinstance(rule, tuple) and any(part.type in rule for part in (scenario, *scenario.parts)))
        or (request.environment == PRODUCTION and scenario.destructive)
    )


def name_of(target: str) -> str:
    """Return what a target is called: the name that it published, else its host and port."""
    try:
        known = targets.find(target)
    except ValueError:  # no such port: whoever probes it will say so
        known = None
    return known.name if known is not None else urlsplit(target).netloc.rpartition("@")[2]


def rehearse_all(prepared: Prepared) -> list[Rehearsed]:
    """Return what each run would do; nothing is done, not even a probe.

    Raises:
        NotDelivered: a victim is gone.
    """
    return [rehearse(run, prepared.plan, prepared.faults[run.scenario.name]) for run in prepared.plan.runs]


def record_rehearsal(prepared: Prepared, folder: Path) -> None:
    """Write a campaign folder that says it is a dry run, so that nothing can analyse it as real.

    Raises:
        CampaignFolderError: the folder cannot be written, or is not empty.
    """
    steps = [
        {
            "run": rehearsed.planned.index,
            "scenario": rehearsed.planned.scenario.name,
            "route": redact_document(asdict(rehearsed.route)) if rehearsed.route else None,
            "steps": [_shown(step) for injection in rehearsed.injections for step in injection.steps],
        }
        for rehearsed in rehearse_all(prepared)
    ]
    store.create(folder, describe(prepared) | {"dry_run": True, "rehearsal": steps})


def _shown(step: Step) -> dict[str, Any]:
    return {**redact_document(asdict(step)), "token": step.token}


def require_answer(prepared: Prepared) -> None:
    """Raise UsageError when nothing at all answers at the target: there is nobody to hurt, and nothing to measure."""
    health = prepared.watch.looks[0]
    check = probe.check(health)
    if not check.reachable:
        raise UsageError(f"the target {redacted(health.address)} does not answer: {check.reason}")


def perform(
    prepared: Prepared, folder: Path, session: Session, *, report: Callable[[Progress], None] = lambda _: None
) -> None:
    """Run the campaign into `folder`, which `begin` has made; its outcome is written to `campaign.json`.

    Raises:
        Aborted, Interrupted, NotReverted, ChaoslabError: as `runner.run_campaign`; the record is kept.
    """
    outcome: Mapping[str, Any] = {"status": "failed", "reason": "cut off by an error that nobody foresaw"}
    try:
        run_campaign(
            Laboratory(
                folder=folder,
                campaign=prepared.name,
                anchor_ns=prepared.anchor_ns,
                plan=prepared.plan,
                watch=prepared.watch,
                faults=prepared.faults,
                host=LocalHost(),
                journal=session.journal,
                guardian=session.guardian,
                interrupts=session.interrupts,
                report=report,
            )
        )
        session.interrupts.check()
        outcome = {"status": "finished", "reason": ""}
    except (Aborted, Interrupted) as stop:
        outcome = {"status": "stopped", "reason": str(stop)}
        raise
    except NotReverted as residue:
        outcome = {"status": "not_reverted", "reason": str(residue), "commands": list(residue.commands)}
        raise
    except ChaoslabError as error:
        outcome = {"status": "failed", "reason": str(error)}
        raise
    finally:
        store.update(folder, **outcome, finished_at=datetime.now(UTC).isoformat())


def begin(prepared: Prepared, folder: Path, session: Session) -> None:
    """Make the campaign folder, with the session's journal in it.

    Raises:
        CampaignFolderError: it cannot be written, or is not empty.
    """
    store.create(folder, describe(prepared))
    session.journal.attach(folder, secrets=prepared.request.file.safety.secrets)


def run(
    *,
    target: str,
    scenarios: Sequence[str | Scenario] = (),
    suites: Sequence[str] = (),
    intensity: Intensity | None = None,
    config: Path | str | None = None,
    output: Path | str | None = None,
    environment: str | None = None,
    repeats: int = DEFAULT_REPEATS,
    duration_scale: float = 1.0,
    rate_hz: float = DEFAULT_RATE_HZ,
    seed: int | None = None,
    confirmed: bool = False,
    allow_commands: bool = False,
    show: Callable[[Path], AbstractContextManager[object]] = nullcontext,
) -> store.Campaign:
    """Run a campaign against `target` and return its folder, opened; the arguments are those of `chaoslab run`.

    `show` is called with the campaign's folder, and is open while it runs: `chaoslab.watching` shows a figure.

    In a notebook, interrupting the kernel reverts what is injected and raises Interrupted; what was recorded stays.

    Raises:
        UsageError: bad arguments, a bad scenario file, or a target that does not answer.
        NotDelivered: a fault that cannot be delivered here.
        Aborted, Interrupted, NotReverted: as `perform`.
    """
    source = Path(config) if config is not None else share.scenario_file()
    file, content_digest = load_with_digest(source)
    prepared = prepare(
        Request(
            file=file,
            source=source,
            scenarios=select(file, suites=suites, names=[_name(one) for one in scenarios], intensity=intensity),
            target=target,
            environment=environment,
            repeats=repeats,
            duration_scale=duration_scale,
            rate_hz=rate_hz,
            seed=seed,
            confirmed=confirmed,
            allow_commands=allow_commands or trust.allows(source, content_digest),
        )
    )
    folder = Path(output) if output is not None else Path("campaigns") / prepared.name
    require_answer(prepared)
    with protected(prepared.name) as session, progress.reporter() as report:
        begin(prepared, folder, session)
        with show(folder):
            perform(prepared, folder, session, report=report)
    return store.Campaign.open(folder)


def _name(scenario: str | Scenario) -> str:
    return scenario if isinstance(scenario, str) else scenario.name

"""The runner: takes each planned run through its phases, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from chaoslab.aborts import UserProbe, abort_reason, host_in_danger
from chaoslab.delivery import Chosen, Delivery, Room
from chaoslab.errors import Aborted, CampaignFolderError, ChaoslabError, NotDelivered
from chaoslab.faults import Route
from chaoslab.guardian import Guardian
from chaoslab.hosts import LocalHost
from chaoslab.instruments.probe import Prober, ProbeSpec
from chaoslab.instruments.resources import ResourceSampler, SamplerSpec
from chaoslab.interrupts import Interrupts
from chaoslab.journal import Journal, Phase, now_us
from chaoslab.looks import Look, host_and_port
from chaoslab.plan import Plan, PlannedRun
from chaoslab.records import Event, RunState
from chaoslab.redaction import redact, redact_document
from chaoslab.scenario import AbortConditions
from chaoslab.store import PartWriter, RunKey
from chaoslab.undo import raise_together, undo

_TICK: Final = 0.05
_LONGEST_START: Final = 30.0
_HOST_LOOK_SECONDS: Final = 0.5
_SEEDS_APART: Final = 1_000_003


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a campaign stands: run `number` of `total`, in `phase`, with `remaining` seconds left in all."""

    scenario: str
    repeat: int
    repeats: int
    number: int
    total: int
    phase: str
    remaining: float
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What the runner looks at, and when it gives up.

    `looks` are the probes; the first is the health check, which the other numbers speak of.
    `steady_error_percent` is the share of failed probes above which a baseline is not a steady state;
    `check_interval` is the pace, in seconds, that the abort condition on consecutive failures counts in;
    `limit` bounds the campaign, in seconds.
    """

    looks: tuple[Look, ...]
    sampling: float
    steady_error_percent: float
    abort: AbortConditions
    check_interval: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Laboratory:
    """What a campaign works with; `faults` are those of each scenario, by its name."""

    folder: Path
    campaign: str
    anchor_ns: int
    plan: Plan
    watch: Watch
    faults: Mapping[str, tuple[Chosen, ...]]
    host: LocalHost
    journal: Journal
    guardian: Guardian
    interrupts: Interrupts
    report: Callable[[Progress], None] = field(default=lambda _: None)


def run_campaign(laboratory: Laboratory) -> None:
    """Run everything that is planned.

    Raises:
        Aborted: an abort condition, the campaign's time limit, or the loss of the guardian; all is reverted.
        Interrupted: a signal; all is reverted.
        NotReverted: something could not be undone; the campaign stops there.
        ChaoslabError: an instrument failed (no space on disk); all is reverted.
    """
    give_up = time.monotonic() + laboratory.watch.limit
    for place, planned in enumerate(laboratory.plan.runs):
        try:
            execution = _Execution(laboratory, planned, place=place, give_up=give_up)
        except OSError as error:
            raise CampaignFolderError(f"{laboratory.folder} cannot be written: {error.strerror}") from error
        if place:
            execution.pause(laboratory.plan.cooldown, "cooldown")
        execution.execute()


def _leads_to(look: Look, health: Look) -> bool:
    """Return whether a TCP probe looks at the port of the target itself."""
    parts = urlsplit(health.address)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return look.kind == "tcp" and host_and_port(look.address) == (parts.hostname, port)


class _EventLog:
    """Events of one run, without secrets, each on disk before the next thing happens.

    A disk that is full must not keep a fault from being undone: `add` never raises, `check` does.
    """

    def __init__(self, folder: Path, key: RunKey, anchor_ns: int) -> None:
        self._folder = folder
        self._parts = PartWriter(folder, "events", key)
        self._anchor_us = anchor_ns // 1000
        self._failure: OSError | None = None

    def add(self, event: Event, step: str = "", *, at_us: int | None = None, **detail: Any) -> None:
        at = (now_us() if at_us is None else at_us) - self._anchor_us
        shown = redact_document(detail) | {key: detail[key] for key in ("state",) if key in detail}
        row: dict[str, list[Any]] = {
            "at_us": [at],
            "event": [event],
            "step": [redact(step)],
            "detail": [json.dumps(shown)],
        }
        try:
            self._parts.write(row)
        except OSError as error:
            self._failure = error

    def check(self) -> None:
        if self._failure is not None:
            reason = self._failure.strerror or str(self._failure)
            raise CampaignFolderError(f"{self._folder} cannot be written: {reason}") from self._failure

    def close(self) -> None:
        with suppress(OSError):
            self._parts.compact()


class _Execution:
    """One run of one scenario."""

    def __init__(self, laboratory: Laboratory, planned: PlannedRun, *, place: int, give_up: float) -> None:
        self._lab = laboratory
        self._planned = planned
        self._place = place
        self._give_up = give_up
        self._key = RunKey(
            campaign=laboratory.campaign, scenario=planned.scenario.name, repeat=planned.repeat, index=planned.index
        )
        self._token = f"{laboratory.campaign}-{self._key.slug}-{os.urandom(4).hex()}"
        self._seed = laboratory.plan.seed + planned.index
        self._route: Route | None = None
        self._log = _EventLog(laboratory.folder, self._key, laboratory.anchor_ns)
        self._instrument_record: dict[str, Any] = {}
        self._injecting = False
        self._user_probe: UserProbe | None = None
        self._next_host_look = 0.0
        self._phase = ""
        self._phase_ends = 0.0
        self._after_phase = 0.0

    def execute(self) -> None:
        """Take the run through its phases; whatever happens, the fault is undone and the instruments are stopped."""
        try:
            with self._way(), self._instruments():
                state, reason = self._phases()
        except NotDelivered as refusal:
            state, reason = self._refused(refusal)
        except ChaoslabError as stop:
            self._finish(RunState.ABORTED, str(stop))
            raise
        self._finish(state, reason)

    def _finish(self, state: RunState, reason: str) -> None:
        self._log.add(Event.RUN_FINISHED, state=state, reason=reason, instruments=self._instrument_record)
        self._log.close()

    @contextmanager
    def _way(self) -> Iterator[None]:
        """Keep open the way round that a mechanism asks for, if any: for the whole run, baseline and all."""
        host, journal = self._lab.host, self._lab.journal
        longest = self._planned.seconds * 2 + _LONGEST_START
        routes = (
            one.mechanism.route(one.where, seconds=longest, token=self._token)
            for one in self._lab.faults[self._planned.scenario.name]
        )
        # One way serves all faults of a run that need one: they lead to the same target.
        route = next((found for found in routes if found is not None), None)
        if route is None:
            yield
            return
        journal.intend(self._key.slug, route.step)
        try:
            try:
                host.hold(route.step.do, token=route.step.token)
            except OSError as error:
                raise NotDelivered(f"{route.step.name}: it cannot be started: {error.strerror}") from error
            self._until_open(route)
            journal.append(Phase.DONE, run=self._key.slug, step=route.step.name)
            self._route = route
            yield
        finally:
            undo(route.step, run=self._key.slug, journal=journal, host=host)

    def _until_open(self, route: Route) -> None:
        deadline = time.monotonic() + _LONGEST_START
        while True:
            try:
                socket.create_connection(route.connect_to, timeout=1.0).close()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise NotDelivered(f"{route.step.name}: it does not open: {error.strerror or error}") from error
                self._lab.interrupts.check()
                time.sleep(_TICK)
            else:
                return

    @contextmanager
    def _instruments(self) -> Iterator[None]:
        watch, folder = self._lab.watch, self._lab.folder
        spec = ProbeSpec(
            folder=folder,
            key=self._key,
            anchor_ns=self._lab.anchor_ns,
            looks=tuple(self._through_route(look, number) for number, look in enumerate(watch.looks)),
            window_s=watch.abort.window_seconds,
            max_duration_s=self._planned.seconds * 2 + _LONGEST_START,
        )
        sampling = SamplerSpec(folder=folder, key=self._key, anchor_ns=self._lab.anchor_ns, interval_s=watch.sampling)
        self._sampler = ResourceSampler.start(sampling)
        try:
            self._prober = Prober.start(spec)
            try:
                self._prober.wait_ready()
                self._sampler.wait_ready()
                yield
                self._stop_instruments()
            except ChaoslabError:
                # What was recorded is joined all the same; what stopped the run is what the user hears of.
                with suppress(ChaoslabError):
                    self._stop_instruments()
                raise
            finally:
                self._prober.kill()
        finally:
            self._sampler.kill()

    def _through_route(self, look: Look, number: int) -> Look:
        """Return a look with this run's seed that takes the way round, if there is one and it leads to the target."""
        health = self._lab.watch.looks[0]
        there = self._route is not None and (look.kind == "http" or _leads_to(look, health)) and look.proxy is None
        connect_to = self._route.connect_to if self._route is not None and there else None
        return replace(look, seed=self._seed + number * _SEEDS_APART, connect_to=connect_to)

    def _stop_instruments(self) -> None:
        self._instrument_record = {
            "prober": asdict(self._prober.stop()),
            "resources": asdict(self._sampler.stop()),
        }

    def _phases(self) -> tuple[RunState, str]:
        planned = self._planned
        self._log.add(Event.BASELINE_STARTED)
        self.pause(planned.baseline, "baseline", then=planned.injection + planned.recovery)
        unsteady = self._unsteady()
        self._log.add(Event.STEADY_STATE, steady=not unsteady, reason=unsteady)
        if unsteady:
            return RunState.NOT_STEADY, unsteady
        state, reason = self._inject()
        self.pause(planned.recovery, "recovery")
        return state, reason

    def _unsteady(self) -> str:
        """Return why the target is not in its steady state, or an empty string."""
        live = self._prober.live
        if live is None or live.window_count == 0:
            return "no probe was answered or failed during the baseline"
        if live.error_rate * 100 > self._lab.watch.steady_error_percent:
            limit = self._lab.watch.steady_error_percent
            return f"{live.error_rate:.0%} of the baseline's probes failed, more than {limit:g} %"
        if live.failing_since_us is not None:
            return "the last probe before the injection failed"
        return ""

    def _inject(self) -> tuple[RunState, str]:
        """Deliver the faults, each for its planned time from its delivery on, and revert them, come what may."""
        try:
            deliveries = self._deliveries()
        except NotDelivered as refusal:
            return self._refused(refusal)
        for delivery in deliveries:
            delivery.look_before()
        self._log.add(
            Event.INJECTION_STARTED,
            mechanism="; ".join(dict.fromkeys(delivery.injection.mechanism for delivery in deliveries)),
        )
        self._injecting = True
        self._user_probe = UserProbe(probe) if (probe := self._lab.watch.abort.probe) else None
        try:
            self._carry_out(deliveries)
        except NotDelivered as refusal:
            return self._refused(refusal)
        except Aborted as abortion:
            self._log.add(Event.ABORTED, reason=str(abortion))
            raise
        finally:
            self._injecting = False
            if self._user_probe is not None:
                self._user_probe.close()
            self._revert(deliveries)
        return self._judge(deliveries)

    def _deliveries(self) -> list[Delivery]:
        """Return the planned faults, ready to be delivered.

        Raises:
            NotDelivered: a victim is gone.
        """
        chosen, scale = self._lab.faults[self._planned.scenario.name], self._lab.plan.duration_scale
        room = Room(run=self._key.slug, journal=self._lab.journal, log=self._log, host=self._lab.host, look=self._look)
        alone = len(chosen) == 1
        return [
            Delivery(
                replace(one, where=replace(one.where, route=self._route, seed=self._seed + number)),
                room,
                offset=one.fault.offset * scale,
                seconds=one.fault.duration * scale,
                token=self._token if alone else f"{self._token}-{number}",
                label="" if alone else one.fault.name,
            )
            for number, one in enumerate(chosen)
        ]

    def _carry_out(self, deliveries: Sequence[Delivery]) -> None:
        """Take the faults through their times; the last one to end is left to be reverted.

        Raises:
            NotDelivered: a fault failed, or no effect was seen.
            NotReverted: a fault that ended before the others could not be undone.
        """
        started_us = now_us()
        ends_us = started_us + int(self._planned.injection * 1e6)
        self._enter("injection", self._planned.injection, then=self._planned.recovery)
        lasting = list(deliveries)
        while True:
            self._look()
            over = [delivery for delivery in lasting if delivery.advance(started_us)]
            lasting = [delivery for delivery in lasting if delivery not in over]
            if not lasting and now_us() >= ends_us:
                return
            raise_together([failure for delivery in over for failure in delivery.revert()])
            due_us = min([ends_us, *(delivery.due_us(started_us) for delivery in lasting)])
            time.sleep(min(_TICK, max(0.0, (due_us - now_us()) / 1e6)))

    def _refused(self, refusal: NotDelivered) -> tuple[RunState, str]:
        self._log.add(Event.NOT_DELIVERED, reason=str(refusal))
        return RunState.NOT_DELIVERED, str(refusal)

    def _revert(self, deliveries: Sequence[Delivery]) -> None:
        """End the injection: undo what still lasts, last fault first; a failure does not spare the others."""
        self._log.add(Event.RECOVERY_STARTED)
        ends = [delivery.over_us for delivery in deliveries if delivery.injection.steps]
        over_us = max((end for end in ends if end is not None), default=None) if None not in ends else None
        self._log.add(Event.FAULT_OVER, at_us=over_us)
        raise_together([failure for delivery in reversed(deliveries) for failure in delivery.revert()])

    def _judge(self, deliveries: Sequence[Delivery]) -> tuple[RunState, str]:
        doses = [dose for delivery in deliveries for dose in delivery.doses()]
        for dose in doses:
            self._log.add(Event.DOSE, **dose.as_dict())
        missed = [dose for dose in doses if not dose.ok]
        if not missed:
            return RunState.COMPLETED, ""
        dose = missed[0]
        found = "not measured" if dose.delivered is None else f"{dose.delivered:.3g} {dose.unit}"
        return RunState.NOT_DELIVERED, (
            f"{dose.quantity}: asked {dose.asked:.3g} {dose.unit}, delivered {found}, "
            f"accepted {dose.low:.3g} to {dose.high:.3g}"
        )

    def pause(self, seconds: float, phase: str, *, then: float = 0.0) -> None:
        """Let `seconds` pass while everything is watched; `then` is what the run still has before it afterwards."""
        until = time.monotonic() + seconds
        self._enter(phase, seconds, then=then)
        while True:
            self._look()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(_TICK, left))

    def _enter(self, phase: str, seconds: float, *, then: float) -> None:
        self._phase, self._phase_ends, self._after_phase = phase, time.monotonic() + seconds, then

    def _look(self) -> None:
        """Look at everything that may end the run early, and say where it stands.

        Raises:
            Interrupted, Aborted, ChaoslabError: as `run_campaign`.
        """
        self._report()
        self._log.check()
        self._lab.interrupts.check()
        self._lab.guardian.check()
        if time.monotonic() > self._give_up:
            raise Aborted(f"the campaign's limit of {self._lab.watch.limit:.0f} s has passed; everything was reverted")
        if self._phase != "cooldown":
            self._prober.check()
            self._sampler.check()
        if self._injecting:
            self._look_for_danger()

    def _look_for_danger(self) -> None:
        watch, at_us = self._lab.watch, now_us() - self._lab.anchor_ns // 1000
        reason = abort_reason(self._prober.live, watch.abort, at_us=at_us, check_interval=watch.check_interval)
        if not reason and time.monotonic() > self._next_host_look:
            self._next_host_look = time.monotonic() + _HOST_LOOK_SECONDS
            reason = host_in_danger(self._lab.folder, watch.abort)
        if not reason and self._user_probe is not None:
            reason = self._user_probe.reason()
        if reason:
            raise Aborted(f"{reason}; everything was reverted")

    def _report(self) -> None:
        plan, planned = self._lab.plan, self._planned
        later = plan.runs[self._place + 1 :]
        left_here = max(0.0, self._phase_ends - time.monotonic()) + self._after_phase
        if self._phase == "cooldown":
            left_here += planned.seconds
        remaining = left_here + sum(run.seconds + plan.cooldown for run in later)
        self._lab.report(
            Progress(
                scenario=planned.scenario.name,
                repeat=planned.repeat,
                repeats=plan.repeats,
                number=self._place + 1,
                total=len(plan.runs),
                phase=self._phase,
                remaining=remaining,
                fraction=min(1.0, max(0.0, 1 - remaining / plan.seconds)),
            )
        )

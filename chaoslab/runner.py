"""The runner: takes each planned run through its phases, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from chaoslab.aborts import abort_reason, host_in_danger
from chaoslab.errors import Aborted, CampaignFolderError, ChaoslabError, NotDelivered, NotReverted
from chaoslab.faults import Injection, Mechanism, Reading, Route, Surroundings
from chaoslab.guardian import Guardian
from chaoslab.interrupts import Interrupts
from chaoslab.journal import Journal, Phase, Step, now_us
from chaoslab.plan import Plan, PlannedRun
from chaoslab.probe import Prober, ProbeSpec
from chaoslab.records import Event, RunState
from chaoslab.resources import ResourceSampler, SamplerSpec
from chaoslab.scenario import AbortConditions
from chaoslab.store import PartWriter, RunKey
from chaoslab.undo import undo

_TICK: Final = 0.05
_LONGEST_START: Final = 30.0
_EVIDENCE_LIMIT: Final = 5.0
_EVIDENCE_PAUSE: Final = 0.05
_HOST_LOOK_SECONDS: Final = 0.5


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

    `steady_error_percent` is the share of failed probes above which a baseline is not a steady state;
    `check_interval` is the pace, in seconds, that the abort condition on consecutive failures counts in;
    `limit` bounds the campaign, in seconds.
    """

    url: str
    rate_hz: float
    timeout: float
    sampling: float
    steady_error_percent: float
    abort: AbortConditions
    check_interval: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Laboratory:
    """What a campaign works with."""

    folder: Path
    campaign: str
    anchor_ns: int
    plan: Plan
    watch: Watch
    where: Surroundings
    mechanisms: dict[str, Mechanism]
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
    for planned in laboratory.plan.runs:
        try:
            execution = _Execution(laboratory, planned, give_up=give_up)
        except OSError as error:
            raise CampaignFolderError(f"{laboratory.folder} cannot be written: {error.strerror}") from error
        if planned.index:
            execution.pause(laboratory.plan.cooldown, "cooldown")
        execution.execute()


class _EventLog:
    """Events of one run, each on disk before the next thing happens.

    A disk that is full must not keep a fault from being undone: `add` never raises, `check` does.
    """

    def __init__(self, folder: Path, key: RunKey, anchor_ns: int) -> None:
        self._folder = folder
        self._parts = PartWriter(folder, "events", key)
        self._anchor_us = anchor_ns // 1000
        self._failure: OSError | None = None

    def add(self, event: Event, step: str = "", *, at_us: int | None = None, **detail: Any) -> None:
        at = (now_us() if at_us is None else at_us) - self._anchor_us
        try:
            self._parts.write({"at_us": [at], "event": [event], "step": [step], "detail": [json.dumps(detail)]})
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

    def __init__(self, laboratory: Laboratory, planned: PlannedRun, *, give_up: float) -> None:
        self._lab = laboratory
        self._planned = planned
        self._give_up = give_up
        self._key = RunKey(
            campaign=laboratory.campaign, scenario=planned.scenario.name, repeat=planned.repeat, index=planned.index
        )
        self._mechanism = laboratory.mechanisms[planned.scenario.name]
        self._token = f"{laboratory.campaign}-{self._key.slug}-{os.urandom(4).hex()}"
        self._where = replace(laboratory.where, seed=laboratory.plan.seed + planned.index)
        self._log = _EventLog(laboratory.folder, self._key, laboratory.anchor_ns)
        self._instrument_record: dict[str, Any] = {}
        self._injecting = False
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
        """Keep open the way round that the mechanism asks for, if any: for the whole run, baseline and all."""
        host, journal = self._lab.where.host, self._lab.journal
        longest = self._planned.seconds * 2 + _LONGEST_START
        route = self._mechanism.route(self._lab.where, seconds=longest, token=self._token)
        if route is None:
            yield
            return
        journal.intend(self._key.slug, route.step)
        try:
            host.hold(route.step.do, token=route.step.token)
            self._until_open(route)
            journal.append(Phase.DONE, run=self._key.slug, step=route.step.name)
            self._where = replace(self._where, route=route)
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
            url=watch.url,
            connect_to=self._where.route.connect_to if self._where.route else None,
            rate_hz=watch.rate_hz,
            timeout_s=watch.timeout,
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
        """Deliver the fault, hold it for the planned time from its delivery on, and revert it, come what may."""
        planned = self._planned
        try:
            injection = self._mechanism.inject(
                planned.scenario, self._where, seconds=planned.injection, token=self._token
            )
        except NotDelivered as refusal:
            return self._refused(refusal)
        readings = [self._read(injection.steps[-1])] if injection.steps else []
        over_us: int | None = None
        self._log.add(Event.INJECTION_STARTED, mechanism=injection.mechanism)
        self._injecting = True
        try:
            done_us = self._deliver(injection, readings)
            over_us = done_us if injection.over_when_done else None
            self.pause(planned.injection - (now_us() - done_us) / 1e6, "injection", then=planned.recovery)
            self._last_look(injection, readings)
        except NotDelivered as refusal:
            return self._refused(refusal)
        except Aborted as abortion:
            self._log.add(Event.ABORTED, reason=str(abortion))
            raise
        finally:
            self._injecting = False
            self._revert(injection, over_us)
        return self._judge(injection, readings)

    def _refused(self, refusal: NotDelivered) -> tuple[RunState, str]:
        self._log.add(Event.NOT_DELIVERED, reason=str(refusal))
        return RunState.NOT_DELIVERED, str(refusal)

    def _deliver(self, injection: Injection, readings: list[Reading]) -> int:
        """Do every step, and wait until the evidence of the last one shows the effect; return when it was done."""
        for step in injection.steps:
            self._lab.journal.intend(self._key.slug, step)
            self._log.add(Event.DO, step.name, argv=step.do)
            self._do(step)
            self._lab.journal.append(Phase.DONE, run=self._key.slug, step=step.name)
            self._log.add(Event.DONE, step.name)
        done_us = now_us()
        if injection.steps:
            self._verify(injection, injection.steps[-1], readings)
        return done_us

    def _do(self, step: Step) -> None:
        if step.holds:
            try:
                self._lab.where.host.hold(step.do, token=step.token)
            except OSError as error:
                raise NotDelivered(f"{step.name}: {step.do[0]} cannot be started: {error.strerror}") from error
            return
        result = self._lab.where.host.run(step.do, timeout=step.do_limit, token=step.token, watch=self._look)
        if not result.ok:
            raise NotDelivered(f"{step.name}: {result.problem}")

    def _verify(self, injection: Injection, step: Step, readings: list[Reading]) -> None:
        deadline = time.monotonic() + injection.effect_limit
        while True:
            readings.append(self._read(step))
            if injection.took_effect(readings):
                break
            if time.monotonic() > deadline:
                raise NotDelivered(f"{step.name}: no effect was seen within {injection.effect_limit:g} s")
            self.pause(_EVIDENCE_PAUSE, "injection")
        self._lab.journal.append(Phase.VERIFIED, run=self._key.slug, step=step.name)
        self._log.add(Event.VERIFIED, step.name, **readings[-1].data)

    def _last_look(self, injection: Injection, readings: list[Reading]) -> None:
        if injection.steps:
            readings.append(self._read(injection.steps[-1]))

    def _read(self, step: Step) -> Reading:
        at = now_us()
        result = self._lab.where.host.run(step.evidence, timeout=_EVIDENCE_LIMIT, watch=self._look)
        try:
            data = json.loads(result.stdout)
        except ValueError:
            data = {}
        return Reading(at_us=at, exit_code=result.exit_code, data=data if isinstance(data, dict) else {})

    def _revert(self, injection: Injection, over_us: int | None) -> None:
        """End the injection: undo what was begun, last step first; a failure does not spare the others."""
        self._log.add(Event.RECOVERY_STARTED)
        self._log.add(Event.FAULT_OVER, at_us=over_us)
        begun = {found.step.name for found in self._lab.journal.open_steps() if found.run == self._key.slug}
        failures = [
            failure for step in reversed(injection.steps) if step.name in begun and (failure := self._undo(step))
        ]
        if failures:
            raise NotReverted(
                "; ".join(str(failure) for failure in failures),
                commands=[command for failure in failures for command in failure.commands],
            )

    def _undo(self, step: Step) -> NotReverted | None:
        self._log.add(Event.UNDO, step.name, argv=step.undo)
        try:
            undo(step, run=self._key.slug, journal=self._lab.journal, host=self._lab.where.host)
        except NotReverted as failure:
            self._log.add(Event.UNDO_FAILED, step.name, reason=str(failure), command="; ".join(failure.commands))
            return failure
        self._log.add(Event.UNDONE, step.name)
        return None

    def _judge(self, injection: Injection, readings: Sequence[Reading]) -> tuple[RunState, str]:
        doses = injection.doses(readings)
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

    def pause(self, seconds: float, phase: str, *, then: float | None = None) -> None:
        """Let `seconds` pass while everything is watched; `then` is what the run still has before it afterwards."""
        until = time.monotonic() + seconds
        if then is not None or phase != self._phase:
            self._phase, self._phase_ends, self._after_phase = phase, until, then or 0.0
        while True:
            self._look()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(_TICK, left))

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
            reason = host_in_danger(self._lab.folder)
        if reason:
            raise Aborted(f"{reason}; everything was reverted")

    def _report(self) -> None:
        plan, planned = self._lab.plan, self._planned
        later = plan.runs[planned.index + 1 :]
        left_here = max(0.0, self._phase_ends - time.monotonic()) + self._after_phase
        if self._phase == "cooldown":
            left_here += planned.seconds
        remaining = left_here + sum(run.seconds + plan.cooldown for run in later)
        self._lab.report(
            Progress(
                scenario=planned.scenario.name,
                repeat=planned.repeat,
                repeats=plan.repeats,
                number=planned.index + 1,
                total=len(plan.runs),
                phase=self._phase,
                remaining=remaining,
                fraction=min(1.0, max(0.0, 1 - remaining / plan.seconds)),
            )
        )

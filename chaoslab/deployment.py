"""A service under test that a command starts, as one more reversible step: undone by whoever is left."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final

from chaoslab.agent import processes, tethered
from chaoslab.errors import UsageError
from chaoslab.experiment import Session
from chaoslab.hosts import LocalHost
from chaoslab.instruments import probe
from chaoslab.journal import Phase, Step
from chaoslab.looks import Look
from chaoslab.plan import redacted
from chaoslab.redaction import learn
from chaoslab.undo import undo

_LONGEST: Final = 24 * 3600.0
_MARGIN: Final = 5.0
_TICK_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 2.0
_TAIL_BYTES: Final = 1 << 20
_SHOWN_LINES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A command that starts a service, the URL that answers once it is ready, and how long that may take, in seconds.

    `stop` is a command that ends what `start` does not hold in its own processes, such as containers. Whatever is ended
    has `grace` seconds to end by itself.
    """

    start: str
    ready: str
    patience: float = 60.0
    stop: str = ""
    grace: float = 10.0

    def __post_init__(self) -> None:
        for option, value in (("--ready-timeout", self.patience), ("--grace", self.grace)):
            if not 0 < value <= _LONGEST:
                raise UsageError(f"{option} is {value:g}; accepted: more than 0, up to {_LONGEST:g} seconds")

    @property
    def look(self) -> Look:
        """What tells that it is ready."""
        return Look(address=self.ready, timeout_s=_LOOK_SECONDS)


class Deployed:
    """The handle on a service that was started."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._process, self._log = process, log

    @property
    def ended(self) -> int | None:
        """Exit code of the command that started it, None while that runs."""
        return self._process.poll()

    def log(self, most: int = _TAIL_BYTES) -> str:
        """Return what it said on standard output and error, the last `most` bytes."""
        size = os.fstat(self._log.fileno()).st_size
        # pread: the service writes at the offset that it shares with us.
        return os.pread(self._log.fileno(), most, max(0, size - most)).decode(errors="replace")


@contextmanager
def deployed(session: Session, wanted: Deployment) -> Iterator[Deployed]:
    """Start a service as a step of the session's journal, and give it once it is ready; it is ended afterwards.

    Raises:
        UsageError: something answers already, it ends or does not become ready; the message ends with its last words.
        Interrupted: a signal came meanwhile.
        NotReverted: some of it could not be ended.
    """
    learn([wanted.start, wanted.stop])
    if (before := probe.check(wanted.look)).reachable:
        said = "" if before.ok else f" ({before.reason})"
        raise UsageError(
            f"something answers at {redacted(wanted.ready)} before the service is started{said}: "
            "stop it first, or leave out --start to break what is there"
        )
    token = f"service-{secrets.token_hex(8)}"
    step = Step(
        name="service under test",
        do=(*tethered.MODULE, "run", wanted.start),
        undo=(*tethered.MODULE, "end", token, f"{wanted.grace:g}", *([wanted.stop] if wanted.stop else [])),
        token=token,
        deadline=_LONGEST,
        holds=True,
        undo_limit=2 * wanted.grace + _MARGIN,
        touches={"processes_of": token},
    )
    session.journal.intend("", step)
    with tempfile.TemporaryFile() as log:
        process = processes.spawn(step.do, token=token, stdout=log, stderr=log)
        try:
            session.journal.append(Phase.DONE, step=step.name)
            service = Deployed(process, log)
            _await(session, wanted, service)
            yield service
        finally:
            try:
                undo(step, run="", journal=session.journal, host=LocalHost())
            finally:
                process.poll()  # reaps what is gone, and waits for nothing that is not


def _await(session: Session, wanted: Deployment, service: Deployed) -> None:
    deadline = time.monotonic() + wanted.patience
    while not (seen := probe.check(wanted.look)).ok:
        session.interrupts.check()
        session.guardian.check()
        if service.ended:
            raise UsageError(f"the service ended with {service.ended} before it was ready{_last_words(service)}")
        if time.monotonic() > deadline:
            raise UsageError(
                f"the service is not ready after {wanted.patience:g} s: {redacted(wanted.ready)}: {seen.reason}"
                f"{_last_words(service)}"
            )
        time.sleep(_TICK_SECONDS)


def _last_words(service: Deployed) -> str:
    lines = service.log().splitlines()[-_SHOWN_LINES:]
    return "\n".join([":", *(f"| {line}" for line in lines)]) if lines else "; it said nothing"

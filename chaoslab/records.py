"""The tables that experiment and analysis meet in: probes, resources, events.

Times are microseconds. `*_at_us` and `scheduled_us` count from the campaign's anchor, one instant that
`campaign.json` gives on both the monotonic and the wall clock; other times count from the row's own schedule.
The phase of a probe is never stored: it is derived from the events (`store.Campaign.runs`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

import pyarrow as pa

SCHEMA_VERSION: Final = 1

LAG_LIMIT_US: Final = 10_000
"""A probe that was sent later than this was held up by the prober: its latency says so much less of the service."""

_LABEL = pa.dictionary(pa.int32(), pa.string())
_METADATA = {"chaoslab.schema_version": str(SCHEMA_VERSION)}

_RUN_KEY = [
    pa.field("campaign", _LABEL, nullable=False),  # its identifier
    pa.field("scenario", _LABEL, nullable=False),  # its name
    pa.field("repeat", pa.int16(), nullable=False),  # 1, 2, 3 … of the scenario
]

PROBES: Final = pa.schema(
    [
        *_RUN_KEY,
        pa.field("seq", pa.int32(), nullable=False),  # 0, 1, 2 … within the run, in order of schedule
        pa.field("probe", _LABEL, nullable=False),  # name of the probe, "health" by default
        pa.field("scheduled_us", pa.int64(), nullable=False),  # since the campaign's anchor
        pa.field("sent_us", pa.int32()),  # schedule lag: sent − scheduled; null: never sent
        pa.field("latency_us", pa.int32(), nullable=False),  # finished − scheduled (open loop), time-outs included
        pa.field("status", pa.int16()),  # HTTP status; null: no answer
        pa.field("outcome", _LABEL, nullable=False),  # Outcome
        pa.field("error", _LABEL),  # ErrorKind; null: success
    ],
    metadata=_METADATA,
)

RESOURCES: Final = pa.schema(
    [
        *_RUN_KEY,
        pa.field("at_us", pa.int64(), nullable=False),  # since the campaign's anchor
        pa.field("cpu_cores", pa.float32(), nullable=False),  # cores busy since the last sample
        pa.field("cpu_percent", pa.float32(), nullable=False),  # of all cores
        pa.field("load_1m", pa.float32(), nullable=False),  # load average of 1 minute
        pa.field("memory_used_bytes", pa.int64(), nullable=False),
        pa.field("memory_available_bytes", pa.int64(), nullable=False),  # without swapping
        pa.field("disk_read_bytes", pa.int64(), nullable=False),  # counters since boot
        pa.field("disk_written_bytes", pa.int64(), nullable=False),  # counters since boot
        pa.field("network_sent_bytes", pa.int64(), nullable=False),  # counters since boot
        pa.field("network_received_bytes", pa.int64(), nullable=False),  # counters since boot
    ],
    metadata=_METADATA,
)

EVENTS: Final = pa.schema(
    [
        *_RUN_KEY,
        pa.field("at_us", pa.int64(), nullable=False),  # since the campaign's anchor
        pa.field("event", _LABEL, nullable=False),  # Event
        pa.field("step", pa.string(), nullable=False),  # name of the fault's step, or ""
        pa.field("detail", pa.string(), nullable=False),  # a JSON object
    ],
    metadata=_METADATA,
)

TABLES: Final = {"probes": PROBES, "resources": RESOURCES, "events": EVENTS}


class Outcome(StrEnum):
    """What one probe saw."""

    SUCCESS = "success"
    FAILURE = "failure"


class ErrorKind(StrEnum):
    """Why a probe failed."""

    TIMEOUT = "timeout"  # no complete answer within the probe's time-out
    REFUSED = "refused"  # connection refused
    RESET = "reset"  # connection reset or closed before the answer was complete
    UNREACHABLE = "unreachable"  # no route, name not resolved
    TLS = "tls"  # no TLS connection, or a certificate that is not trusted
    PROTOCOL = "protocol"  # what came back is not HTTP
    STATUS = "status"  # an answer, with a status that is not a success; of a command: it did not exit with 0
    BODY = "body"  # a status that is a success, and a body that does not hold what it must
    LATE = "late"  # all that a success must be, later than the probe's own limit
    UNSENT = "unsent"  # the prober itself had no free connection: its own fault, not the service's


class Event(StrEnum):
    """What happened in a run, in the order in which it happens.

    Phases: baseline is [BASELINE_STARTED, INJECTION_STARTED), injection is [INJECTION_STARTED,
    RECOVERY_STARTED), recovery is [RECOVERY_STARTED, RUN_FINISHED). A run that never injects has no
    INJECTION_STARTED.
    """

    BASELINE_STARTED = "baseline_started"
    STEADY_STATE = "steady_state"  # detail: {"steady": bool, "reason": str}
    INJECTION_STARTED = "injection_started"  # just before the first `do`
    DO = "do"  # detail: {"argv": [...]}, and "fault" where there are several; the step is about to run
    DONE = "done"
    VERIFIED = "verified"  # the evidence shows the effect; detail: the reading
    NOT_DELIVERED = "not_delivered"  # detail: {"reason": str}
    DOSE = "dose"  # detail: Dose
    ABORTED = "aborted"  # detail: {"reason": str}
    RECOVERY_STARTED = "recovery_started"  # the injection's time is over (or it was cut)
    UNDO = "undo"  # detail: as of DO
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"  # detail: {"reason": str, "command": str}
    FAULT_OVER = "fault_over"  # the instant from which recovery time counts
    RUN_FINISHED = "run_finished"  # detail: {"state": RunState, "reason": str}


class RunState(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    NOT_STEADY = "not_steady"  # the target was not healthy before injection: nothing was injected
    NOT_DELIVERED = "not_delivered"  # the fault did not take effect, or not by the dose that was asked
    ABORTED = "aborted"
    OBSERVED = "observed"  # imported, and nobody said when the fault acted, or single probes were not recorded
    BROKEN = "broken"  # the run ended without its last event: the tool was killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """How much fault was asked for and how much was measured.

    `asked`, `delivered`, `low` and `high` are in `unit`; the dose counts as delivered when `delivered` lies
    within [low, high]. `delivered` is None when it could not be measured.
    """

    quantity: str
    unit: str
    asked: float
    delivered: float | None
    low: float
    high: float
    how: str
    mechanism: str

    @property
    def ok(self) -> bool:
        """Whether the measured dose lies within its tolerance."""
        return self.delivered is not None and self.low <= self.delivered <= self.high

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object, with `ok`."""
        return {**asdict(self), "ok": self.ok}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Dose:
        """Return the dose that `as_dict` wrote.

        Raises:
            TypeError, ValueError: they are not the fields of a dose.
        """
        dose = cls(**{name: value for name, value in fields.items() if name != "ok"})
        for name in ("quantity", "unit", "how", "mechanism"):
            if not isinstance(getattr(dose, name), str):
                raise ValueError(f"{name} of a dose is {getattr(dose, name)!r}")
        for name in ("asked", "delivered", "low", "high"):
            value = getattr(dose, name)
            known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not known and (name != "delivered" or value is not None):
                raise ValueError(f"{name} of a dose is {value!r}")
        return dose

"""What this machine's processor, memory, disks and network did while a run lasted, sampled by a process of its own.

python -m chaoslab.instruments.resources       started and spoken to by `ResourceSampler`
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import psutil

from chaoslab.errors import require_positive
from chaoslab.instruments.instrument import Instrument, Order, Orders, say, settle
from chaoslab.instruments.recorder import Recorder
from chaoslab.store import PartWriter, RunKey

COLUMNS: Final = (
    "at_us",
    "cpu_cores",
    "cpu_percent",
    "load_1m",
    "memory_used_bytes",
    "memory_available_bytes",
    "disk_read_bytes",
    "disk_written_bytes",
    "network_sent_bytes",
    "network_received_bytes",
)
_PART_PERIOD: Final = 1.0
_FLUSH_PATIENCE: Final = 10.0
_ORPHAN_PATIENCE: Final = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSpec:
    """How often to sample, and where the rows go.

    Args:
        folder, key: the campaign's folder, and the run that the rows belong to.
        anchor_ns: the campaign's anchor on CLOCK_MONOTONIC, in nanoseconds.
        interval_s: seconds between two samples.
        max_duration_s: the sampler stops by itself after this time.

    Raises:
        UsageError: a value that cannot be used.
    """

    folder: Path
    key: RunKey
    anchor_ns: int
    interval_s: float = 0.5
    max_duration_s: float = 86_400.0

    def __post_init__(self) -> None:
        require_positive(interval_s=self.interval_s, max_duration_s=self.max_duration_s)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self) | {"folder": os.fspath(self.folder)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SamplerSpec:
        """Return the specification that `as_dict` wrote."""
        return cls(**{**fields, "folder": Path(fields["folder"]), "key": RunKey(**fields["key"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSummary:
    """What a sampler did: `recorded` rows are on disk, `dropped` ones are not.

    `missing` names what the machine does not count ("disk", "network"): those columns hold 0 throughout.
    """

    recorded: int
    dropped: int
    missing: tuple[str, ...]
    priority_raised: bool


class ResourceSampler(Instrument[SamplerSpec]):
    """Handle on a sampler: a process that samples this machine from `start` on, until `stop`.

    Methods of `Instrument` raise ChaoslabError when the sampler has failed.
    """

    module: ClassVar[str] = "chaoslab.instruments.resources"
    noun: ClassVar[str] = "resource sampler"

    def stop(self) -> SamplerSummary:
        """Take no more samples, and leave the run's one file on disk.

        Raises:
            ChaoslabError: the sampler had failed, or rows could not be written; those that were are kept.
        """
        done = self._finish(_FLUSH_PATIENCE + 20.0)
        return SamplerSummary(**{**done, "missing": tuple(done["missing"])})


class Sampler:
    """Reads the machine's counters, one row a call."""

    def __init__(self, anchor_ns: int) -> None:
        self.missing: set[str] = set()
        self._anchor_ns = anchor_ns
        self._cores = psutil.cpu_count() or 1
        psutil.cpu_percent()  # each call tells the share since the one before

    def sample(self) -> tuple[Any, ...]:
        """Return one row, in the order of `COLUMNS`."""
        percent = psutil.cpu_percent()
        memory = psutil.virtual_memory()
        return (
            (time.monotonic_ns() - self._anchor_ns) // 1000,
            percent / 100 * self._cores,
            percent,
            os.getloadavg()[0],
            memory.used,
            memory.available,
            *self._disk(),
            *self._network(),
        )

    def _disk(self) -> tuple[int, int]:
        # A container may show no disk, or disks without counters, for which psutil has None or an error.
        try:
            counters = psutil.disk_io_counters()
        except (OSError, RuntimeError, NotImplementedError):
            counters = None
        if counters is None:
            self.missing.add("disk")
            return 0, 0
        return counters.read_bytes, counters.write_bytes

    def _network(self) -> tuple[int, int]:
        try:
            counters = psutil.net_io_counters()
        except (OSError, RuntimeError):
            counters = None
        if counters is None:
            self.missing.add("network")
            return 0, 0
        return counters.bytes_sent, counters.bytes_recv


def watch(sampler: Sampler, spec: SamplerSpec, recorder: Recorder, orders: Orders) -> Order:
    """Sample at fixed instants until told to stop, or until the parent is gone; a missed instant is passed over."""
    started = time.monotonic()
    due = started + spec.interval_s
    while True:
        order = orders.look(max(0.0, due - time.monotonic()))
        if order is not None:
            return order
        now = time.monotonic()
        if now < due:
            continue
        recorder.add(sampler.sample())
        due += spec.interval_s * (math.floor((now - due) / spec.interval_s) + 1)
        if now > started + spec.max_duration_s:
            say("error", f"the resource sampler reached its own limit of {spec.max_duration_s:g} s and stopped")
            return Order.STOP


def main() -> int:
    """Sample as the specification on standard input says; return 0 when every row is on disk."""
    orders = Orders()
    spec = SamplerSpec.from_dict(orders.specification())
    priority = settle()
    try:
        writer = PartWriter(spec.folder, "resources", spec.key)
    except OSError as error:
        say("error", f"resources cannot be recorded: {error.strerror or error}", patience=1.0)
        return 1
    recorder = Recorder(
        writer,
        COLUMNS,
        complain=lambda problem: say("error", f"resources: {problem}", patience=1.0),
        period=_PART_PERIOD,
    )
    sampler = Sampler(spec.anchor_ns)
    say("ready", True)
    order = watch(sampler, spec, recorder, orders)
    gone = order is Order.GONE
    complete = recorder.close(patience=_ORPHAN_PATIENCE if gone else _FLUSH_PATIENCE, compact=not gone)
    summary = {"recorded": recorder.recorded, "dropped": recorder.dropped, "missing": sorted(sampler.missing)}
    say("done", summary | {"priority_raised": priority != "ordinary"}, patience=1.0)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())

"""What the soak runs: the scenario file of both campaigns, and how many repeats fill the time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

WATCH: Final = "Watch"
_BASELINE: Final = 3.0
_RECOVERY: Final = 5.0
_COOLDOWN: Final = 1.0
_OVERHEAD: Final = 2.0  # starts and ends of the instruments, evidence, undo
_SCALE_OF_A_SHORT_ONE: Final = 0.25
_SHORT: Final = 10.0

# The first ones are what a soak of half a minute has time for.
_FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"name": "Errors", "type": "http_fault", "duration": 8, "parameters": {"percent": 20, "status": 503}},
    {"name": "Crash", "type": "container_crash", "duration": 8},
    {"name": "Loss", "type": "packet_loss", "duration": 8, "parameters": {"loss_percent": 5}},
    {"name": "Nothing", "type": "control", "duration": 6},
    {"name": "CPU", "type": "cpu_stress", "duration": 8, "parameters": {"cpu_workers": 1}},
    {"name": "Memory", "type": "memory_stress", "duration": 8, "parameters": {"memory_size": "128M"}},
    {"name": "Disk", "type": "disk_stress", "duration": 8, "parameters": {"io_workers": 1, "worker_size": "32M"}},
    {"name": "Delay", "type": "network_latency", "duration": 8, "parameters": {"delay_ms": 30}},
    {"name": "Hangs", "type": "http_fault", "duration": 8, "parameters": {"percent": 10, "hang": True}},
    {"name": "Outage", "type": "database_outage", "duration": 6},
    {"name": "Partition", "type": "network_partition", "duration": 4},
    {
        "name": "Storm",
        "type": "combined",
        "duration": 12,
        "faults": [
            {"type": "cpu_stress", "duration": 10, "parameters": {"cpu_workers": 1}},
            {"type": "network_latency", "offset": 2, "duration": 8, "parameters": {"delay_ms": 30}},
            {"type": "container_crash", "offset": 4, "duration": 6},
        ],
    },
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a soak of `minutes` is filled; both campaigns last about as long."""

    minutes: float

    @property
    def scale(self) -> float:
        """Factor on the durations of the faults."""
        return 1.0 if self.minutes >= _SHORT else _SCALE_OF_A_SHORT_ONE

    @property
    def seconds(self) -> float:
        """How long the soak is to last."""
        return 60.0 * self.minutes

    @property
    def limit(self) -> float:
        """Seconds after which a campaign ends itself."""
        return 2 * self.seconds + 600

    @property
    def faults(self) -> tuple[str, ...]:
        """Names of the scenarios of the campaign of faults: as many as there is time for."""
        names: list[str] = []
        spent = 0.0
        for fault in _FAULTS:
            spent += self._length(fault)
            if names and spent > self.seconds:
                break
            names.append(fault["name"])
        return tuple(names)

    @property
    def repeats(self) -> int:
        """How often each of them comes."""
        round_ = sum(self._length(fault) for fault in _FAULTS if fault["name"] in self.faults)
        return max(1, int(self.seconds / round_))

    def _length(self, fault: dict[str, Any]) -> float:
        return (
            max(2.0, _BASELINE * self.scale)
            + fault["duration"] * self.scale
            + max(4.0, _RECOVERY * self.scale)
            + (_COOLDOWN * self.scale + _OVERHEAD)
        )

    def write(self, path: Path) -> None:
        """Write the scenario file."""
        watch = {"name": WATCH, "type": "control", "duration": self.seconds - _BASELINE - _RECOVERY}
        document = {
            "scenarios": [*_FAULTS, watch],
            "phases": {"baseline_seconds": _BASELINE, "recovery_seconds": _RECOVERY},
            # Whoever only watches sees the worst of the others, and is not to stop for it.
            "safety": {"cooldown_seconds": _COOLDOWN, "max_total_duration_seconds": self.limit},
        }
        path.write_text(json.dumps(document, indent=2))

"""Failure types: one file each, mechanisms best first. What none of them can deliver is refused, not pretended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chaoslab.errors import NotDelivered
from chaoslab.faults import (
    container_crash,
    control,
    cpu_stress,
    database_outage,
    disk_stress,
    memory_stress,
    network_latency,
    packet_loss,
)
from chaoslab.faults.base import Injection, Mechanism, Obstacle, Reading, Route, Surroundings
from chaoslab.scenario import AnyScenario

__all__ = ["MECHANISMS", "Injection", "Mechanism", "Obstacle", "Reading", "Route", "Surroundings", "choose"]

MECHANISMS: Final[Mapping[str, tuple[Mechanism, ...]]] = {
    "control": control.MECHANISMS,
    "cpu_stress": cpu_stress.MECHANISMS,
    "memory_stress": memory_stress.MECHANISMS,
    "disk_stress": disk_stress.MECHANISMS,
    "network_latency": network_latency.MECHANISMS,
    "packet_loss": packet_loss.MECHANISMS,
    "container_crash": container_crash.MECHANISMS,
    "database_outage": database_outage.MECHANISMS,
}


def choose(scenario: AnyScenario, where: Surroundings) -> Mechanism:
    """Return the best mechanism that can deliver `scenario` here.

    Raises:
        NotDelivered: none can; the message has every mechanism's obstacle.
    """
    obstacles = []
    for mechanism in MECHANISMS[scenario.type]:
        obstacle = mechanism.obstacle(scenario, where)
        if obstacle is None:
            return mechanism
        obstacles.append(f"{mechanism.name}: {obstacle}")
    raise NotDelivered(f"{scenario.name} cannot be delivered here: {'; '.join(obstacles)}")

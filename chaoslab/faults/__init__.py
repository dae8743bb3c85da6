"""Failure types: one file each, mechanisms best first. What none of them can deliver is refused, not pretended.

A module of this folder that has a `FAULT` is a failure type. Other packages bring theirs by an entry point of the group
"chaoslab.faults" that names such a value.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Final

from chaoslab.errors import ChaoslabError, NotDelivered
from chaoslab.faults.base import FailureType, Injection, Mechanism, Obstacle, Reading, Route, Surroundings
from chaoslab.hosts import LocalHost
from chaoslab.scenario import Scenario

__all__ = [
    "FailureType",
    "Injection",
    "Mechanism",
    "Obstacle",
    "Reading",
    "Route",
    "Surroundings",
    "choose",
    "failure_types",
]

ENTRY_POINTS: Final = "chaoslab.faults"


@cache
def failure_types() -> Mapping[str, FailureType]:
    """Return every failure type by its name, ours and those of other packages.

    Raises:
        ChaoslabError: another package's entry point cannot be loaded, is no FailureType, or takes a name again.
    """
    found: dict[str, FailureType] = {}
    for origin, fault in (*_own(), *_foreign()):
        names = fault.scenario.type_names()
        taken = {name for other in found.values() for name in other.scenario.type_names()} & set(names)
        if taken:
            raise ChaoslabError(f"{origin} brings the failure type {min(taken)!r}, which there is already")
        found[fault.name] = fault
    return found


def _own() -> Iterator[tuple[str, FailureType]]:
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        fault = getattr(importlib.import_module(module.name), "FAULT", None)
        if isinstance(fault, FailureType):
            yield module.name, fault


def _foreign() -> Iterator[tuple[str, FailureType]]:
    for point in entry_points(group=ENTRY_POINTS):
        origin = f"the entry point {point.name} of {point.dist.name if point.dist else 'an unknown package'}"
        try:
            fault = point.load()
        except Exception as error:
            raise ChaoslabError(f"{origin} cannot be loaded: {error}") from error
        if not isinstance(fault, FailureType):
            raise ChaoslabError(f"{origin} is {type(fault).__name__}; accepted: chaoslab.faults.FailureType")
        yield origin, fault


def choose(scenario: Scenario, where: Surroundings) -> Mechanism:
    """Return the best mechanism that can deliver `scenario` here.

    Raises:
        NotDelivered: none can; the message has every mechanism's obstacle.
    """
    obstacles = []
    for mechanism in failure_types()[scenario.type].mechanisms:
        obstacle = _bound(mechanism, where) or mechanism.obstacle(scenario, where)
        if obstacle is None:
            return mechanism
        obstacles.append(f"{mechanism.name}: {obstacle}")
    raise NotDelivered(f"{scenario.name} cannot be delivered here: {'; '.join(obstacles)}")


def _bound(mechanism: Mechanism, where: Surroundings) -> Obstacle | None:
    """Return that a mechanism would act on this machine, and the scenario names another host; or None."""
    if not mechanism.only_here or where.host.name == LocalHost.name:
        return None
    return Obstacle(f"it acts on this machine, not on {where.host.name}", "leave out host")

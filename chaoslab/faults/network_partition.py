"""network_partition: no packet of the target's gets through, on its way there, back, or both.

Dose: the share of packets that was dropped, and the share of attempts to connect that came to nothing, where it was
seen that one came about before. The attempts are made from the prober's side.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field

from chaoslab.faults import doses
from chaoslab.faults.base import FailureType, Injection, Mechanism, Reading, Surroundings
from chaoslab.faults.impairment import Direction, Filters, Impairment
from chaoslab.faults.netem import COUNTED, Netem
from chaoslab.faults.packet_drop import IptablesDrop, NftDrop, PacketFilter, Rule
from chaoslab.faults.shares import Share
from chaoslab.faults.through_proxy import ProxyBlackHole
from chaoslab.faults.traffic import hit_by, port_of, together
from chaoslab.hosts import LocalHost
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Scenario

_CONNECTION: Final = (sys.executable, "-m", "chaoslab.agent.connection")


class PartitionParameters(Filters):
    """Packets that do not get through: the target's own, unless the filters name others."""

    direction: Direction = Field(default="both", description="seen from the machine on which the fault acts")


class NetworkPartition(Scenario):
    """The target cannot be reached."""

    type: Literal["network_partition"]
    parameters: PartitionParameters = PartitionParameters()


class _PartitionByFilter(PacketFilter):
    able = tuple(Filters.model_fields)

    def rule(self, scenario: Scenario, where: Surroundings) -> Rule:
        asked = _asked(scenario)
        return Rule(hit=hit_by(asked, where), ways=asked.directions, interface=asked.interface)

    def evidence(self, scenario: Scenario, where: Surroundings, count: tuple[str, ...]) -> tuple[str, ...]:
        return together(count, *_attempts(scenario, where))

    def injection(self, scenario: Scenario, steps: tuple[Step, ...]) -> Injection:
        return _partition(self, steps, self.counted)


class NftPartition(_PartitionByFilter, NftDrop):
    """nftables drops every packet."""


class IptablesPartition(_PartitionByFilter, IptablesDrop):
    """iptables drops every packet."""


class NetemPartition(Netem):
    """netem loses every packet."""

    def asked(self, scenario: Scenario) -> Impairment:
        asked = _asked(scenario)
        filters = {name: getattr(asked, name) for name in ("interface", "port", "address", "direction")}
        return Impairment(loss_percent=100, **filters)

    def evidence(self, scenario: Scenario, where: Surroundings, ours: tuple[str, ...]) -> tuple[str, ...]:
        return together(super().evidence(scenario, where, ours), *_attempts(scenario, where))

    def injection(self, scenario: Scenario, steps: tuple[Step, ...]) -> Injection:
        return _partition(self, steps, COUNTED)


def _asked(scenario: Scenario) -> PartitionParameters:
    assert isinstance(scenario, NetworkPartition)
    return scenario.parameters


def _attempts(scenario: Scenario, where: Surroundings) -> tuple[tuple[str, ...], ...]:
    """Return the command that tries to connect to what is cut off; none where that is no single port."""
    asked, here = _asked(scenario), where.host.name == LocalHost.name
    if asked.address is None:
        port = asked.port if asked.port and here else port_of(where.url)
        return ((*_CONNECTION, urlsplit(where.url).hostname or "", str(port)),)
    cut = hit_by(asked, where)
    if not here or cut.port is None or cut.address is None:
        return ()
    return ((*_CONNECTION, str(cut.address), str(cut.port)),)


def _partition(mechanism: Mechanism, steps: tuple[Step, ...], counted: str) -> Injection:
    losing = doses.losing(Share(1.0), mechanism=mechanism.name, steps=steps, counted=counted)
    attempted = "chaoslab.agent.connection" in " ".join(steps[-1].evidence)

    def took_effect(readings: Sequence[Reading]) -> bool:
        return losing.took_effect(readings) and not readings[-1].data.get("connected", False)

    def measured(readings: Sequence[Reading]) -> tuple[Dose, ...]:
        return (*losing.doses(readings), *([_connections(readings, mechanism.name)] if attempted else []))

    return replace(losing, took_effect=took_effect, doses=measured)


def _connections(readings: Sequence[Reading], mechanism: str) -> Dose:
    """Return the share of attempts during the fault that came to nothing; unknown if none came about before."""
    tried = [reading.data["connected"] for reading in readings[1:] if "connected" in reading.data]
    before = bool(readings[0].data.get("connected"))
    how = f"{tried.count(False)} of {len(tried)} attempts; before, one came about"
    return Dose(
        quantity="connections that do not come about",
        unit="%",
        asked=100.0,
        delivered=100 * tried.count(False) / len(tried) if tried and before else None,
        low=100.0,
        high=100.0,
        how=how if before else "none came about before either, so that nothing can be told",
        mechanism=mechanism,
    )


FAULT: Final = FailureType(
    scenario=NetworkPartition,
    mechanisms=(NftPartition(), IptablesPartition(), NetemPartition(), ProxyBlackHole()),
)

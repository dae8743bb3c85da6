"""dns_failure: a resolver that the scenario names does not answer any more, or is refused.

Where answers are to be missed they are dropped as they come in: a query dropped on its way out would fail at once, with
an error that no lost packet has. Where it is refused, the query is, as if nobody listened there.

Dose: the share of queries, really asked over UDP and TCP, that went unanswered or were refused. A resolver that does
not answer before is refused as a victim.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from chaoslab.faults.base import FailureType, Injection, Obstacle, Reading, Surroundings
from chaoslab.faults.packet_drop import IptablesDrop, NftDrop, PacketFilter, Rule
from chaoslab.faults.traffic import Traffic, first
from chaoslab.journal import Step
from chaoslab.records import Dose
from chaoslab.scenario import Parameters, Scenario

_QUERY: Final = (sys.executable, "-m", "chaoslab.agent.dns_query")
_QUERY_LIMIT: Final = 5.0
_PORT: Final = 53


def _resolver(text: str) -> str:
    try:
        split(text)
    except ValueError as error:
        raise ValueError(f"{error}; accepted: 192.0.2.1, 192.0.2.1:5353, 2001:db8::1 or [2001:db8::1]:5353") from error
    return text


def split(resolver: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """Return a resolver's address and port.

    >>> split("[::1]:5353"), split("127.0.0.53")
    ((IPv6Address('::1'), 5353), (IPv4Address('127.0.0.53'), 53))

    Raises:
        ValueError: it has no such form.
    """
    address, bracketed, rest = resolver.removeprefix("[").partition("]")
    port = rest.removeprefix(":")
    if not bracketed and resolver.count(":") == 1:
        address, _, port = resolver.partition(":")
    number = int(port) if port.isdecimal() else _PORT if not port else 0
    if not 0 < number < 2**16:
        raise ValueError(f"{port!r} is no port")
    return ipaddress.ip_address(address), number


class DnsParameters(Parameters):
    """Victim of dns_failure, and how it fails."""

    resolver: Annotated[str, AfterValidator(_resolver)] = Field(description="ADDRESS or ADDRESS:PORT, default port 53")
    mode: Literal["drop", "refuse"] = Field(default="drop", description="answers are missed, or queries refused")


class DnsFailure(Scenario):
    """A resolver does not answer."""

    type: Literal["dns_failure"]
    parameters: DnsParameters


class _DnsByFilter(PacketFilter):
    able = tuple(DnsParameters.model_fields)

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        return first(_no_library, partial(super().obstacle, scenario, where), partial(_no_answer, scenario, where))

    def rule(self, scenario: Scenario, where: Surroundings) -> Rule:
        address, port = split(_asked(scenario).resolver)
        hit = Traffic((ipaddress.ip_network(address),), port, ("udp", "tcp"))
        if _asked(scenario).mode == "refuse":
            return Rule(hit=hit, ways=("egress",), verdict="reject")
        return Rule(hit=hit, ways=("ingress",))

    def evidence(self, scenario: Scenario, where: Surroundings, count: tuple[str, ...]) -> tuple[str, ...]:
        return _query(scenario, where)

    def injection(self, scenario: Scenario, steps: tuple[Step, ...]) -> Injection:
        asked, name = _asked(scenario), self.name

        def took_effect(readings: Sequence[Reading]) -> bool:
            return readings[-1].exit_code == 0 and _failed(asked, readings[-1]) == readings[-1].data["asked"]

        def measured(readings: Sequence[Reading]) -> tuple[Dose, ...]:
            return (_dose(asked, readings, name),)

        return Injection(mechanism=name, steps=steps, took_effect=took_effect, doses=measured)


class NftDns(_DnsByFilter, NftDrop):
    """nftables drops the answers, or refuses the queries."""


class IptablesDns(_DnsByFilter, IptablesDrop):
    """iptables drops the answers, or refuses the queries."""


def _asked(scenario: Scenario) -> DnsParameters:
    assert isinstance(scenario, DnsFailure)
    return scenario.parameters


def _no_library() -> Obstacle | None:
    if find_spec("dns") is not None:
        return None
    return Obstacle("the Python package dnspython is not installed", "pip install 'chaoslab[dns]'")


def _query(scenario: Scenario, where: Surroundings) -> tuple[str, ...]:
    # Where the fault is, the resolver is to be missed.
    return where.host.reach((*_QUERY, *map(str, split(_asked(scenario).resolver))))


def _no_answer(scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
    """Return that the resolver does not answer as it is, or None."""
    if scenario is None:
        return None
    found = where.host.run((*_QUERY, *map(str, split(_asked(scenario).resolver))), timeout=_QUERY_LIMIT)
    if not found.ok:
        return Obstacle(f"no query can be made: {found.problem}")
    counts = json.loads(found.stdout)
    if counts["answered"] == counts["asked"]:
        return None
    return Obstacle(
        f"the resolver {_asked(scenario).resolver} answers {counts['answered']} of {counts['asked']} queries as it is",
        "name one that answers over UDP and TCP: parameters.resolver",
    )


def _failed(asked: DnsParameters, reading: Reading) -> int:
    data = reading.data
    return int(data["refused"]) if asked.mode == "refuse" else int(data["asked"]) - int(data["answered"])


def _dose(asked: DnsParameters, readings: Sequence[Reading], mechanism: str) -> Dose:
    during = [reading for reading in readings[1:] if reading.exit_code == 0 and "asked" in reading.data]
    count, failed = sum(int(reading.data["asked"]) for reading in during), sum(_failed(asked, one) for one in during)
    answered = readings[0].data.get("answered", 0) == readings[0].data.get("asked", 1)
    fate = {"drop": "unanswered", "refuse": "refused"}[asked.mode]
    how = f"{failed} of {count} queries, over UDP and TCP; all were answered before"
    return Dose(
        quantity=f"DNS queries {fate}",
        unit="%",
        asked=100.0,
        delivered=100 * failed / count if count and answered else None,
        low=100.0,
        high=100.0,
        how=how if answered else "the resolver did not answer before either, so that nothing can be told",
        mechanism=mechanism,
    )


FAULT: Final = FailureType(scenario=DnsFailure, mechanisms=(NftDns(), IptablesDns()))

"""What a scenario may ask of the way to a target: which packets, and what happens to them.

The grammar is tc-netem(8)'s, which pumba and chaos-mesh speak too; units stand in the keys. A value that is 0, or None,
was not asked for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from chaoslab.faults.base import Obstacle
from chaoslab.scenario import Parameters, Scenario

Direction = Literal["egress", "ingress", "both"]
Distribution = Literal["uniform", "normal", "pareto", "paretonormal"]

_MOST_JITTER_TO_REORDER: Final = 1 / 8
"""Of the delay: a packet that overtook others must be told from one that only came early."""


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; accepted: an IP address, or a network such as 10.1.0.0/16") from error
    return text


Percent = Annotated[float, Field(gt=0, le=100)]
Chance = Annotated[float, Field(ge=0, le=100)]
Correlation = Annotated[float, Field(gt=0, lt=100, description="how much each draw takes after the last")]


class Filters(Parameters):
    """Which packets are hit: the target's own, unless the scenario names others."""

    interface: str | None = Field(default=None, description="network interface; default: the one of the route")
    port: int | None = Field(default=None, ge=1, le=65535, description="TCP port; default: the target's")
    address: Annotated[str, AfterValidator(_network)] | None = Field(
        default=None, description="IP address or CIDR; alone it means every packet to it, whatever the port"
    )
    direction: Direction = Field(default="egress", description="seen from the machine on which the fault acts")

    @property
    def directions(self) -> tuple[Literal["egress", "ingress"], ...]:
        """The ways that packets are hit on."""
        return ("egress", "ingress") if self.direction == "both" else (self.direction,)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GilbertElliott(_Model):
    """Losses in bursts: a good and a bad state, each with a loss of its own (netem's `loss gemodel p r 1-h 1-k`)."""

    p_percent: float = Field(gt=0, le=100, description="from good to bad, each packet")
    r_percent: float = Field(gt=0, le=100, description="from bad to good, each packet")
    bad_loss_percent: float = Field(default=100.0, gt=0, le=100, description="1-h: loss while bad")
    good_loss_percent: Chance = Field(default=0.0, description="1-k: loss while good")


class FourStates(_Model):
    """Losses by four states: 1 received, 2 received in a burst, 3 lost in a burst, 4 lost alone (`loss state`)."""

    p13_percent: float = Field(gt=0, le=100, description="from received to lost in a burst")
    p31_percent: float = Field(gt=0, le=100, description="from lost in a burst to received")
    p32_percent: Chance = Field(default=0.0, description="from lost to received, within a burst")
    p23_percent: Chance = Field(default=100.0, description="from received to lost, within a burst")
    p14_percent: Chance = Field(default=0.0, description="from received to lost alone")

    @model_validator(mode="after")
    def _sums(self) -> Self:
        for ways in (("p13_percent", "p14_percent"), ("p31_percent", "p32_percent")):
            if sum(getattr(self, way) for way in ways) > 100:
                raise ValueError(f"{' and '.join(ways)} leave the same state: together at most 100")
        if self.p32_percent and not self.p23_percent:
            raise ValueError("p32_percent without p23_percent leads where nothing leads back from")
        return self


_NEEDS: Final = {
    "jitter_ms": "delay_ms",
    "delay_correlation_percent": "jitter_ms",
    "delay_distribution": "jitter_ms",
    "loss_correlation_percent": "loss_percent",
    "duplicate_correlation_percent": "duplicate_percent",
    "corrupt_correlation_percent": "corrupt_percent",
    "reorder_percent": "delay_ms",
    "reorder_correlation_percent": "reorder_percent",
    "reorder_gap": "reorder_percent",
    "rate_packet_overhead_bytes": "rate_kbit",
    "rate_cell_bytes": "rate_kbit",
    "rate_cell_overhead_bytes": "rate_cell_bytes",
}
_LOSSES: Final = ("loss_percent", "loss_gemodel", "loss_state")
_EFFECTS: Final = ("delay_ms", *_LOSSES, "duplicate_percent", "corrupt_percent", "rate_kbit")


class Impairment(Filters):
    """Dose of the network faults: effects, any of which may go together, on the packets that the filters name."""

    delay_ms: float = Field(default=0.0, gt=0, le=60_000, description="delay added to each packet")
    jitter_ms: float = Field(default=0.0, gt=0, le=60_000, description="by how much the delay varies")
    delay_correlation_percent: Correlation = 0.0
    delay_distribution: Distribution | None = Field(default=None, description="of the jitter; default: uniform")
    loss_percent: float = Field(default=0.0, gt=0, le=100, description="share of packets that is dropped")
    loss_correlation_percent: Correlation = 0.0
    loss_gemodel: GilbertElliott | None = Field(default=None, description="losses in bursts, by two states")
    loss_state: FourStates | None = Field(default=None, description="losses in bursts, by four states")
    duplicate_percent: Percent = Field(default=0.0, description="share of packets that is sent twice")
    duplicate_correlation_percent: Correlation = 0.0
    corrupt_percent: Percent = Field(default=0.0, description="share of packets in which one bit is flipped")
    corrupt_correlation_percent: Correlation = 0.0
    reorder_percent: float = Field(default=0.0, gt=0, le=100, description="share of packets that skips the delay")
    reorder_correlation_percent: Correlation = 0.0
    reorder_gap: int = Field(default=1, ge=1, le=10_000, description="only each such packet may skip it")
    rate_kbit: float = Field(default=0.0, ge=32, le=100_000, description="bandwidth, in 1,000 bits a second")
    rate_packet_overhead_bytes: int = Field(
        default=0, ge=-1000, le=1000, description="bytes that each packet is counted longer, or shorter"
    )
    rate_cell_bytes: int = Field(default=0, ge=1, le=65_535, description="packets are counted in whole cells of this")
    rate_cell_overhead_bytes: int = Field(
        default=0, ge=-1000, le=1000, description="bytes that each cell is counted longer, or shorter"
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        given = self.model_fields_set
        for key, needed in _NEEDS.items():
            if key in given and getattr(self, key) is not None and not getattr(self, needed):
                raise ValueError(f"{key} means something only with {needed}")
        losses = [key for key in _LOSSES if getattr(self, key)]
        if len(losses) > 1:
            raise ValueError(f"{' and '.join(losses)} exclude each other: one model of loss")
        if self.jitter_ms > self.delay_ms:
            raise ValueError("jitter_ms is more than delay_ms: no packet can arrive before it was sent")
        if self.reorder_percent and self.jitter_ms > self.delay_ms * _MOST_JITTER_TO_REORDER:
            raise ValueError("with reorder_percent, jitter_ms may be at most an eighth of delay_ms")
        return self

    @property
    def loses(self) -> bool:
        """Whether packets are dropped, by whatever model."""
        return any(getattr(self, key) for key in _LOSSES)


class LatencyParameters(Impairment):
    """Dose of network_latency: a delay, and whatever else goes with it."""

    delay_ms: float = Field(gt=0, le=60_000, description="delay added to each packet")


class LossParameters(Impairment):
    """Dose of packet_loss: a share, or a model, and whatever else goes with it."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.loses:
            raise ValueError(f"no loss is asked for; accepted: one of {', '.join(_LOSSES)}")
        return self


class ImpairmentParameters(Impairment):
    """Dose of network_impairment: at least one effect."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(getattr(self, key) for key in _EFFECTS):
            raise ValueError(f"no effect is asked for; accepted: at least one of {', '.join(_EFFECTS)}")
        return self


class NetworkLatency(Scenario):
    """Delay on the way to the target."""

    type: Literal["network_latency", "network_delay"]
    parameters: LatencyParameters


class PacketLoss(Scenario):
    """Packets dropped on the way to the target."""

    type: Literal["packet_loss", "network_loss"]
    parameters: LossParameters


def beyond(parameters: Parameters, able: Iterable[str]) -> tuple[str, ...]:
    """Return the keys of what is asked that a mechanism does not know which is able to do `able` alone.

    >>> beyond(LatencyParameters(delay_ms=5, jitter_ms=1, direction="egress"), ["delay_ms"])
    ('jitter_ms',)
    """
    known = {*able, *Parameters.model_fields}
    fields = type(parameters).model_fields
    return tuple(
        key
        for key, field in fields.items()
        if key in parameters.model_fields_set - known and getattr(parameters, key) != field.default
    )


def cannot(mechanism: str, parameters: Parameters, able: Iterable[str]) -> Obstacle | None:
    """Return that `mechanism`, which is able to do `able` alone, cannot do all that is asked, or None."""
    missing = beyond(parameters, able)
    return Obstacle(f"{mechanism} cannot do {', '.join(missing)}") if missing else None

"""packet_loss: packets are dropped on their way to the target.

Where the kernel cannot be asked to drop them, the proxy *emulates* the loss: named so in the record and the report.

Dose: the share of what passed that was dropped, or stalled; accepted inside its 99 % binomial interval.
"""

from __future__ import annotations

from collections.abc import Sequence

from chaoslab.faults.base import Injection, Mechanism, Reading, Surroundings
from chaoslab.faults.netem import NetemLoss
from chaoslab.faults.packet_drop import IptablesDrop, NftDrop
from chaoslab.faults.through_proxy import ThroughProxy, stats_command
from chaoslab.faults.traffic import chance
from chaoslab.records import Dose
from chaoslab.scenario import AnyScenario, PacketLoss


class EmulatedLoss(ThroughProxy):
    """The proxy stalls chunks as TCP does when a packet is lost."""

    name = "tcp proxy, loss emulated as retransmission stalls"

    def inject(self, scenario: AnyScenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        assert isinstance(scenario, PacketLoss)
        asked = scenario.parameters.loss_percent
        options = ("--loss-percent", f"{asked:g}", "--seed", str(where.seed))
        step = self.toxic(f"emulated loss of {asked:g} %", options, stats_command(where), where, seconds)

        def took_effect(readings: Sequence[Reading]) -> bool:
            return bool(readings[-1].data.get("loss") and readings[-1].data["chunks"])

        def doses(readings: Sequence[Reading]) -> tuple[Dose, ...]:
            count, stalled = (int(readings[-1].data.get(name, 0)) for name in ("chunks", "stalled"))
            low, high = chance(asked / 100, count)
            return (
                Dose(
                    quantity="loss, emulated",
                    unit="%",
                    asked=asked,
                    delivered=100 * stalled / count if count else None,
                    low=100 * low,
                    high=100 * high,
                    how=f"stalled {stalled} of {count} chunks that passed the proxy; 99 % binomial interval",
                    mechanism=self.name,
                ),
            )

        return Injection(mechanism=self.name, steps=(step,), took_effect=took_effect, doses=doses)


MECHANISMS: tuple[Mechanism, ...] = (NetemLoss(), NftDrop(), IptablesDrop(), EmulatedLoss())

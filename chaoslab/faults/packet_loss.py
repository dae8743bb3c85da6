"""packet_loss: packets are dropped on their way to the target.

Where the kernel cannot be asked to drop them, the proxy *emulates* the loss: named so in the record and the report.

Dose: the share of what passed that was dropped, or stalled; accepted inside its 99 % binomial interval, which is
that of fewer, independent packets where losses follow each other (`shares`).
"""

from __future__ import annotations

from typing import Final

from chaoslab.faults.base import FailureType
from chaoslab.faults.impairment import PacketLoss
from chaoslab.faults.netem import Netem
from chaoslab.faults.packet_drop import IptablesDrop, NftDrop
from chaoslab.faults.through_proxy import EmulatedLoss

FAULT: Final = FailureType(scenario=PacketLoss, mechanisms=(Netem(), NftDrop(), IptablesDrop(), EmulatedLoss()))

"""network_impairment: whatever tc-netem(8) does to packets, several effects at once.

Dose: one for each effect that is asked: delay, its spread, loss, duplicates, changed bits, packets that skip the delay,
rate.
"""

from __future__ import annotations

from typing import Final, Literal

from chaoslab.faults.base import FailureType
from chaoslab.faults.impairment import ImpairmentParameters
from chaoslab.faults.netem import Netem
from chaoslab.scenario import Scenario


class NetworkImpairment(Scenario):
    """Several effects at once on the way to the target."""

    type: Literal["network_impairment"]
    parameters: ImpairmentParameters


FAULT: Final = FailureType(scenario=NetworkImpairment, mechanisms=(Netem(),))

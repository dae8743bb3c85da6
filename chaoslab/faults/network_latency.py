"""network_latency: each packet, or chunk, takes longer on its way to the target.

Dose: how much longer requests take that really cross the fault, against the same just before it; where other effects go
with the delay, how long frames of our own take through the same emulator. Each other effect has a dose of its own.
"""

from __future__ import annotations

from typing import Final

from chaoslab.faults.base import FailureType
from chaoslab.faults.impairment import NetworkLatency
from chaoslab.faults.netem import Netem
from chaoslab.faults.through_proxy import ProxyDelay

FAULT: Final = FailureType(scenario=NetworkLatency, mechanisms=(Netem(), ProxyDelay()))

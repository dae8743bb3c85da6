"""network_latency: each packet, or chunk, takes longer on its way to the target.

Dose: how much longer requests take that really cross the fault, against the same just before it.
"""

from __future__ import annotations

from typing import Final

from chaoslab.faults.base import FailureType
from chaoslab.faults.netem import NetemLatency
from chaoslab.faults.through_proxy import ProxyDelay
from chaoslab.faults.traffic import NetworkLatency

FAULT: Final = FailureType(scenario=NetworkLatency, mechanisms=(NetemLatency(), ProxyDelay()))

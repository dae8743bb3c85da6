"""container_crash: the application is killed, stopped, frozen or restarted, and comes back.

The victim is a Docker container, a process named by pid file, port or command line, or the one that the target
published. Who brings it back is said by `recovery`: `policy` is whatever supervises it (Docker's restart policy, a
process supervisor), `us` is the undo when the injection's time is over. Where nothing would bring it back, it is
refused.

Dose: with `us` and for a pause, the seconds for which the application was away; else one kill, seen as the victim, by
pid and start time, being gone. An outage shorter than the rest of a run: a combined scenario with a shorter duration.
"""

from __future__ import annotations

from typing import Final

from chaoslab.faults.base import FailureType
from chaoslab.faults.crash import ContainerCrash
from chaoslab.faults.docker_crash import DockerContainer
from chaoslab.faults.process_crash import ChosenProcess, SupervisedProcess

FAULT: Final = FailureType(
    scenario=ContainerCrash, mechanisms=(DockerContainer(), ChosenProcess(), SupervisedProcess())
)

"""A systemd unit as the victim of an outage."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from chaoslab.faults.base import Obstacle
from chaoslab.hosts import Host
from chaoslab.journal import Step

UnitName = Annotated[str, Field(pattern=r"^[\w@.:\\][\w@.:\\-]*$", description="name of a systemd unit")]

_LIMIT: Final = 5.0
_SSH: Final = ("ssh", "sshd")
_UNDO_LIMIT: Final = 90.0  # systemd itself gives a start 90 s (DefaultTimeoutStartSec)


def no_systemd(host: Host) -> Obstacle | None:
    """Return that no systemd answers on a machine, or None."""
    result = host.run(("systemctl", "show", "--property=Version"), timeout=_LIMIT)
    if result.ok:
        return None
    return Obstacle(f"systemd does not answer: {result.problem}", "run it where systemd is, or give stop_command")


def not_active(host: Host, unit: str) -> Obstacle | None:
    """Return that a unit is not active, so that there is nothing to stop, or None."""
    result = host.run(("systemctl", "is-active", unit), timeout=_LIMIT)
    if result.ok:
        return None
    found = result.stdout.strip() or result.problem
    return Obstacle(f"the unit {unit} is {found}, not active", f"systemctl status {unit}")


def needed(host: Host, unit: str) -> Obstacle | None:
    """Return that chaoslab itself, or whoever runs it, hangs on a unit, or None."""
    name = unit.removesuffix(".service")
    if name in _SSH:
        return Obstacle(f"the unit {unit} is the way by which hosts are reached, and their operators are there")
    groups = host.run(("cat", "/proc/self/cgroup"), timeout=_LIMIT)
    if f"/{name}.service" in groups.stdout:
        return Obstacle(f"the unit {unit} can be no victim: chaoslab itself runs in it")
    return None


def unit_step(host: Host, unit: str, *, token: str, **fields: Any) -> Step:
    """Return the step that stops a unit and starts it again."""
    return Step(
        name=f"stop of the unit {unit}",
        do=host.reach(("systemctl", "stop", unit), token=token),
        undo=host.reach(("systemctl", "start", unit)),
        token=token,
        undo_limit=_UNDO_LIMIT,
        touches={"host": host.name, "unit": unit},
        **fields,
    )

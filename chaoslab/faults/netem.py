"""Network faults by the kernel's own network emulator, tc-netem(8); `emulator` has its commands.

What we put on an interface is known by a handle, made from the run's token. An interface that somebody has configured
is refused, never replaced: taking ours away again leaves the interface with the kernel's default, as it was. A hook for
what comes in is no obstacle: our filter goes beside what is there, or else the hook is ours and goes with it.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from chaoslab.errors import NotDelivered
from chaoslab.faults import doses, emulator, timing, traffic
from chaoslab.faults.base import Injection, Mechanism, Obstacle, Surroundings
from chaoslab.faults.emulator import FIRST_HANDLE, Place
from chaoslab.faults.impairment import Impairment
from chaoslab.faults.lifelines import endangered
from chaoslab.faults.traffic import first, hit_by, leaving, together
from chaoslab.hosts import Host
from chaoslab.journal import Step
from chaoslab.scenario import Scenario

COUNTED: Final = "the emulator's own counters"

_COMMAND: Final = (sys.executable, "-m", "chaoslab.agent.netem")
_LIMIT: Final = 2.0
_MOST_FRAMES: Final = 400
_VOLLEY_MS: Final = 600.0
_LEAST_PAUSE_MS: Final = 0.5
_SLACK: Final = 4
_PATIENCE_MS: Final = 50.0
_LONGEST_LOOK_MS: Final = 4000.0


class Netem(Mechanism):
    """The packets that are hit go through netem."""

    name = "tc netem"

    def obstacle(self, scenario: Scenario | None, where: Surroundings) -> Obstacle | None:
        asked = Impairment(delay_ms=1) if scenario is None else self.asked(scenario)
        return first(
            lambda: None if scenario is None else _endangered(asked, where),
            partial(_too_long, asked),
            partial(traffic.no_privilege, where.host),
            partial(traffic.no_program, where.host, "tc", "iproute2"),
            partial(traffic.no_program, where.host, "ip", "iproute2"),
            lambda: _no_kernel_support(asked, where, aside=scenario is not None and _aside(asked, where)),
            lambda: None if scenario is None else _nowhere(asked, where),
        )

    def inject(self, scenario: Scenario, where: Surroundings, *, seconds: float, token: str) -> Injection:
        asked = self.asked(scenario)
        hit = hit_by(asked, where)
        interface = leaving(where.host, hit, asked.interface)
        handle = f"{FIRST_HANDLE | zlib.crc32(token.encode()) & 0x3FE:x}:"
        place = Place(interface, handle, asked.directions, _hooked(where.host, interface))
        ours = ("--dev", interface, "--handle", handle)
        steps = traffic.reversible(
            where.host,
            list(emulator.commands(hit, place, asked)),
            undo=(*_COMMAND, "remove", *ours),
            evidence=self.evidence(scenario, where, ours),
            seconds=seconds,
            token=token,
            touches={
                "packets": str(hit),
                "interface": interface,
                "handle": handle,
                "queueing_disciplines_before": [
                    f"{found['kind']} {found['handle']}" for found in _qdiscs(where.host, interface)
                ],
            },
        )
        return replace(self.injection(scenario, steps), claims=_claims(place))

    def asked(self, scenario: Scenario) -> Impairment:
        """Return what the emulator is asked to do."""
        assert isinstance(scenario.parameters, Impairment)
        return scenario.parameters

    def injection(self, scenario: Scenario, steps: tuple[Step, ...]) -> Injection:
        """Return `steps` with how their evidence is read."""
        return doses.emulating(self.asked(scenario), mechanism=self.name, steps=steps, counted=COUNTED)

    def evidence(self, scenario: Scenario, where: Surroundings, ours: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command that shows the effects; `ours` are the options that name our emulators."""
        asked = self.asked(scenario)
        looks: list[tuple[str, ...]] = []
        if doses.crossed(asked):
            looks.append((sys.executable, "-m", "chaoslab.agent.crossing", where.url))
        if doses.framed(asked):
            volleys = (word for name, value in _volleys(asked).items() for word in (f"--{name}", f"{value:g}"))
            looks.append(where.host.reach((*_COMMAND, "measure", *ours, *volleys)))
        elif asked.loses:
            looks.append(where.host.reach((*_COMMAND, "count", *ours)))
        return together(*looks)


def _claims(place: Place) -> tuple[str, ...]:
    """Return what no other fault can have at the same time."""
    claims = {"root queueing discipline of": bool(place.tree), "hook for what comes in by": place.aside}
    return tuple(f"{what} {place.interface}" for what, needed in claims.items() if needed)


def _too_long(asked: Impairment) -> Obstacle | None:
    """Return that our own frames would be under way for longer than evidence is waited for, or None."""
    volleys = _volleys(asked)
    each = volleys["frames"] * volleys["pause-ms"] + volleys["patience-ms"] + volleys.get("burst-patience-ms", 0)
    if not doses.framed(asked) or each * len(asked.directions) <= _LONGEST_LOOK_MS:
        return None
    return Obstacle(
        f"measuring it takes {each * len(asked.directions) / 1e3:.1f} s, more than evidence is waited for",
        f"a delay and a jitter with which that is at most {_LONGEST_LOOK_MS / 1e3:g} s",
    )


def _volleys(asked: Impairment) -> dict[str, float]:
    """Return the options of `measure`: as many frames as fit in a time that leaves a limited rate its room."""
    serialised = timing.serialised_ms(asked, timing.FRAME_BYTES)
    pause = max(_LEAST_PAUSE_MS, _SLACK * serialised)
    count = max(_SLACK, min(_MOST_FRAMES, int(_VOLLEY_MS / pause)))
    patience = asked.delay_ms + _SLACK * (asked.jitter_ms + serialised) + _PATIENCE_MS
    options: dict[str, float] = {
        "frames": count,
        "size": timing.FRAME_BYTES,
        "pause-ms": pause,
        "patience-ms": patience,
        "early-ms": asked.delay_ms / 2 if asked.reorder_percent else 0,
    }
    if asked.rate_kbit:
        size, burst = timing.burst(asked)
        whole = patience + 2 * burst * timing.serialised_ms(asked, size)
        options |= {"burst": burst, "burst-size": size, "burst-patience-ms": whole}
    return options


def _no_kernel_support(asked: Impairment, where: Surroundings, *, aside: bool) -> Obstacle | None:
    trial = [command for _, command in emulator.trial(asked, aside=aside)]
    return traffic.no_kernel_support(where.host, trial, module="sch_netem")


def _endangered(asked: Impairment, where: Surroundings) -> Obstacle | None:
    try:
        return endangered(hit_by(asked, where), where.host)
    except NotDelivered as refusal:
        return Obstacle(str(refusal))


def _aside(asked: Impairment, where: Surroundings) -> bool:
    """Whether what comes in must be led aside; where nothing is known of it, `_nowhere` will say so."""
    try:
        interface = leaving(where.host, hit_by(asked, where), asked.interface)
    except NotDelivered:
        return False
    return Place(interface, "", asked.directions).aside


def _nowhere(asked: Impairment, where: Surroundings) -> Obstacle | None:
    """Return why the packets pass no interface that we may use, or None."""
    if (obstacle := traffic.no_interface(where.host, asked.interface)) is not None:
        return obstacle
    try:
        interface = leaving(where.host, hit_by(asked, where), asked.interface)
    except NotDelivered as refusal:
        return Obstacle(str(refusal))
    return _taken(where.host, interface) if Place(interface, "", asked.directions).tree else None


def _taken(host: Host, interface: str) -> Obstacle | None:
    """Return that somebody has configured how `interface` queues its packets, or None."""
    try:
        found = _qdiscs(host, interface)
    except NotDelivered as refusal:
        return Obstacle(str(refusal))
    # The kernel's own have no handle; clsact and ingress stand beside the root, not in our way.
    for qdisc in found:
        if qdisc["kind"] not in _BESIDE_THE_ROOT and qdisc["handle"] != "0:":
            return Obstacle(
                f"{interface} has a queueing discipline that is not ours to replace: {qdisc['kind']} {qdisc['handle']}",
                "remove it yourself, or `chaoslab recover` if a run of chaoslab left it",
            )
    return None


_BESIDE_THE_ROOT: Final = ("clsact", "ingress")


def _hooked(host: Host, interface: str) -> bool:
    """Whether somebody has a hook for what comes in by `interface`: ours goes beside it."""
    return any(qdisc["kind"] in _BESIDE_THE_ROOT for qdisc in _qdiscs(host, interface))


def _qdiscs(host: Host, interface: str) -> Sequence[dict[str, Any]]:
    listed = host.run(("tc", "-j", "qdisc", "show", "dev", interface), timeout=_LIMIT)
    if not listed.ok:
        raise NotDelivered(f"tc does not say how {interface} queues its packets: {listed.problem}")
    found: list[dict[str, Any]] = json.loads(listed.stdout)
    return found

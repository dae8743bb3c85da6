"""What tc-netem(8) has done on an interface, and how it is taken away again.

    python -m chaoslab.agent.netem count   --dev INTERFACE --handle HANDLE
    python -m chaoslab.agent.netem measure --dev INTERFACE --handle HANDLE [--frames N …] [--burst N …]
    python -m chaoslab.agent.netem remove  --dev INTERFACE --handle HANDLE

What is ours is known by the handle, HANDLE: the tree at the interface's root has it; what comes in goes through the
device chaosHANDLE, by filters that lead there, in a clsact whose block has that number if we made it.

`count` prints {"seen", "dropped"}: packets that came to our emulators and packets that they dropped; it exits 1 where
there is none. `measure` counts before and after it sends frames of our own through each (`chaoslab.agent.frames`), and
prints what became of them. `remove` exits 0 once nothing of ours is left there, also where nothing was.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from chaoslab.agent import frames
from chaoslab.agent.frames import Volley
from chaoslab.agent.programs import Failed, run

_FEW: Final = 3
"""Frames from which a rate can be told: one interval alone is none."""


def _exists(interface: str) -> bool:
    return interface in (name for _, name in socket.if_nameindex())


def _qdiscs(interface: str) -> list[dict[str, Any]]:
    """Return the queueing disciplines of an interface; one that is gone has none."""
    if not _exists(interface):
        return []
    found: list[dict[str, Any]] = json.loads(run("tc", "-s", "-j", "qdisc", "show", "dev", interface))
    return found


def device_of(handle: str) -> str:
    """Return the name of the device that what comes in is led through."""
    return f"chaos{handle.rstrip(':')}"


def number_of(handle: str) -> int:
    """Return the number of our block, which is also the preference of our filters; those of IPv6 have the next one."""
    return int(handle.rstrip(":"), 16)


def _remove(interface: str, handle: str) -> None:
    if _has_root(interface, handle):
        # The kernel compares the handle itself: a root that somebody has put there meanwhile stays.
        run("tc", "qdisc", "del", "dev", interface, "root", "handle", handle)
    for preference in _filters(interface, handle):
        # Before the device that they lead to: a filter that leads nowhere drops everything.
        run("tc", "filter", "del", *_hook(interface, handle), "pref", str(preference))
    if _has_hook(interface, handle) and not run("tc", "filter", "show", "dev", interface, "egress").strip():
        run("tc", "qdisc", "del", "dev", interface, "clsact")
    if _exists(device_of(handle)):
        run("ip", "link", "del", "dev", device_of(handle), "type", "ifb")
    if _has_root(interface, handle) or _filters(interface, handle) or _exists(device_of(handle)):
        raise Failed(f"something of {handle} is still on {interface}")


def _has_root(interface: str, handle: str) -> bool:
    return any(qdisc["handle"] == handle and qdisc["kind"] == "prio" for qdisc in _qdiscs(interface))


def _has_hook(interface: str, handle: str) -> bool:
    """Whether the hook for what comes in is ours: then it has a block of the number that we chose."""
    return any(qdisc.get("ingress_block") == number_of(handle) for qdisc in _qdiscs(interface))


def _hook(interface: str, handle: str) -> tuple[str, ...]:
    """Return how filters on what comes in are reached: by our own hook's block, or beside somebody else's."""
    if _has_hook(interface, handle):
        return ("block", str(number_of(handle)))
    return ("dev", interface, "ingress")


def _filters(interface: str, handle: str) -> list[int]:
    """Return the preferences under which filters lead to our device."""
    if not any(qdisc["kind"] in ("clsact", "ingress") for qdisc in _qdiscs(interface)):
        return []
    show, ours = ("tc", "filter", "show", *_hook(interface, handle), "pref"), number_of(handle)
    return [number for number in (ours, ours + 1) if device_of(handle) in run(*show, str(number))]


def _emulators(interface: str, handle: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield our emulators, each with its interface: the tree's on the way out, and the device's on the way in."""
    own = f"{number_of(handle) + 1:x}:"
    for name in (interface, device_of(handle)):
        yield from ((name, qdisc) for qdisc in _qdiscs(name) if (qdisc["kind"], qdisc["handle"]) == ("netem", own))


def _count(interface: str, handle: str) -> dict[str, int]:
    found = [qdisc for _, qdisc in _emulators(interface, handle)]
    if not found:
        raise Failed(f"there is no emulator of ours on {interface}")
    # What is still held back has come in too; packets are counted as they leave.
    seen = sum(qdisc["packets"] + qdisc["drops"] + qdisc["qlen"] for qdisc in found)
    return {"seen": seen, "dropped": sum(qdisc["drops"] for qdisc in found)}


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the counters before and after, and sums over the frames, from which means can be made over many looks.

    Delays are of frames that arrived once, and not early: a copy that came first would hide the other one.
    """
    before = _count(options.dev, options.handle)
    sums: Counter[str] = Counter()
    rates = []
    for interface in dict.fromkeys(name for name, _ in _emulators(options.dev, options.handle)):
        if options.frames:
            volley = Volley(options.frames, options.size, options.pause_ms / 1e3, options.patience_ms / 1e3)
            sums.update(_fates(frames.cross(interface, volley), volley.count, options.early_ms))
        if options.burst:
            volley = Volley(options.burst, options.burst_size, 0.0, options.burst_patience_ms / 1e3)
            rates.append(_kbit(frames.cross(interface, volley), options.burst_size))
    after = _count(options.dev, options.handle)
    found: dict[str, Any] = {**before, **{f"{name}_after": count for name, count in after.items()}, **sums}
    known = [rate for rate in rates if rate is not None]
    return found | ({"kbit": sum(known) / len(known)} if known else {})


def _fates(seen: Sequence[frames.Seen], sent: int, early_ms: float) -> dict[str, float]:
    """Return how many frames were sent, arrived, arrived twice, changed or early, and sums over the others' delays."""
    times = Counter(frame.number for frame in seen)
    alone = [frame.delay_ms for frame in seen if times[frame.number] == 1]
    late = [delay for delay in alone if delay >= early_ms]
    return {
        "sent": sent,
        "arrived": len(times),
        "twice": sum(count > 1 for count in times.values()),
        "copies": len(seen),
        "altered": sum(frame.altered for frame in seen),
        "alone": len(alone),
        "early": len(alone) - len(late),
        "delays": len(late),
        "delay_ms": sum(late),
        "delay_ms2": sum(delay * delay for delay in late),
    }


def _kbit(seen: Sequence[frames.Seen], size: int) -> float | None:
    """Return the rate at which a burst left, in 1,000 bits a second; None where too little of it arrived."""
    times = sorted(frame.at_ns for frame in seen)
    if len(times) < _FEW:
        return None
    return (len(times) - 1) * size * 8 / ((times[-1] - times[0]) / 1e6)


def _own(handle: str) -> str:
    """Let only a handle pass that may be ours: `remove` must never reach a foreign one."""
    if not re.fullmatch(r"7[c-f][0-9a-f]{2}:", handle):
        raise argparse.ArgumentTypeError(f"{handle!r} is not ours: 7c00: to 7fff:")
    return handle


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.netem")
    parser.add_argument("command", choices=("count", "measure", "remove"))
    parser.add_argument("--dev", required=True)
    parser.add_argument("--handle", required=True, type=_own)
    for option in ("--frames", "--size", "--burst", "--burst-size"):
        parser.add_argument(option, type=int, default=0)
    for option in ("--pause-ms", "--patience-ms", "--early-ms", "--burst-patience-ms"):
        parser.add_argument(option, type=float, default=0.0)
    return parser


def _main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        if options.command == "remove":
            _remove(options.dev, options.handle)
        else:
            print(
                json.dumps(_measure(options) if options.command == "measure" else _count(options.dev, options.handle))
            )
    except (Failed, OSError) as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

"""What tc-netem(8) has done on an interface, and how it is taken away again.

    python -m chaoslab.agent.netem count  --dev INTERFACE --handle HANDLE
    python -m chaoslab.agent.netem remove --dev INTERFACE --handle HANDLE

`count` prints {"seen", "dropped"}: packets that came to the emulator and packets that it dropped; it exits 1 where
there is none. `remove` exits 0 once no queueing discipline of ours is left there, also where none was.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

_LIMIT: Final = 2.0


class _Failed(Exception):
    """tc did not do what it was asked."""


def _tc(*arguments: str) -> str:
    try:
        result = subprocess.run(("tc", *arguments), capture_output=True, text=True, timeout=_LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Failed(str(error)) from error
    if result.returncode:
        raise _Failed(f"tc {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout


def _qdiscs(interface: str) -> list[dict[str, Any]]:
    """Return the queueing disciplines of an interface; one that is gone has none."""
    if interface not in (name for _, name in socket.if_nameindex()):
        return []
    found: list[dict[str, Any]] = json.loads(_tc("-s", "-j", "qdisc", "show", "dev", interface))
    return found


def _has_root(interface: str, handle: str) -> bool:
    return any(qdisc["handle"] == handle and qdisc["kind"] == "prio" for qdisc in _qdiscs(interface))


def _remove(interface: str, handle: str) -> None:
    if _has_root(interface, handle):
        # The kernel compares the handle itself: a root that somebody has put there meanwhile stays.
        _tc("qdisc", "del", "dev", interface, "root", "handle", handle)
    if _has_root(interface, handle):
        raise _Failed(f"the queueing discipline {handle} is still on {interface}")


def _count(interface: str, handle: str) -> dict[str, int]:
    band = f"{handle}2"
    for qdisc in _qdiscs(interface):
        if qdisc["kind"] == "netem" and qdisc.get("parent") == band:
            # What is still held back has come in too; packets are counted as they leave.
            return {"seen": qdisc["packets"] + qdisc["drops"] + qdisc["qlen"], "dropped": qdisc["drops"]}
    raise _Failed(f"there is no emulator of ours on {interface}")


def _own(handle: str) -> str:
    """Let only a handle pass that may be ours: `remove` must never reach a foreign one."""
    if not re.fullmatch(r"7[c-f][0-9a-f]{2}:", handle):
        raise argparse.ArgumentTypeError(f"{handle!r} is not ours: 7c00: to 7fff:")
    return handle


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.netem")
    parser.add_argument("command", choices=("count", "remove"))
    parser.add_argument("--dev", required=True)
    parser.add_argument("--handle", required=True, type=_own)
    options = parser.parse_args(argv)
    try:
        if options.command == "count":
            print(json.dumps(_count(options.dev, options.handle)))
        else:
            _remove(options.dev, options.handle)
    except _Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

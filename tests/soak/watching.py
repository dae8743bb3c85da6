"""Looking at the processes of a soak, every few seconds, from outside."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import psutil

_MEBIBYTE: Final = 1024**2
_INSTRUMENTS: Final = {
    "chaoslab.guardian": "guardian",
    "chaoslab.instruments.prober": "prober",
    "chaoslab.instruments.resources": "sampler",
}


def _role(process: psutil.Process) -> str | None:
    """Return what a child of a tool is, as far as it is one of those that are watched."""
    match process.cmdline()[1:]:
        case ["-m", module, *_] if module in _INSTRUMENTS:
            return _INSTRUMENTS[module]
        case ["-m", "chaoslab.demo", "serve", *_]:
            return "supervisor"
    return None


def _sample(name: str, process: psutil.Process) -> dict[str, Any]:
    children = process.children()
    with process.oneshot():
        memory = process.memory_full_info()
        return {
            "process": name,
            "pid": process.pid,
            "resident_mb": memory.rss / _MEBIBYTE,
            "unique_mb": memory.uss / _MEBIBYTE,
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
            "children": len(children),
            "zombies": sum(_is_zombie(child) for child in children),
        }


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def look(tools: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yield a row for each tool (name → pid) that runs, and for each of its guardian, instruments and supervisor."""
    at_ns = time.monotonic_ns()
    for name, pid in tools.items():
        for role, process in _members(pid):
            # It may end while we look.
            try:
                sample = _sample(f"{name}: {role}", process)
            except psutil.Error:
                continue
            if sample["resident_mb"] > 0:  # one that is ending has let go of its memory already
                yield {"at_ns": at_ns, **sample}


def _members(pid: int) -> Iterator[tuple[str, psutil.Process]]:
    try:
        tool = psutil.Process(pid)
        yield "tool", tool
        children = tool.children()
    except psutil.NoSuchProcess:
        return
    for child in children:
        try:
            role = _role(child)
        except psutil.Error:
            continue
        if role is not None:
            yield role, child

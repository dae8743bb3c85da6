"""Control groups: where a process competes for cores, memory and disk, how to get there, and what there is to get.

Both layouts are read: the single hierarchy of cgroup v2, and one for each controller of v1 (cgroups(7)). Of v1 only the
controllers that share out what is stressed are followed: a process of ours that also joined a container's freezer could
not be ended while the container is paused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SHARED_OUT: Final = frozenset({"cpu", "cpuacct", "cpuset", "memory", "blkio", "net_cls", "net_prio"})
_UNLIMITED: Final = 2**60


class CannotJoin(Exception):
    """A control group cannot be joined; the message says which, and why."""


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """A control group: its path in the hierarchy of `controllers` ("" is that of cgroup v2)."""

    controllers: str
    path: str

    def __str__(self) -> str:
        return f"{self.controllers}:{self.path}"

    @property
    def folder(self) -> Path:
        """Where it is mounted.

        Raises:
            CannotJoin: nowhere, as far as this process sees.
        """
        for names, root, mount in _mounts():
            if self._in(names) and Path(self.path).is_relative_to(root):
                return mount / Path(self.path).relative_to(root)
        raise CannotJoin(f"the control group {self} is not mounted here")

    def _in(self, names: frozenset[str]) -> bool:
        return frozenset(self.controllers.split(",")) <= names

    def upwards(self) -> Iterator[Path]:
        """Yield its folder and those of the groups that it is part of, as far up as there are files."""
        for folder in (self.folder, *self.folder.parents):
            if not (folder / "cgroup.procs").exists():
                return
            yield folder


def of(pid: int | str = "self") -> tuple[Group, ...]:
    """Return the groups in which a process competes.

    Raises:
        OSError: there is no such process.
    """
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    found = [Group(*line.split(":", 2)[1:]) for line in lines]
    shared = [group for group in found if _SHARED_OUT & frozenset(group.controllers.split(","))]
    # Where v1 has the controllers, the hierarchy of v2 beside it shares out nothing.
    return tuple(sorted(shared or [group for group in found if not group.controllers]))


def join(groups: tuple[Group, ...]) -> None:
    """Take this process into `groups`, and see that it is there.

    Raises:
        CannotJoin: the kernel refuses, or a group is out of sight.
    """
    for group in groups:
        if group in of():
            continue
        try:
            (group.folder / "cgroup.procs").write_text(str(os.getpid()))
        except OSError as error:
            raise CannotJoin(f"the control group {group} cannot be joined: {error.strerror}") from error
    if of() != groups:
        raise CannotJoin(f"the kernel has left this process in {', '.join(map(str, of()))}")


def cores() -> float:
    """Return how many cores this process can get: those it may run on, or less where a quota is smaller."""
    return min([float(len(os.sched_getaffinity(0))), *_quotas()])


def memory_limit() -> int:
    """Return how many bytes this process's groups may hold; a very large number where none is limited."""
    return min((limit for limit, _ in _memory()), default=_UNLIMITED)


def memory_left() -> int:
    """Return by how many bytes this process's groups may still grow; a very large number where none is limited."""
    return min((max(0, limit - used) for limit, used in _memory()), default=_UNLIMITED)


def _quotas() -> Iterator[float]:
    for folder in _folders("cpu"):
        if (v2 := _words(folder / "cpu.max")) and v2[0] != "max":
            yield int(v2[0]) / int(v2[1])
        quota, period = (_words(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota and period and int(quota[0]) > 0:
            yield int(quota[0]) / int(period[0])


def _memory() -> Iterator[tuple[int, int]]:
    """Yield the limit of each group upwards that has one, and the bytes that it could not give up at once."""
    for folder in _folders("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            allowed, taken = _words(folder / limit), _words(folder / used)
            if allowed and taken and allowed[0] != "max" and int(allowed[0]) < _UNLIMITED:
                yield int(allowed[0]), int(taken[0]) - _reclaimable(folder)


def _reclaimable(folder: Path) -> int:
    """Return the bytes of a group that hold files, which the kernel gives up first."""
    counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))


def _folders(controller: str) -> Iterator[Path]:
    for group in of():
        if controller in group.controllers.split(",") or not group.controllers:
            yield from group.upwards()


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _mounts() -> Iterator[tuple[frozenset[str], str, Path]]:
    """Yield, for each mounted hierarchy, its controllers ("" is v2), the group at its root, and where it is."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, mount = before.split()[3:5]
        kind, _source, options = after.split()[:3]
        if kind == "cgroup2":
            yield frozenset({""}), root, Path(mount)
        elif kind == "cgroup":
            yield frozenset(options.split(",")), root, Path(mount)

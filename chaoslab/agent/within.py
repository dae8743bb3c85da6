"""Runs a command where another process lives: in its control groups, and if asked in its network.

    python -m chaoslab.agent.within [PLACE] [--network] [--undo] -- ARGV

PLACE is one of `--container NAME`, `--pid-file FILE` and `--port N` (whoever listens there); without one, ARGV runs
here. With `--undo` a container that does not run is success: its network went with it. Whatever runs this way asks the
kernel to be killed before anything else when memory runs out, so that nothing of ours drives out the service.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chaoslab.agent import cgroups, containers, process_table, processes
from chaoslab.agent.launch import become, split

_CLONE_NEWNET: Final = 0x40000000


class NoPlace(Exception):
    """The process that stands for a place cannot be told."""


def resident(options: argparse.Namespace) -> int | None:
    """Return the process whose place `options` name, or None for here.

    Raises:
        NoPlace, containers.NotRunning, containers.EngineError: there is none, or no telling.
    """
    if options.container:
        return containers.find(options.container).pid
    if options.pid_file:
        return _in_file(Path(options.pid_file))
    return _listening(options.port) if options.port else None


def _in_file(file: Path) -> int:
    """Return the process of a pid file: "PID", or "PID START_TICKS" as the embedded target writes it."""
    try:
        pid, *ticks = map(int, file.read_text().split())
    except (OSError, ValueError) as error:
        raise NoPlace(f"the pid file {file} names no process: {error}") from error
    found = processes.identify(pid)
    if found is None or not found.alive or (ticks and ticks != [found.start_ticks]):
        raise NoPlace(f"the process {pid} of the pid file {file} is gone")
    return pid


def _listening(port: int) -> int:
    found = processes.listener(port)
    if found is None:
        raise NoPlace(f"no process that can be seen listens on port {port}")
    if Path(f"/proc/{found}/comm").read_text().strip() == "docker-proxy":
        raise NoPlace(f"port {port} is a container's: name that with placement.container")
    return found


def enter_network(pid: int) -> None:
    """Take this process into the network namespace of another one (setns(2)).

    Raises:
        OSError: it may not, or the other one is gone.
    """
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            problem = ctypes.get_errno()
            raise OSError(problem, os.strerror(problem))


def _require_other(pid: int) -> None:
    """Refuse the machine's first process and whatever this runs below: what we need must not compete with our stress.

    Raises:
        NoPlace: it is one of them.
    """
    own = {1, os.getpid(), *(process.pid for process in process_table.ancestors(process_table.look(), os.getpid()))}
    if pid in own:
        raise NoPlace(f"process {pid} can be no placement: chaoslab itself runs below it")


def _move(options: argparse.Namespace) -> None:
    pid = resident(options)
    if pid is None:
        return
    if not options.container:
        _require_other(pid)
    cgroups.join(cgroups.of(pid))
    if options.network:
        enter_network(pid)


def main(argv: Sequence[str]) -> int:
    """Run the command; exit as it does, 125 when its place cannot be entered."""
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.within")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--container")
    place.add_argument("--pid-file")
    place.add_argument("--port", type=int)
    parser.add_argument("--network", action="store_true")
    parser.add_argument("--undo", action="store_true")
    own, command = split(argv)
    options = parser.parse_args(own)
    if not command:
        parser.error("what is to run stands after --")
    try:
        _move(options)
    except containers.NotRunning as gone:
        print(gone, file=sys.stderr)
        return 0 if options.undo else 125
    except (NoPlace, containers.EngineError, cgroups.CannotJoin) as refusal:
        print(refusal, file=sys.stderr)
        return 125
    except OSError as error:
        print(f"that place cannot be entered: {error.strerror}", file=sys.stderr)
        return 125
    processes.become_first_victim()
    return become(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

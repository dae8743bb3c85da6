"""What runs first at the far end of an ssh connection: takes the agent in over stdin, and runs a command of it.

`chaoslab.agent.ssh` sends this file's text ahead, then the agent's modules, then something every few seconds. The
modules are imported from memory: nothing is written there, so nothing is left. The command runs in a session of its
own, and is ended, with all that it started, when the connection ends or falls silent.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import select
import signal
import sys
import zlib

SILENCE_SECONDS = 15.0
_OLDEST = (3, 11)


class Sent(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules whose text is in memory, by name; a package is one that another name begins with."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def find_spec(self, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        """Return how to import `fullname`, or None when it was not sent."""
        if fullname not in self._texts:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        """Whether there are modules below it."""
        return any(name.startswith(f"{fullname}.") for name in self._texts)

    def get_source(self, fullname: str) -> str:
        """Return the text of a module."""
        return self._texts[fullname]


def _watch(child: int, token: str) -> int:
    """Return how the command ended; end it when nobody is there any more."""
    descriptor = os.pidfd_open(child)
    while True:
        ready, _, _ = select.select([descriptor, 0], [], [], SILENCE_SECONDS)
        if descriptor in ready:
            break
        if not ready or not os.read(0, 4096):
            _end(child, token)
            break
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


def _leave_family(variable: str) -> None:
    """Wipe the token out of what /proc shows of this process: the watcher is no worker, nor to be ended like one."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    if (mark := getenv(variable.encode())) is not None:
        ctypes.memset(mark, ord("-"), len(ctypes.string_at(mark)))


def _end(child: int, token: str) -> None:
    from chaoslab.agent import processes

    if token:
        processes.end_family(token)
    else:
        os.killpg(child, signal.SIGKILL)


def main(argv: list[str]) -> int:
    """Take the modules in (`argv[0]` bytes of compressed JSON) and run the rest of `argv`."""
    if sys.version_info < _OLDEST:
        print("Python 3.11 or newer is needed; python3 there is", sys.version.split()[0], file=sys.stderr)
        return 125
    sys.meta_path.insert(0, Sent(json.loads(zlib.decompress(sys.stdin.buffer.read(int(argv[0]))))))
    from chaoslab.agent import launch, processes

    child = os.fork()
    if child == 0:
        os.setsid()
        processes.die_with_parent()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        return launch.become(argv[1:])
    token = os.environ.get(processes.TOKEN_VARIABLE, "")
    _leave_family(processes.TOKEN_VARIABLE)
    return _watch(child, token)


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))

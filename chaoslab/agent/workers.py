"""Our own stressors, for machines without stress-ng.

    python -m chaoslab.agent.workers cpu --workers N --load PERCENT --seconds S
    python -m chaoslab.agent.workers memory --bytes N --seconds S
    python -m chaoslab.agent.workers disk --workers N --bytes N --folder DIR --keep-free N --seconds S

Workers are processes: they die with their parent, each has the time limit itself, and each asks the kernel to be
killed before anything else when memory runs out.
"""

from __future__ import annotations

import argparse
import mmap
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from chaoslab.agent.processes import anonymous_bytes, become_first_victim, die_with_parent

_SLICE_SECONDS = 0.05
_MOST_OWED_SECONDS = 0.1
_BLOCK = b"\xa5" * 1024**2


def spin(load: int, until: float) -> None:
    """Keep one core busy for `load` percent of the time, until the monotonic instant `until`.

    What counts is CPU time: a worker that had to wait for its core, or slept too long, makes up for it.
    """
    started, used = time.monotonic(), time.thread_time()
    while (now := time.monotonic()) < until:
        owed = (now - started) * load / 100 - (time.thread_time() - used)
        if owed > _MOST_OWED_SECONDS:  # never to be made up for where cores are short: begin anew
            started, used = now, time.thread_time()
        slice_ends = now + _SLICE_SECONDS
        work_ends = time.thread_time() + owed + _SLICE_SECONDS * load / 100
        while time.thread_time() < work_ends and time.monotonic() < slice_ends:
            pass
        rest = slice_ends - time.monotonic()
        if load < 100 and rest > 0:
            time.sleep(rest)


def hold(size: int, until: float) -> None:
    """Hold `size` bytes resident until the monotonic instant `until`: each page is written once, so it is ours.

    What the interpreters of worker and parent hold already counts towards `size`, as it does for whoever measures it.
    """
    own = anonymous_bytes(os.getpid()) + anonymous_bytes(os.getppid())
    size = max(mmap.PAGESIZE, size - own)
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1
        time.sleep(max(0.0, until - time.monotonic()))


class DiskAlmostFull(Exception):
    """Somebody has filled the disk meanwhile."""


def write(size: int, folder: str, keep_free: int, until: float) -> None:
    """Write and sync `size` bytes in `folder` over and over, until the monotonic instant `until`.

    Raises:
        DiskAlmostFull: fewer than `keep_free` bytes are left for others; what was written is given back.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        while time.monotonic() < until:
            file.seek(0)
            for _ in range(0, size, len(_BLOCK)):
                room = os.fstatvfs(file.fileno())
                if room.f_bavail * room.f_frsize < keep_free:
                    raise DiskAlmostFull(f"fewer than {keep_free} bytes are free in {folder}")
                file.write(_BLOCK)
                file.flush()
                os.fdatasync(file.fileno())
                if time.monotonic() >= until:
                    return


def _start(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent()
        become_first_victim()
        try:
            work()
        except DiskAlmostFull:
            os._exit(1)
        os._exit(0)
    return child


def main(argv: Sequence[str]) -> int:
    """Run the workers to the end of their time; exit 0 when all of them lasted."""
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.workers")
    parser.add_argument("kind", choices=["cpu", "memory", "disk"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--load", type=int, default=100)
    parser.add_argument("--bytes", type=int, default=0)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--keep-free", type=int, default=0)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args(argv)
    until = time.monotonic() + options.seconds
    kinds: dict[str, Callable[[], None]] = {
        "cpu": lambda: spin(options.load, until),
        "memory": lambda: hold(options.bytes, until),
        "disk": lambda: write(options.bytes, options.folder, options.keep_free, until),
    }
    children = [_start(kinds[options.kind]) for _ in range(options.workers)]
    endings = [os.waitpid(child, 0)[1] for child in children]
    return 1 if any(endings) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A network of one's own: what is done to it is done to no interface of the machine's."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_CLONE_NEWNET: Final = 0x40000000


def may_have_one() -> bool:
    """Whether this machine lets us have one."""
    able = shutil.which("unshare") and shutil.which("ip")
    return bool(able) and subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL).returncode == 0


@contextmanager
def own_network() -> Iterator[None]:
    """Take this thread, and what it starts, into a new network namespace whose loopback is up. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        assert Path("/proc/thread-self/ns/net").stat().st_ino != os.fstat(home).st_ino
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        assert libc.setns(home, _CLONE_NEWNET) == 0, "the test process is stuck in its namespace"
        os.close(home)

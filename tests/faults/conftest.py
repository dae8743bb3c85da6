"""Fixtures of the fault tests."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.conftest import missing

_CLONE_NEWNET = 0x40000000
_CHAINS = (("mangle", "OUTPUT"), ("mangle", "INPUT"), ("filter", "OUTPUT"))


@pytest.fixture
def namespace(need: Callable[[str, str], None]) -> Iterator[None]:
    """Take this thread, and what it starts, into a network namespace that goes with the test."""
    for program, package in (("ip", "iproute2"), ("nft", "nftables"), ("iptables", "iptables")):
        need(program, f"apt-get install {package}")
    if os.geteuid() != 0:
        missing("network namespaces need root")
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        assert Path("/proc/thread-self/ns/net").stat().st_ino != os.fstat(home).st_ino
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # Whose own empty tables and chains stay wherever there once was a rule.
        for tool, (table, chain) in product(("iptables", "ip6tables"), _CHAINS):
            for change in ("-A", "-D"):
                subprocess.run([tool, "-t", table, change, chain, "-j", "ACCEPT"], check=True)
        yield
    finally:
        assert libc.setns(home, _CLONE_NEWNET) == 0, "the test process is stuck in its namespace"
        os.close(home)

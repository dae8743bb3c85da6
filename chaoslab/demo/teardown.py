"""Leaving nothing: how a shop ends, whoever ends it and however far it had come."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Final

from chaoslab import targets
from chaoslab.agent import processes
from chaoslab.agent.processes import Identity
from chaoslab.demo import database
from chaoslab.demo.premises import Premises

_LIMIT_SECONDS: Final = 1.5
_SERVER_PATIENCE: Final = 0.6
_POLL_SECONDS: Final = 0.005


def clear(shop: Premises) -> tuple[str, ...]:
    """End the shop's processes, withdraw its publication and remove its folder; return what survives.

    The calling process is spared, so that a supervisor can clear its own shop. Nothing to clear is fine.

    Raises:
        UsageError: the folder holds something, and is not a shop's.
    """
    deadline = time.monotonic() + _LIMIT_SECONDS
    if not shop.occupied:
        return _vacate(shop, deadline)
    token = shop.token
    # The supervisor goes first, or it would bring back what is ended here; the server may then end in its own way.
    _kill(lambda: _family(token) - database.server_processes(shop), deadline)
    database.shut_down(shop, patience=_SERVER_PATIENCE)
    _kill(lambda: _family(token) | database.server_processes(shop), deadline)
    database.forget_shared_memory(shop)
    _withdraw(shop)
    trouble = _vacate(shop, deadline)
    # A server that another process was just starting as its folder went shows only now.
    survivors = _kill(lambda: _family(token) | database.server_processes(shop), deadline)
    return (*(f"process {survivor.pid}" for survivor in sorted(survivors)), *trouble)


def _family(token: str | None) -> frozenset[Identity]:
    return processes.family(token) if token else frozenset()


def _kill(find: Callable[[], frozenset[Identity]], deadline: float) -> frozenset[Identity]:
    """Kill what `find` finds, until it finds nothing more; return what is left when the time is over."""
    while members := find():
        for member in members:
            member.send(signal.SIGKILL)
        if time.monotonic() > deadline:
            return members
        time.sleep(_POLL_SECONDS)
    return members


def _withdraw(shop: Premises) -> None:
    """Withdraw the publication, unless another shop has taken over the URL."""
    url = shop.url
    published = targets.find(url) if url else None
    if url and published and published.pid_file == str(shop.pid_file):
        targets.withdraw(url)


def _vacate(shop: Premises, deadline: float) -> tuple[str, ...]:
    """Remove the folder; again while somebody else writes to it or removes it too."""
    while True:
        try:
            shop.vacate()
        except OSError as error:
            if time.monotonic() > deadline:
                return (f"folder {shop.path} ({error.strerror})",)
            time.sleep(_POLL_SECONDS)
        else:
            return ()

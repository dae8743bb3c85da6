"""The shop under guard: one more reversible step, undone by whoever is left when its user is gone."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chaoslab.demo.commands import serve_command, stop_command
from chaoslab.demo.launcher import launch
from chaoslab.experiment import Session, protected
from chaoslab.hosts import LocalHost
from chaoslab.journal import Phase, Step
from chaoslab.undo import undo

_LONGEST: Final = 24 * 3600.0
_EXECUTE_FOR_OTHERS: Final = 0o001


@contextmanager
def shop(*, build: str = "fragile", port: int = 0) -> Iterator[str]:
    """Keep the embedded shop open, and give its URL; nothing of it is left afterwards, whatever happens.

        with chaoslab.shop(build="resilient") as url:
            campaign = chaoslab.run(target=url, scenarios=["Database Brief Outage"], duration_scale=0.1)

    Raises:
        UsageError: unknown build, or a port that is taken.
        ChaoslabError: it does not start.
        NotReverted: something of it could not be ended.
    """
    name = f"shop-{secrets.token_hex(4)}"
    with protected(name, signals=False) as session, open_shop(session, build=build, port=port) as url:
        yield url


@contextmanager
def open_shop(session: Session, *, build: str, port: int = 0) -> Iterator[str]:
    """Open the shop as a step of the session's journal, and give its URL; errors as for `shop`."""
    token = f"shop-{secrets.token_hex(8)}"
    folder = _room() / f"chaoslab-{token}"
    step = Step(
        name=f"embedded shop, {build}",
        do=serve_command(folder=folder, build=build, port=port),
        undo=stop_command(folder=folder),
        token=token,
        deadline=_LONGEST,
        holds=True,
        touches={"folder": str(folder), "processes_of": token},
    )
    session.journal.intend("", step)
    try:
        with launch(folder=folder, build=build, port=port, token=token) as launched:
            session.journal.append(Phase.DONE, step=step.name)
            session.interrupts.check()
            yield launched.url
    finally:
        undo(step, run="", journal=session.journal, host=LocalHost())


def _room() -> Path:
    """Return a folder for temporary files; where we are root it must be open to the user that PostgreSQL runs as."""
    usual = Path(tempfile.gettempdir()).resolve()
    if os.geteuid() != 0 or all(_open_to_others(part) for part in (usual, *usual.parents)):
        return usual
    return Path("/tmp")


def _open_to_others(folder: Path) -> bool:
    return bool(folder.stat().st_mode & _EXECUTE_FOR_OTHERS)

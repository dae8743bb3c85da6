"""Everything that chaoslab raises on purpose, and the exit code each one ends the command with.

    ChaoslabError                     2
    ├── UsageError                    2   an option or a name that cannot be used
    │   ├── ScenarioFileError         2   a scenario file that cannot be read: file, line, what is accepted
    │   ├── CampaignFolderError       2   a campaign folder that cannot be read or written
    │   │   └── DryRun                2   one in which nothing was injected; carries what was planned
    │   └── RecordingError            2   a foreign recording that cannot be read: file, line, what is accepted
    ├── PushFailed                    2   metrics could not be pushed to a gateway; what was written stays
    ├── Inconclusive                  3   nothing could be concluded, for a reason that is named
    ├── NotDelivered                  4   a fault could not be delivered
    ├── Aborted                       5   an abort condition stopped the campaign; everything was reverted
    ├── NotReverted                   6   something could not be reverted; carries the commands that undo it
    └── Interrupted             130 143 129   INT, TERM or HUP; everything was reverted

A message is one sentence: what is wrong, what was found, what is accepted. It holds no secret (`redaction`).
"""

from __future__ import annotations

import difflib
import math
import signal
from collections.abc import Iterable, Mapping
from typing import Any

from chaoslab.redaction import redact


class ChaoslabError(Exception):
    """Root of the tree; `exit_code` is what the command line ends with. Secrets are hidden in the message."""

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))

    def _render_traceback_(self) -> list[str]:
        """What a notebook's cell shows instead of a traceback: the sentence; `%debug` still has the rest."""
        return [f"{type(self).__name__}: {self}", *(f"    {command}" for command in getattr(self, "commands", ()))]


class UsageError(ChaoslabError):
    """An option, name or value that cannot be used."""


class ScenarioFileError(UsageError):
    """A scenario file that cannot be read."""


class CampaignFolderError(UsageError):
    """A campaign folder that cannot be read or written."""


class DryRun(CampaignFolderError):
    """The folder of a dry run: nothing was injected, so there is nothing to analyse. `meta` is its `campaign.json`."""

    def __init__(self, message: str, meta: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.meta = meta


class RecordingError(UsageError):
    """A recording of another tool that cannot be read."""


class PushFailed(ChaoslabError):
    """A Pushgateway cannot be reached, or did not take the metrics."""


class Inconclusive(ChaoslabError):
    """Nothing could be concluded."""

    exit_code = 3


class NotDelivered(ChaoslabError):
    """A fault could not be delivered on this machine."""

    exit_code = 4


class Aborted(ChaoslabError):
    """An abort condition stopped the campaign; everything was reverted."""

    exit_code = 5


class NotReverted(ChaoslabError):
    """Something is still broken; `commands` undo it by hand, once their secrets are filled in."""

    exit_code = 6

    def __init__(self, message: str, *, commands: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.commands = tuple(map(redact, commands))


class Interrupted(ChaoslabError):
    """A signal ended the campaign, and everything was reverted; or a command that only reads, which reverts nothing."""

    def __init__(self, signum: int, *, only_read: bool = False) -> None:
        reverted = "" if only_read else "; everything was reverted"
        super().__init__(f"interrupted by {signal.Signals(signum).name}{reverted}")
        self.exit_code = 128 + signum


def recognised(names: Iterable[str], accepted: Iterable[str], what: str, *, any_case: bool = False) -> tuple[str, ...]:
    """Return `names` as they are spelt in `accepted`, each once.

    Args:
        what: what they name, for the message.
        any_case: whether capital letters do not matter.

    Raises:
        UsageError: one is not accepted.
    """
    there = {name.lower() if any_case else name: name for name in accepted}
    chosen = []
    for name in names:
        found = there.get(name.lower() if any_case else name)
        if found is None:
            known = ", ".join(there.values())
            raise UsageError(f"no {what} is called {name!r}{nearest(name, there.values())}; accepted: {known}")
        chosen.append(found)
    return tuple(dict.fromkeys(chosen))


def require_positive(**numbers: float) -> None:
    """See that each number, given by its name, is finite and above 0.

    Raises:
        UsageError: one is not.
    """
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value:g}; accepted: a number above 0")


def nearest(found: str, accepted: Iterable[str]) -> str:
    """Return a hint that names the accepted value closest to `found`, or an empty string.

    >>> nearest("smoke_tset", ["smoke_test", "all"])
    " (did you mean 'smoke_test'?)"
    >>> nearest("zzz", ["smoke_test", "all"])
    ''
    """
    names = {name.lower(): name for name in accepted}
    match = difflib.get_close_matches(found.lower(), names, n=1, cutoff=0.55)
    return f" (did you mean {names[match[0]]!r}?)" if match else ""

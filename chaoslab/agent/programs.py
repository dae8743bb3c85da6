"""Programs of the machine that must do what they are told."""

from __future__ import annotations

import shlex
import subprocess
from typing import Final

_LIMIT: Final = 2.0


class Failed(Exception):
    """A program did not do what it was asked."""


def run(*argv: str) -> str:
    """Run a program and return what it printed.

    Raises:
        Failed: it cannot be started, does not end within 2 s, or ends with an error.
    """
    try:
        result = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(str(error)) from error
    if result.returncode:
        raise Failed(f"{shlex.join(argv)}: {result.stderr.strip()}")
    return result.stdout

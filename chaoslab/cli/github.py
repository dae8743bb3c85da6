"""What GitHub's runner reads of a step: its summary, and commands on standard output that no other word may imitate."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from chaoslab.cli import say

Speak = Callable[[Iterable[str]], None]
"""Hands workflow commands to the runner."""

_ON_GITHUB: Final = "GITHUB_ACTIONS"
_STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"
_STEP_SUMMARY_BYTES: Final = 1 << 20


def add_to_step(summary: str) -> None:
    """Add the summary to that of the step, on GitHub, as far as there is room."""
    if not (place := os.environ.get(_STEP_SUMMARY)):
        return
    try:
        with Path(place).open("ab") as file:
            file.write(summary.encode()[: max(0, _STEP_SUMMARY_BYTES - file.tell())])
    except OSError as error:
        say(f"the step's summary {place} cannot be written: {error.strerror}")


@contextmanager
def quiet_runner() -> Iterator[Speak]:
    """Keep GitHub's runner from obeying what services say; what is given speaks to it, where there is one."""
    if os.environ.get(_ON_GITHUB) != "true":
        yield lambda commands: None
        return
    word = secrets.token_hex(16)
    click.echo(f"::stop-commands::{word}")

    def speak(commands: Iterable[str]) -> None:
        for line in (f"::{word}::", *commands, f"::stop-commands::{word}"):
            click.echo(line)

    try:
        yield speak
    finally:
        click.echo(f"::{word}::")

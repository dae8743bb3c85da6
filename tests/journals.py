"""Journals as tests need them: of an owner that is dead, or of a version that wrote no checksums."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from chaoslab.journal import Journal
from chaoslab.journal_lines import line

_ANOTHER = 10**12


def disown(journal: Journal) -> None:
    """Make it the journal of a process that is gone: the same pid, started at another time."""

    def another(entry: dict[str, Any]) -> dict[str, Any]:
        if "owner" in entry:
            entry["owner"]["start_ticks"] += _ANOTHER
        return entry | {"writer_start_ticks": entry["writer_start_ticks"] + _ANOTHER}

    rewrite(journal, lambda entry: line(another(entry)))


def without_checksums(data: bytes) -> bytes:
    """Return the lines as they were before they had checksums."""
    entries = [json.loads(text) for text in data.splitlines()]
    new = ("crc", "writer_start_ticks")
    return b"".join(
        json.dumps({name: value for name, value in entry.items() if name not in new}).encode() + b"\n"
        for entry in entries
    )


def rewrite(journal: Journal, write: Callable[[dict[str, Any]], bytes]) -> None:
    """Write every entry of a journal anew."""
    entries = [json.loads(text) for text in journal.path.read_bytes().splitlines()]
    for entry in entries:
        del entry["crc"]
    journal.path.write_bytes(b"".join(map(write, entries)))

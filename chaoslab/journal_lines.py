"""The lines of a journal: JSON objects with a checksum each, read whatever has become of the file.

A line is `{"sequence": …, …, "crc": N}`: N is the CRC-32 of the line's bytes without that last key. A flipped bit in an
argv is still JSON and would be another command; with the checksum it is damage. Lines from before there were checksums
count as they are, as long as no line before them has one.

A reader looks for entries, not for line breaks: an entry begins at `{"sequence": ` and ends with its checksum, and
neither can occur inside a JSON string. So a damaged line break costs nothing, and garbage costs what it lies on.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

AFTER_TORN: Final = "after_torn"
"""Key of an entry that was appended to a file which did not end with a line break."""

_PIECE: Final = re.compile(rb'.+?(?:, "crc": [0-9]{1,10}\}|(?=\{"sequence": )|$)')
_CHECKSUM: Final = re.compile(rb', "crc": ([0-9]{1,10})\}$')
_PHASE: Final = re.compile(rb'"phase": "([a-z_]+)"')


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the file that should be an entry; `number` is its line, from 1.

    `entry` is None where it cannot be read. `phase` is what it says of itself, as far as that can be made out. `torn`:
    its writer never came to its end, so what it announces was never done.
    """

    number: int
    entry: Mapping[str, Any] | None
    phase: str = ""
    torn: bool = False


def line(entry: Mapping[str, Any]) -> bytes:
    """Return `entry`, whose first key is "sequence", as a line with its checksum."""
    text = json.dumps(entry).encode()
    return b'%s, "crc": %d}\n' % (text[:-1], zlib.crc32(text))


def pieces(data: bytes) -> Iterator[Piece]:
    """Yield what a journal's bytes hold, in order; a single stray byte is passed over."""
    found = list(_found(data))
    for place, (number, raw, entry) in enumerate(found):
        if entry is not None:
            yield Piece(number, entry, str(entry.get("phase", "")))
        elif len(raw) > 1:
            last = place + 1 == len(found)
            after = {} if last else found[place + 1][2] or {}
            torn = AFTER_TORN in after or (last and not data.endswith(b"\n"))
            phases = _PHASE.findall(raw)
            phase = phases[0].decode() if len(phases) == 1 else ""
            yield Piece(number, None, phase, torn and not _CHECKSUM.search(raw))


def sound(data: bytes) -> list[Mapping[str, Any]] | None:
    """Return the entries of whole lines that all bear out their checksum; None where there is anything else."""
    *lines, rest = data.split(b"\n")
    entries = [_checked(raw) for raw in lines]
    return None if rest or None in entries else [entry for entry in entries if entry is not None]


def _checked(raw: bytes) -> Mapping[str, Any] | None:
    checksum = _CHECKSUM.search(raw)
    if checksum is None:
        return None
    whole = raw[: checksum.start()] + b"}"
    return _object(whole) if zlib.crc32(whole) == int(checksum[1]) else None


def _found(data: bytes) -> Iterator[tuple[int, bytes, Mapping[str, Any] | None]]:
    checked = False
    for number, physical in enumerate(data.split(b"\n"), 1):
        for match in _PIECE.finditer(physical):
            raw = match[0].strip()
            entry = _checked(raw)
            checked = checked or entry is not None
            if not checked and not _CHECKSUM.search(raw):
                entry = _object(raw) or _object(raw[:-1])  # what a line break was damaged into may stand behind it
            if raw:
                yield number, raw, entry


def _object(raw: bytes) -> Mapping[str, Any] | None:
    try:
        entry = json.loads(raw.decode())
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None

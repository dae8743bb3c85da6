"""Files of other tools: opened, digested, read in bounded memory, and complained about by file and line."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from chaoslab.errors import RecordingError

LONGEST_LINE: Final = 16 * 1024**2
"""Bytes that one line may have: a reader holds one line at a time."""
LARGEST_DOCUMENT: Final = 64 * 1024**2
"""Bytes that a file may have whose format can be read only as a whole."""

_GZIP: Final = b"\x1f\x8b"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_EARLIEST_US: Final = 946_684_800 * 10**6  # 2000
_LATEST_US: Final = 4_102_444_800 * 10**6  # 2100
_LONGEST_US: Final = 2**31 - 1  # as the table of probes holds it
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, for what is wrong there."""

    path: Path
    line: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.line is None else f"{self.path}:{self.line}"

    def refuse(self, what: str, found: object, accepted: str) -> NoReturn:
        """Raise RecordingError: `what` is `found` here, and `accepted` would be right."""
        shown = repr(found)
        shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
        raise RecordingError(f"{self}: {what} is {shown}; accepted: {accepted}")


def describe(path: Path) -> dict[str, Any]:
    """Return name, size and SHA-256 of the file at `path`.

    Raises:
        RecordingError: it cannot be read, or is no file.
    """
    with reading(path), _plain(path) as file:
        return {
            "name": path.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what may go wrong below text into a RecordingError that names the file."""
    try:
        yield
    except (EOFError, zlib.error) as error:
        raise RecordingError(f"{path}: the compressed file is cut off or damaged: {error}") from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextmanager
def open_bytes(path: Path) -> Iterator[gzip.GzipFile | io.BufferedReader]:
    """Open the file at `path`, unpacked if it is compressed with gzip.

    Raises:
        OSError, RecordingError: as within `reading`.
    """
    with _plain(path) as file:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


def _plain(path: Path) -> io.BufferedReader:
    if path.exists() and not path.is_file():
        raise RecordingError(f"{path}: cannot be read: it is not a file")
    return path.open("rb")


def beginning(path: Path) -> bytes:
    """Return the first bytes of the file, without blanks before them.

    Raises:
        RecordingError: the file cannot be read, or is empty.
    """
    with reading(path), open_bytes(path) as file:
        start = file.read(64 * 1024).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise RecordingError(f"{path}: is empty; accepted: a recording with at least one probe")
    return start


def lines(path: Path, *, ended: bool = False) -> Iterator[tuple[Place, str]]:
    """Yield the lines of a text with their places, one at a time, ends kept.

    Args:
        ended: whether the last line must have an end too: of a number that was cut off, nothing else tells.

    Raises:
        RecordingError: the file cannot be read, is no UTF-8, is cut off, or has a line beyond `LONGEST_LINE`.
    """
    number = 0
    with reading(path), open_bytes(path) as file:
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            place = Place(path, number)
            if len(raw) > LONGEST_LINE:
                raise RecordingError(f"{place}: the line is longer than {LONGEST_LINE // 1024**2} MiB")
            if ended and not raw.endswith(b"\n"):
                raise RecordingError(
                    f"{place}: the last line has no end, so the file is cut off; accepted: whole lines"
                )
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise RecordingError(f"{place}: is not text in UTF-8: {error.reason}") from error
            yield place, text


def objects(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the JSON objects of a file that has one on each line; blank lines are passed over.

    Raises:
        RecordingError: as `lines`, or a line is not a JSON object.
    """
    for place, text in lines(path):
        if text.strip():
            yield place, _object(place, text)


def _object(place: Place, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise RecordingError(
            f"{place}: is not JSON, or cut off: {reason}; accepted: a JSON object on each line"
        ) from error
    if not isinstance(found, dict):
        place.refuse("the line", found, "a JSON object on each line")
    return found


def document(path: Path) -> dict[str, Any]:
    """Return the one JSON object that a file holds.

    Raises:
        RecordingError: it cannot be read, is larger than `LARGEST_DOCUMENT`, or is not a JSON object.
    """
    with reading(path), open_bytes(path) as file:
        raw = file.read(LARGEST_DOCUMENT + 1)
    if len(raw) > LARGEST_DOCUMENT:
        limit = f"{LARGEST_DOCUMENT // 1024**2} MiB"
        raise RecordingError(f"{path}: is larger than {limit}, and such a file is read whole: record a shorter time")
    try:
        found = json.loads(raw)
    except json.JSONDecodeError as error:
        raise RecordingError(f"{path}:{error.lineno}: is not JSON, or cut off: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: is not JSON: {error}") from error
    if not isinstance(found, dict):
        Place(path, 1).refuse("the document", found, "a JSON object")
    return found


def table(path: Path) -> Iterator[tuple[Place, list[str]]]:
    """Yield the rows of a CSV file, the heading too; the delimiter is that of the first line.

    Raises:
        RecordingError: as `lines`, or a row is no CSV.
    """
    csv.field_size_limit(LONGEST_LINE)
    first = beginning(path).partition(b"\n")[0].decode(errors="replace")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader((text for _, text in lines(path, ended=True)), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise RecordingError(f"{Place(path, line)}: is not CSV: {error}") from error
        if row is None:
            return
        if row:
            yield Place(path, line), row


def headed(path: Path, needed: tuple[str, ...], *, kind: str) -> Iterator[tuple[Place, dict[str, str]]]:
    """Yield the rows of a CSV file by the names of its heading.

    Raises:
        RecordingError: as `table`, or a needed column or a value is missing.
    """
    rows = table(path)
    place, names = next(rows, (Place(path, 1), []))
    if missing := [name for name in needed if name not in names]:
        raise RecordingError(f"{place}: the heading lacks {missing[0]!r}; accepted: {kind} with {', '.join(needed)}")
    for place, row in rows:
        if len(row) != len(names):
            raise RecordingError(f"{place}: has {len(row)} values, and the heading has {len(names)} names")
        yield place, dict(zip(names, row, strict=True))


def number(place: Place, what: str, found: object) -> float:
    """Return `found`, a number or text of one.

    Raises:
        RecordingError: it is none, or not finite.
    """
    try:
        value = float(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        place.refuse(what, found, "a number")
    return value


def whole(place: Place, what: str, found: object) -> int:
    """Return `found`, a whole number of at least zero or text of one.

    Raises:
        RecordingError: it is none.
    """
    if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        return found
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 20:
        return int(found)
    return place.refuse(what, found, "a whole number of at least 0")


def instant_us(place: Place, what: str, us: float) -> int:
    """Return microseconds since 1970 as they are, if they can be the instant of a probe.

    Raises:
        RecordingError: they lie before 2000 or after 2100.
    """
    if not _EARLIEST_US <= us <= _LATEST_US:
        raise RecordingError(f"{place}: {what} is {us / 1e6:.15g} s since 1970; accepted: the years 2000 to 2100")
    return round(us)


def latency_us(place: Place, what: str, us: float) -> int:
    """Return a latency in whole microseconds.

    Raises:
        RecordingError: it is negative, or longer than 35 minutes.
    """
    if not 0 <= us <= _LONGEST_US:
        raise RecordingError(f"{place}: {what} is {us / 1e6:g} s; accepted: 0 to {_LONGEST_US / 1e6:.0f} s")
    return round(us)


def rfc3339_us(place: Place, what: str, found: object) -> int:
    """Return microseconds since 1970 of a text such as 2026-01-31T12:00:00.123456789+01:00.

    Raises:
        RecordingError: it is none, or has no time zone.
    """
    try:
        at = datetime.fromisoformat(found) if isinstance(found, str) else None
        if at is not None and at.tzinfo is not None:
            return instant_us(place, what, (at - _EPOCH) // _MICROSECOND)
    except (ValueError, OverflowError):
        pass
    return place.refuse(what, found, "an instant with its time zone, such as 2026-01-31T12:00:00.123Z")


def epoch_us(place: Place, what: str, found: object) -> int:
    """Return microseconds since 1970 of a number of seconds, or of milli-, micro- or nanoseconds, by its size.

    Raises:
        RecordingError: it is no number, or no instant of the years 2000 to 2100.
    """
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) > 17:
        return instant_us(place, what, int(found) // 1000)  # nanoseconds are beyond what a float holds
    value = number(place, what, found)
    scale = next((scale for least, scale in ((1e17, 1e-3), (1e14, 1.0), (1e11, 1e3)) if value >= least), 1e6)
    return instant_us(place, what, value * scale)


def text_of(row: Mapping[str, Any], name: str) -> str:
    """Return a value as text, empty where there is none."""
    found = row.get(name)
    return "" if found is None else str(found)

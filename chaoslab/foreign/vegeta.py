"""vegeta: `vegeta encode --to json` (an object a line) and `--to csv`; instants and latencies are nanoseconds.

vegeta is told a rate and keeps to it, so its loop is open; but it times each request from when it was sent.
Its own encoding, gob, describes Go types in a binary stream, for which no kept reader exists outside of Go.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NoReturn

from chaoslab.errors import RecordingError
from chaoslab.foreign import source
from chaoslab.foreign.probes import Gathering, Probe, Probes, judged
from chaoslab.foreign.source import Place

_FIELDS: Final = ("timestamp", "code", "latency", "bytes_out", "bytes_in", "error", "body", "attack", "seq")
_MORE: Final = ("method", "url", "headers")
"""Columns that later versions have."""


def from_json(paths: tuple[Path, ...], gathering: Gathering) -> Probes:
    """Yield the probes of vegeta's JSON encoding.

    Raises:
        RecordingError: as `source.objects`, or a value that cannot be.
    """
    for place, hit in source.objects(paths[0]):
        if missing := [name for name in ("timestamp", "code", "latency") if name not in hit]:
            raise RecordingError(f"{place}: lacks {missing[0]!r}; accepted: vegeta's results, encoded to JSON")
        if gathering.wants(hit):
            sent = source.rfc3339_us(place, "the timestamp", hit["timestamp"])
            yield _probe(place, sent, hit["code"], hit["latency"], source.text_of(hit, "error"), gathering)
            gathering.met(source.text_of(hit, "url"))


def from_csv(paths: tuple[Path, ...], gathering: Gathering) -> Probes:
    """Yield the probes of vegeta's CSV encoding, which has no heading.

    Raises:
        RecordingError: as `source.table`, or a row of another length, or a value that cannot be.
    """
    for place, row in source.table(paths[0]):
        if not len(_FIELDS) <= len(row) <= len(_FIELDS) + len(_MORE):
            raise RecordingError(f"{place}: has {len(row)} values; accepted: vegeta's 9 to 12")
        hit = dict(zip(_FIELDS + _MORE, row, strict=False))
        if gathering.wants(hit):
            sent = source.instant_us(place, "the timestamp", source.whole(place, "the timestamp in ns", row[0]) / 1000)
            yield _probe(place, sent, row[1], row[2], hit["error"], gathering)
            gathering.met(hit.get("url", ""))


def from_gob(paths: tuple[Path, ...], gathering: Gathering) -> NoReturn:
    """Refuse vegeta's binary encoding.

    Raises:
        RecordingError: always; it names the command that makes what can be read.
    """
    name = paths[0].name
    raise RecordingError(
        f"{paths[0]}: is binary, as vegeta's gob is, which only Go can read; accepted: "
        f"`vegeta encode --to json --output {name}.json {name}`, or any other text that `chaoslab import --help` names"
    )


def _probe(place: Place, sent_us: int, code: object, latency: object, error: str, gathering: Gathering) -> Probe:
    status = source.whole(place, "the code", code)
    took = source.latency_us(place, "the latency", source.whole(place, "the latency in ns", latency) / 1000)
    failed = bool(error) or not 200 <= status < 400
    return Probe(sent_us, took, status or None, judged(status, failed, error))

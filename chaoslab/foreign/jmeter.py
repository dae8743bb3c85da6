"""JMeter's JTL: CSV with a heading, and XML; instants and latencies are milliseconds.

A sample's time stamp is its start, as JMeter is delivered (`sampleresult.timestamp.start=true`). In XML, samples within
a sample are its parts and not read. A sample that an assertion failed has a status and counts as failed by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from chaoslab.errors import RecordingError
from chaoslab.foreign import source
from chaoslab.foreign.probes import Gathering, Probe, Probes, judged
from chaoslab.foreign.source import Place

_COLUMNS: Final = ("timeStamp", "elapsed", "success")
_ATTRIBUTES: Final = {
    "ts": "timeStamp",
    "t": "elapsed",
    "s": "success",
    "rc": "responseCode",
    "rm": "responseMessage",
    "lb": "label",
    "tn": "threadName",
}
_SAMPLES: Final = frozenset({"sample", "httpSample"})
_DEEPEST: Final = 50


def from_csv(paths: tuple[Path, ...], gathering: Gathering) -> Probes:
    """Yield the probes of a JTL in CSV.

    Raises:
        RecordingError: as `source.headed`, or a value that cannot be.
    """
    for place, row in source.headed(paths[0], _COLUMNS, kind="a JTL in CSV"):
        if gathering.wants(row):
            yield _probe(place, row, gathering)


def from_xml(paths: tuple[Path, ...], gathering: Gathering) -> Probes:
    """Yield the probes of a JTL in XML, one sample in memory at a time.

    Raises:
        RecordingError: it is no such XML, cut off, declares entities, or holds a value that cannot be.
    """
    path = paths[0]
    for number, sample in enumerate(_samples(path), start=1):
        row = {_ATTRIBUTES.get(name, name): value for name, value in sample.attrib.items()}
        row["URL"] = sample.findtext("java.net.URL", default="")
        place = Place(Path(f"{path}: sample {number}"))
        if missing := [name for name in _COLUMNS if name not in row]:
            raise RecordingError(f"{place} lacks its {missing[0]}; accepted: samples with the attributes ts, t and s")
        if gathering.wants(row):
            yield _probe(place, row, gathering)


class _Metered:
    """A file that is refused when one sample goes on for too long: a parser holds all of it."""

    def __init__(self, file: IO[bytes] | Any, path: Path) -> None:
        self._file = file
        self._path = path
        self.of_sample = 0

    def read(self, size: int) -> bytes:
        raw = self._file.read(size)
        self.of_sample += len(raw)
        if self.of_sample > source.LONGEST_LINE:
            limit = f"{source.LONGEST_LINE // 1024**2} MiB"
            raise RecordingError(f"{self._path}: a sample is longer than {limit}, or never ends")
        return raw


def _samples(path: Path) -> Iterator[Element]:
    depth, root = 0, None
    try:
        with source.reading(path), source.open_bytes(path) as file:
            metered = _Metered(file, path)
            for event, element in iterparse(metered, events=("start", "end"), forbid_dtd=True):
                if depth <= 1:
                    metered.of_sample = 0
                if event == "start":
                    depth += 1
                    if depth > _DEEPEST:
                        raise RecordingError(f"{path}: is nested more than {_DEEPEST} levels deep")
                    if root is None:
                        root = element
                        if element.tag != "testResults":
                            raise RecordingError(
                                f"{path}: the root is <{element.tag}>; accepted: JMeter's <testResults>"
                            )
                    continue
                depth -= 1
                if depth == 1 and root is not None:
                    if element.tag in _SAMPLES:
                        yield element
                    root.clear()
    except ParseError as error:
        line = error.position[0]
        raise RecordingError(
            f"{path}:{line}: is not XML, or cut off (JMeter writes the end when it ends): {error}"
        ) from error
    except DefusedXmlException as error:
        raise RecordingError(f"{path}: declares a document type or entities, which a JTL never does") from error


def _probe(place: Place, row: Mapping[str, str], gathering: Gathering) -> Probe:
    sent = source.instant_us(place, "timeStamp", 1e3 * source.whole(place, "timeStamp in ms", row["timeStamp"]))
    took = source.latency_us(place, "elapsed", 1e3 * source.whole(place, "elapsed in ms", row["elapsed"]))
    said = row["success"].lower()
    if said not in ("true", "false"):
        place.refuse("success", row["success"], "true or false")
    code = row.get("responseCode", "")
    status = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else None
    gathering.met(row.get("URL", ""))
    words = f"{code} {row.get('responseMessage', '')}"
    return Probe(sent, took, status, judged(status, said == "false", words))

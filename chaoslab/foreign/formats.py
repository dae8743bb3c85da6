"""The formats that can be imported: how each is called, recognised and read, and what its tool does about time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from chaoslab.errors import RecordingError, recognised
from chaoslab.foreign import jmeter, k6, prometheus, source, vegeta
from chaoslab.foreign.probes import Gathering, Probes

Loop = Literal["open", "closed", "unknown"]
_PRINTABLE: Final = frozenset(range(32, 127)) | set(b"\t\r\n\f") | frozenset(range(128, 256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format.

    Attributes:
        loop: whether the tool keeps its rate when the service stalls (open) or waits for it (closed).
        read: yields the probes of the files of one recording; None where the format holds no single probes.
        joins: whether several files are one recording; else each is a recording of its own.
    """

    name: str
    title: str
    loop: Loop = "unknown"
    read: Callable[[tuple[Path, ...], Gathering], Probes] | None = None
    joins: bool = False


OLD_SUITE: Final = "old-suite"
LOCUST: Final = "locust"
FORMATS: Final = {
    found.name: found
    for found in (
        Format(name="k6-json", title="k6, JSON", read=k6.from_json),
        Format(name="k6-csv", title="k6, CSV", read=k6.from_csv),
        Format(name="vegeta-json", title="vegeta, JSON", loop="open", read=vegeta.from_json),
        Format(name="vegeta-csv", title="vegeta, CSV", loop="open", read=vegeta.from_csv),
        Format(name="vegeta-gob", title="vegeta, gob (refused)", loop="open", read=vegeta.from_gob),
        Format(name="jmeter-csv", title="JMeter, JTL in CSV", loop="closed", read=jmeter.from_csv),
        Format(name="jmeter-xml", title="JMeter, JTL in XML", loop="closed", read=jmeter.from_xml),
        Format(name="prometheus", title="Prometheus, API", loop="open", read=prometheus.from_api, joins=True),
        Format(name=LOCUST, title="Locust, stats_history.csv", loop="closed"),
        Format(name=OLD_SUITE, title="the script suite, JSON", joins=True),
    )
}


def recognise(path: Path, name: str | None = None) -> Format:
    """Return the format called `name`, else the one that the file at `path` looks like.

    Raises:
        UsageError: no format has that name.
        RecordingError: the file cannot be read, or looks like none of them.
    """
    if name is not None:
        return FORMATS[recognised([name], FORMATS, "format")[0]]
    start = source.beginning(path)
    found = _looks_like(start)
    if found is None:
        shown = start.partition(b"\n")[0][:60].decode(errors="replace")
        raise RecordingError(
            f"{path}: begins with {shown!r}, like no format that is known; accepted: {', '.join(FORMATS)}"
        )
    return FORMATS[found]


def _looks_like(start: bytes) -> str | None:
    first = start.partition(b"\n")[0]
    if not set(first[:200]) <= _PRINTABLE:
        return "vegeta-gob"
    if first.startswith(b"<"):
        return "jmeter-xml"
    if first.startswith(b"{"):
        return _json(start.replace(b" ", b""))
    cells = re.split("[,;\t]", first.strip().decode(errors="replace").replace('"', ""))
    if {"timeStamp", "elapsed"} <= set(cells):
        return "jmeter-csv"
    if "metric_name" in cells:
        return "k6-csv"
    if cells[:2] == ["Timestamp", "User Count"]:
        return LOCUST
    return "vegeta-csv" if len(cells) >= 7 and cells[0].isdigit() and len(cells[0]) > 17 else None


def _json(start: bytes) -> str:
    """Tell the formats of JSON apart; `start` has no blanks."""
    first = start.partition(b"\n")[0]
    if b'"type":"Metric"' in first or b'"type":"Point"' in first:
        return "k6-json"
    if b'"latency":' in first and b'"timestamp":' in first:
        return "vegeta-json"
    answered = b'"status":"success"' in start or b'"status":"error"' in start
    return "prometheus" if answered and (b'"resultType":' in start or b'"errorType":' in start) else OLD_SUITE

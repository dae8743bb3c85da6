"""k6: `k6 run --out json=FILE` (an object a line) and `--out csv=FILE`.

One probe is one point of `http_req_duration`: from the first byte sent to the last received, without the connection's
set-up, which k6 counts apart. k6 stamps a point when the request ended, so it was sent that much earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chaoslab.foreign import source
from chaoslab.foreign.probes import Gathering, Probe, Probes, kind_of
from chaoslab.foreign.source import Place
from chaoslab.records import ErrorKind

_METRIC: Final = "http_req_duration"
_COLUMNS: Final = ("metric_name", "timestamp", "metric_value")
_WHOLE_SECONDS: Final = (
    "k6 wrote its instants in whole seconds: outages and recoveries are known to a second at best (record with "
    "K6_CSV_TIME_FORMAT=unix_nano, or as JSON)."
)
_CODES: Final = (
    (1050, ErrorKind.TIMEOUT),
    (1211, ErrorKind.TIMEOUT),
    (1212, ErrorKind.REFUSED),
    (1220, ErrorKind.RESET),
)
_RANGES: Final = ((1100, ErrorKind.UNREACHABLE), (1300, ErrorKind.TLS), (1600, ErrorKind.PROTOCOL))


def from_json(paths: tuple[Path, ...], gathering: Gathering) -> Probes:
    """Yield the probes of k6's JSON output.

    Raises:
        RecordingError: as `source.objects`, or a point lacks its time or value.
    """
    for place, line in source.objects(paths[0]):
        if line.get("type") != "Point" or line.get("metric") != _METRIC:
            if line.get("type") not in ("Point", "Metric"):
                place.refuse("the type", line.get("type"), "k6's lines, of type Metric or Point")
            continue
        data = line.get("data")
        if not isinstance(data, dict):
            place.refuse("the data", data, "an object with time, value and tags")
        tags = data.get("tags") or {}
        if not isinstance(tags, dict):
            place.refuse("the tags", tags, "an object of texts")
        if gathering.wants(tags):
            ended = source.rfc3339_us(place, "the time", data.get("time"))
            yield _probe(place, ended, data.get("value"), tags, gathering)


def from_csv(paths: tuple[Path, ...], gathering: Gathering) -> Probes:
    """Yield the probes of k6's CSV output.

    Raises:
        RecordingError: as `source.headed`, or a value that cannot be.
    """
    whole = True
    for place, row in source.headed(paths[0], _COLUMNS, kind="k6's CSV"):
        if row["metric_name"] == _METRIC and gathering.wants(row):
            stamp = row["timestamp"]
            read = source.rfc3339_us if "T" in stamp else source.epoch_us
            ended = read(place, "the timestamp", stamp)
            whole = whole and ended % 1_000_000 == 0
            yield _probe(place, ended, row["metric_value"], row, gathering)
    if whole:
        gathering.remarks[_WHOLE_SECONDS] = None


def _probe(place: Place, ended_us: int, value: object, tags: Mapping[str, Any], gathering: Gathering) -> Probe:
    took = source.latency_us(place, "the duration", 1e3 * source.number(place, "the duration in ms", value))
    said = source.text_of(tags, "status")
    status = source.whole(place, "the status", said) if said else 0
    code = source.text_of(tags, "error_code")
    expected = source.text_of(tags, "expected_response")
    failed = expected == "false" if expected else bool(code) or not 0 < status < 400
    gathering.met(source.text_of(tags, "url"))
    return Probe(ended_us - took, took, status or None, _error(status, code, tags) if failed else None)


def _error(status: int, code: str, tags: Mapping[str, Any]) -> ErrorKind:
    """By k6's error codes (its documentation, "Error codes"); a status answers for itself."""
    if status:
        return ErrorKind.STATUS
    if not code.isdigit():
        return kind_of(source.text_of(tags, "error"))
    known = dict(_CODES).get(int(code)) or dict(_RANGES).get(int(code) // 100 * 100)
    return known or kind_of(source.text_of(tags, "error"))

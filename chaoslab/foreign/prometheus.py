"""Prometheus: what its API answers for `probe_success` and `probe_duration_seconds` of a blackbox exporter.

Best is an instant query over a range, `probe_success[2h]`, which gives each scrape with its own instant. A range query
gives the newest scrape at each step instead: a step finer than the scrapes repeats them, which is seen by durations
that are equal to the nanosecond, and repeats are not taken for probes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chaoslab.errors import RecordingError
from chaoslab.foreign import source
from chaoslab.foreign.probes import Gathering, Probe, Probes, judged
from chaoslab.foreign.source import Place
from chaoslab.wording import plural

_SUCCESS: Final = "probe_success"
_DURATION: Final = "probe_duration_seconds"
_STATUS: Final = "probe_http_status_code"
_KNOWN: Final = (_SUCCESS, _DURATION, _STATUS)

_Labels = frozenset[tuple[str, str]]
_Series = dict[float, float]


def from_api(paths: tuple[Path, ...], gathering: Gathering) -> Probes:
    """Yield the probes of one series; success and duration may lie in one file or in two.

    Raises:
        RecordingError: a file is no answer of the API with a matrix, a series is missing, or several are there.
    """
    series: dict[_Labels, dict[str, _Series]] = {}
    for path in paths:
        for metric, values in _matrix(path):
            labels = {name: str(value) for name, value in metric.items() if name != "__name__"}
            name = metric.get("__name__")
            if name in _KNOWN and gathering.wants(labels):
                mine = series.setdefault(frozenset(labels.items()), {}).setdefault(str(name), {})
                mine |= _points(Place(path), str(name), values)
    where = ", ".join(map(str, paths))
    if not series:
        raise gathering.nothing(where) if gathering.select else _lacking(where, (_SUCCESS, _DURATION))
    if len(series) > 1:
        shown = "; ".join(sorted(", ".join(f"{k}={v}" for k, v in sorted(one)) for one in series))
        raise RecordingError(f"{where}: holds {len(series)} series: {shown}; choose one, such as --select instance=URL")
    [(chosen, found)] = series.items()
    if missing := [name for name in (_SUCCESS, _DURATION) if name not in found]:
        raise _lacking(where, tuple(missing))
    gathering.met(dict(chosen).get("instance", ""))
    yield from _probes(Place(paths[0]), found, gathering)


def _lacking(where: str, names: tuple[str, ...]) -> RecordingError:
    return RecordingError(
        f"{where}: holds no series of {' or '.join(names)}; accepted: {_SUCCESS} and {_DURATION}, in one file or two"
    )


def _matrix(path: Path) -> list[tuple[Mapping[str, Any], list[Any]]]:
    answer = source.document(path)
    if answer.get("status") != "success":
        raise RecordingError(
            f"{path}: Prometheus answered {answer.get('status')!r}: {answer.get('error', 'no reason')}"
        )
    data = answer.get("data")
    kind = data.get("resultType") if isinstance(data, dict) else None
    if not isinstance(data, dict) or kind != "matrix" or not isinstance(data.get("result"), list):
        Place(path).refuse(
            "the result type", kind, "matrix, as query_range or a query over a range such as x[2h] gives"
        )
    found = []
    for entry in data["result"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("metric"), dict) or "values" not in entry:
            Place(path).refuse("a series", entry, "an object with metric and values")
        found.append((entry["metric"], entry["values"]))
    return found


def _points(place: Place, name: str, values: Any) -> _Series:
    points: _Series = {}
    for pair in values if isinstance(values, list) else [values]:
        if not isinstance(pair, list) or len(pair) != 2:
            place.refuse(f"a value of {name}", pair, "a pair of seconds and text")
        at = source.number(place, f"an instant of {name}", pair[0])
        points[at] = source.number(place, f"a value of {name}", pair[1])
    return points


def _probes(place: Place, found: Mapping[str, _Series], gathering: Gathering) -> Probes:
    successes, durations, statuses = (found.get(name, {}) for name in _KNOWN)
    last, repeated, alone = None, 0, len(successes.keys() ^ durations.keys())
    for at in sorted(successes.keys() & durations.keys()):
        seen = (successes[at], durations[at])
        if seen == last:
            repeated += 1
            continue
        last = seen
        if successes[at] not in (0.0, 1.0):
            place.refuse(f"a value of {_SUCCESS}", successes[at], "0 or 1")
        status = int(statuses[at]) if 100 <= statuses.get(at, 0) <= 599 else None
        yield Probe(
            source.instant_us(place, "an instant", at * 1e6),
            source.latency_us(place, _DURATION, durations[at] * 1e6),
            status,
            judged(status, not successes[at], ""),
        )
    if repeated:
        gathering.remarks[
            f"{plural(repeated, 'sample')} repeated the scrape before (the query's step is finer than the scrapes) and "
            "were left out; instants are those of the query, up to one scrape late."
        ] = None
    if alone:
        gathering.remarks[f"{plural(alone, 'sample')} had a success or a duration only, and were left out."] = None

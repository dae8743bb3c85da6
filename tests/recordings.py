"""One recording, written as each tool writes it: k6 and vegeta by their sources, JMeter as 2.13 does.

What lies in `tests/imports/` is by the tools themselves: JMeter 2.13, Locust 2.47, and Prometheus 2.42 with its
blackbox exporter 0.23. The scenario file there has what those of the script suite have.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
URL = "http://shop.test:8080/api/health"
SECRET = "hunter2-and-more"


@dataclass(frozen=True)
class Hit:
    """One request: when it was sent and how long it took, milliseconds; status 0 is a refused connection."""

    sent_ms: int
    took_ms: int
    status: int

    @property
    def good(self) -> bool:
        return self.status == 200


def hits(
    *, seconds: int = 30, down: tuple[float, float] = (10, 14), every_ms: int = 100, after_ms: int = 0
) -> list[Hit]:
    """Requests to a service that is down from one second to another: 503, and every fifth time nothing listens."""
    found = []
    for number, at in enumerate(range(0, seconds * 1000, every_ms)):
        failed = down[0] * 1000 <= at < down[1] * 1000
        status = (0 if number % 5 == 0 else 503) if failed else 200
        found.append(Hit(START_MS + after_ms + at, 2 if failed else 20 + number % 7, status))
    return found


def as_finished(found: list[Hit]) -> list[Hit]:
    """As tools write them: in the order in which they ended."""
    return sorted(found, key=lambda hit: hit.sent_ms + hit.took_ms)


def k6_json(found: list[Hit]) -> Iterator[str]:
    yield json.dumps({"type": "Metric", "data": {"type": "trend", "contains": "time"}, "metric": "http_req_duration"})
    for hit in found:
        tags = {"method": "GET", "status": str(hit.status), "url": URL, "expected_response": str(hit.good).lower()}
        if not hit.good:
            tags |= {"error_code": "1212" if hit.status == 0 else "1503", "error": "it failed"}
        for metric, value in (("http_reqs", 1), ("http_req_duration", hit.took_ms), ("http_req_waiting", 1)):
            data = {"time": _rfc3339(hit.sent_ms + hit.took_ms), "value": value, "tags": tags}
            yield json.dumps({"type": "Point", "data": data, "metric": metric})


def k6_csv(found: list[Hit]) -> Iterator[str]:
    named = "metric_name,timestamp,metric_value,check,error,error_code,expected_response"
    yield f"{named},group,method,name,status,url,extra_tags,metadata"
    for hit in found:
        code = "" if hit.good else "1212" if hit.status == 0 else "1503"
        rest = f",,{'' if hit.good else 'failed'},{code},{str(hit.good).lower()},,GET,{URL},{hit.status},{URL},,"
        stamp = f"{hit.sent_ms + hit.took_ms}000000"  # K6_CSV_TIME_FORMAT=unix_nano
        yield f"http_reqs,{stamp},1.000000{rest}"
        yield f"http_req_duration,{stamp},{hit.took_ms:.6f}{rest}"


def vegeta_json(found: list[Hit]) -> Iterator[str]:
    for seq, hit in enumerate(found):
        yield json.dumps(
            {
                "attack": "",
                "seq": seq,
                "code": hit.status,
                "timestamp": _rfc3339(hit.sent_ms),
                "latency": hit.took_ms * 1_000_000,
                "bytes_out": 0,
                "bytes_in": 2,
                "error": _words(hit),
                "body": None,
                "method": "GET",
                "url": URL,
                "headers": None,
            }
        )


def vegeta_csv(found: list[Hit]) -> Iterator[str]:
    body = base64.b64encode(b"ok").decode()
    for seq, hit in enumerate(found):
        error = f'"{_words(hit)}"'
        yield f"{hit.sent_ms}000000,{hit.status},{hit.took_ms}000000,0,2,{error},{body},,{seq},GET,{URL},"


def jmeter_csv(found: list[Hit]) -> Iterator[str]:
    yield "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,bytes,URL,Latency,Connect"
    for hit in found:
        code = hit.status or "Non HTTP response code: java.net.ConnectException"
        said = {200: "OK", 503: "Service Unavailable", 0: "Non HTTP response message: Connection refused"}[hit.status]
        good = str(hit.good).lower()
        yield f"{hit.sent_ms},{hit.took_ms},health,{code},{said},users 1-1,text,{good},2,{URL},1,0"


def jmeter_xml(found: list[Hit]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<testResults version="1.2">'
    for hit in found:
        code = hit.status or "Non HTTP response code: java.net.ConnectException"
        good = str(hit.good).lower()
        yield (
            f'<httpSample t="{hit.took_ms}" lt="1" ts="{hit.sent_ms}" s="{good}" lb="health" rc="{code}" rm="x"'
            f' tn="users 1-1" dt="text" by="2">\n  <httpSample t="1" ts="{hit.sent_ms}" s="true" lb="part"/>\n'
            f"  <java.net.URL>{URL}</java.net.URL>\n</httpSample>"
        )
    yield "</testResults>"


WRITERS: dict[str, Callable[[list[Hit]], Iterator[str]]] = {
    "k6-json": k6_json,
    "k6-csv": k6_csv,
    "vegeta-json": vegeta_json,
    "vegeta-csv": vegeta_csv,
    "jmeter-csv": jmeter_csv,
    "jmeter-xml": jmeter_xml,
}


def write(path: Path, format: str, found: list[Hit]) -> Path:
    """Write a recording as the tool of that format does."""
    path.write_text("\n".join(WRITERS[format](as_finished(found))) + "\n", encoding="utf-8")
    return path


def old_results(*, target: str = "http://localhost:8000") -> str:
    """The script suite's `chaos_results.json`."""
    results = [
        {
            "scenario_name": name,
            "scenario_type": kind,
            "intensity": "light",
            "duration": 30,
            "start_time": "2025-10-01T20:04:09.468558",
            "end_time": "2025-10-01T20:04:10.469848",
            "elapsed_time": 1.0012900829315186,
            "success": True,
            "error_message": None,
            "metrics": {},
        }
        for name, kind in (("Light CPU Stress", "cpu_exhaust"), ("Database Brief Outage", "database_down"))
    ]
    head = {"timestamp": "2025-10-01T20:05:52.526241", "target_url": target, "total_scenarios": 2}
    return json.dumps(head | {"successful": 2, "failed": 0, "results": results}, indent=2)


def old_validation() -> str:
    """The script suite's `resilience_validation.json`."""
    metrics = {"mttr": 41.4, "recovery_time": 60.097, "total_requests": 0, "availability_percent": 95.0}
    document = {"passed": True, "timestamp": "2025-10-01T20:10:01.486848", "slo_targets": {"mttr_seconds": 30}}
    return json.dumps(document | {"metrics": metrics, "violations": []}, indent=2)


def _rfc3339(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "000000Z")


def _words(hit: Hit) -> str:
    if hit.status == 0:
        return f"Get {URL}: dial tcp 127.0.0.1:8080: connect: connection refused"
    return "" if hit.good else "503 Service Unavailable"

"""Evidence of a network fault: how long requests take that really cross it.

    python -m chaoslab.agent.crossing URL [--to HOST:PORT]

prints {"rtt_ms", "requests", "failed"}: the median over requests on one kept connection, without the first, which pays
for the connection. `--to` connects elsewhere than the URL says, as the prober does when it is sent through a proxy. Any
answer counts, whatever its status: this looks at the way, not at the service. At most 3 s are spent.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import statistics
import sys
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

_REQUESTS = 6
_BUDGET_SECONDS = 3.0
_TIMEOUT_SECONDS = 5.0


def cross(url: str, to: tuple[str, int] | None = None) -> dict[str, float | int | None]:
    """Send a few requests one after another; return their median time in ms, None when none was answered."""
    parts = urlsplit(url)
    times: list[float] = []
    failed = 0
    started = time.monotonic()
    connection = _connection(url, to)
    try:
        for number in range(_REQUESTS + 1):
            if number > 1 and time.monotonic() - started > _BUDGET_SECONDS:
                break
            sent = time.monotonic()
            try:
                connection.request("GET", parts.path or "/", headers={"Host": parts.netloc.rpartition("@")[2]})
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                failed += 1
                connection.close()
                continue
            if number:
                times.append((time.monotonic() - sent) * 1000)
    finally:
        connection.close()
    rtt = statistics.median(times) if times else None
    return {"rtt_ms": rtt, "requests": len(times), "failed": failed}


def _connection(url: str, to: tuple[str, int] | None) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = to or (parts.hostname or "", parts.port or (443 if secure else 80))
    if not secure:
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    # Only time is measured, nothing is believed: the certificate is the prober's business.
    unchecked = ssl._create_unverified_context()
    return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=unchecked)


def main(argv: Sequence[str]) -> int:
    """Print the measurement; exit 0 when at least one request was answered."""
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.crossing")
    parser.add_argument("url")
    parser.add_argument("--to")
    options = parser.parse_args(argv)
    host, _, port = (options.to or "").rpartition(":")
    found = cross(options.url, (host, int(port)) if options.to else None)
    print(json.dumps(found))
    return 0 if found["requests"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

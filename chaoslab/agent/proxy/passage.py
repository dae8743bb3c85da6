"""What becomes of one real request that goes through the proxy."""

from __future__ import annotations

import http.client
import time
from typing import Any, Final
from urllib.parse import urlsplit

_LIMIT: Final = 1.0


def pass_through(url: str, to: tuple[str, int], *, method: str = "GET", limit: float = _LIMIT) -> dict[str, Any]:
    """Send one request for `url` to the address `to`; return {"outcome", "status", "ms"}.

    The outcome is "answered", "reset" (also: closed without an answer), or "unanswered" within `limit` seconds.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(*to, timeout=limit)
    sent, outcome, status = time.monotonic(), "answered", None
    try:
        connection.request(method, parts.path or "/", headers={"Host": parts.netloc.rpartition("@")[2]})
        status = connection.getresponse().status
    except TimeoutError:
        outcome = "unanswered"
    except (OSError, http.client.HTTPException):
        outcome = "reset"
    finally:
        connection.close()
    return {"outcome": outcome, "status": status, "ms": (time.monotonic() - sent) * 1000}

"""How toxics are set and cleared: one request, one answer, over a socket of the proxy's own.

The socket is abstract (unix(7)): it goes with the process, and only this user is answered.
"""

from __future__ import annotations

import json
import socket
from typing import Any, Final

_LIMIT: Final = 2.0


class NoAnswer(Exception):
    """The proxy is there, but does not answer."""


def address(token: str) -> str:
    """Return where the proxy of that token is asked."""
    return f"\0chaoslab-proxy-{token}"


def ask(token: str, **request: Any) -> dict[str, Any] | None:
    """Return the proxy's answer, or None when there is no such proxy.

    Raises:
        NoAnswer: it does not answer, or says that it cannot do it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(_LIMIT)
        try:
            control.connect(address(token))
        except ConnectionRefusedError:
            return None
        except OSError as error:
            raise NoAnswer(f"the proxy {token} does not answer: {error.strerror or error}") from error
        try:
            control.sendall(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(control.makefile().readline())
        except (OSError, ValueError) as error:
            raise NoAnswer(f"the proxy {token} does not answer: {error}") from error
    if "error" in answer:
        raise NoAnswer(answer["error"])
    return answer

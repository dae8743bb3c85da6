"""Evidence of a partition: whether a connection comes about.

    python -m chaoslab.agent.connection HOST PORT

prints {"connected", "problem"}, after at most a second. It exits 0 either way: both are answers.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence

_TIMEOUT_SECONDS = 1.0


def attempt(host: str, port: int) -> dict[str, bool | str]:
    """Try to connect; any address of a name will do."""
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS).close()
    except OSError as error:
        return {"connected": False, "problem": error.strerror or str(error)}
    return {"connected": True, "problem": ""}


def main(argv: Sequence[str]) -> int:
    """Print what came of it."""
    host, port = argv
    print(json.dumps(attempt(host, int(port))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The embedded target: a small real shop to break. A web service, its PostgreSQL, and a supervisor over both.

`/api/health` asks the database, `/api/orders` reads and writes it. Two builds of the service, *fragile* and
*resilient* (see `builds`), give a comparison something true to find. Everything listens on loopback or on a socket
inside the shop's folder, and nothing is left when the shop ends, however it ends.

    with launch(folder=Path("/tmp/my-shop"), build="fragile", token="my-shop") as shop:
        httpx.get(f"{shop.url}/api/health")
"""

from __future__ import annotations

from chaoslab.demo.builds import BUILDS, Build
from chaoslab.demo.commands import serve_command, stop_command
from chaoslab.demo.launcher import Launched, launch

__all__ = ["BUILDS", "Build", "Launched", "launch", "serve_command", "stop_command"]

"""TCP probes: a connection that opens is a success; it is closed at once, and nothing is sent."""

from __future__ import annotations

import socket

from chaoslab.instruments.addresses import Addresses, abandon
from chaoslab.instruments.transport import Ending, Errands, Finish, Probe
from chaoslab.looks import Look, host_and_port


class TcpTransport(Errands):
    """Opens a connection for each probe."""

    def __init__(self, look: Look, *, connections: int, finish: Finish) -> None:
        super().__init__(connections=connections, finish=finish)
        self._addresses = Addresses(*(look.connect_to or host_and_port(look.address)))

    async def run(self, probe: Probe) -> Ending:
        """Connect."""
        return None, await self._addresses.connect(_opened)


async def _opened(connected: socket.socket) -> None:
    # Reset, not closed in order: a thousand a second would else hold every port of this machine for a minute.
    abandon(connected)
    connected.close()

"""Evidence of a DNS failure: what a resolver answers, really asked.

    python -m chaoslab.agent.dns_query ADDRESS PORT

asks over UDP and over TCP for the root's name servers, once each, and prints {"asked", "answered", "refused"}. Any
answer counts, whatever it says; "refused" is what the network, or this machine, says in the resolver's place. At most a
second is waited for each. It exits 0 either way, for all are answers.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dns.message import Message

_TIMEOUT_SECONDS = 1.0


def ask(address: str, port: int) -> dict[str, int]:
    """Ask a resolver over UDP and TCP; return how often it was asked, answered and refused."""
    import dns.exception
    import dns.message

    fates: list[str] = []
    for send in (_by_udp, _by_tcp):
        fate = "lost"
        with suppress(dns.exception.DNSException, OSError):
            fate = _fate(send, dns.message.make_query(".", "NS"), address, port)
        fates.append(fate)
    return {"asked": len(fates), "answered": fates.count("answered"), "refused": fates.count("refused")}


def _fate(send: Callable[[Message, str, int], Message], query: Message, address: str, port: int) -> str:
    try:
        send(query, address, port)
    except (ConnectionRefusedError, PermissionError):  # the latter where this machine's own packet filter refuses
        return "refused"
    return "answered"


def _by_udp(query: Message, address: str, port: int) -> Message:
    import dns.query

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as connected:
        # Connected, so that it is told when the network refuses.
        connected.connect((address, port))
        connected.setblocking(False)
        return dns.query.udp(query, address, timeout=_TIMEOUT_SECONDS, port=port, sock=connected)


def _by_tcp(query: Message, address: str, port: int) -> Message:
    import dns.query

    return dns.query.tcp(query, address, timeout=_TIMEOUT_SECONDS, port=port)


def main(argv: Sequence[str]) -> int:
    """Print what came of it."""
    address, port = argv
    print(json.dumps(ask(address, int(port))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

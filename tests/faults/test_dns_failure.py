"""dns_failure, for real, in a network namespace of the test's own: a resolver that answered does not, and then does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chaoslab.agent.dns_query import ask
from chaoslab.faults import Mechanism
from chaoslab.faults.dns_failure import IptablesDns, NftDns
from tests.faults.kit import deliver, rules, scenario, surroundings


@contextmanager
def resolver(host: str = "127.0.0.1") -> Iterator[str]:
    """A resolver that answers every query, over UDP and TCP, with an empty answer."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.bind(tcp.getsockname())
        threads = [threading.Thread(target=serve, args=(each,)) for serve, each in ((over_tcp, tcp), (over_udp, udp))]
        for thread in threads:
            thread.start()
        port = tcp.getsockname()[1]
        try:
            yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        finally:
            tcp.shutdown(socket.SHUT_RDWR)
            udp.sendto(b"", udp.getsockname())
            for thread in threads:
                thread.join()


def over_udp(udp: socket.socket) -> None:
    while (received := udp.recvfrom(4096))[0]:
        udp.sendto(answer(received[0]), received[1])


def over_tcp(tcp: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = tcp.accept()
            with connection:
                found = answer(connection.recv(4096)[2:])
                connection.sendall(struct.pack("!H", len(found)) + found)


def answer(query: bytes) -> bytes:
    import dns.message

    return dns.message.make_response(dns.message.from_wire(query)).to_wire()


@pytest.mark.parametrize(
    ("mechanism", "mode", "words"),
    [
        (NftDns(), "drop", "unanswered"),
        (NftDns(), "refuse", "refused"),
        (IptablesDns(), "refuse", "refused"),
    ],
)
def test_queries_go_unanswered_or_are_refused_until_the_undo(
    namespace: None, mechanism: Mechanism, mode: str, words: str
) -> None:
    untouched = rules()
    with resolver() as address:
        asked = scenario("dns_failure", resolver=address, mode=mode)
        (dose,) = deliver(mechanism, asked, surroundings(), seconds=0.0)
        host, _, port = address.rpartition(":")
        assert ask(host, int(port))["answered"] == 2
    assert (dose.delivered, dose.ok, dose.quantity) == (100, True, f"DNS queries {words}")
    assert rules() == untouched


def test_a_resolver_at_an_ipv6_address_fails_too(namespace: None) -> None:
    with resolver("::1") as address:
        (dose,) = deliver(
            NftDns(), scenario("dns_failure", resolver=address, mode="refuse"), surroundings(), seconds=0.0
        )
    assert dose.ok


def test_a_resolver_that_does_not_answer_as_it_is_is_refused(namespace: None) -> None:
    untouched, mechanism = rules(), NftDns()
    obstacle = mechanism.obstacle(scenario("dns_failure", resolver="127.0.0.1:9"), surroundings())
    assert "answers 0 of 2 queries as it is" in str(obstacle)
    assert mechanism.obstacle(None, surroundings()) is None
    assert rules() == untouched

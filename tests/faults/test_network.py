"""network_latency and packet_loss through the proxy: what crosses is held back, and nothing else is changed."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chaoslab.agent import processes
from chaoslab.agent.crossing import cross
from chaoslab.agent.proxy.toxics import MOST_LOSSES, StreamToxic
from chaoslab.faults import Mechanism, Surroundings
from chaoslab.faults.through_proxy import EmulatedLoss, ProxyDelay
from chaoslab.journal import Journal
from chaoslab.undo import undo
from tests.faults.kit import HOST, deliver, do, scenario, surroundings
from tests.test_processes import until


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent, at once, over kept connections."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.answer(b"ok")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.wfile.write(head + body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def routed(mechanism: Mechanism, url: str) -> Iterator[Surroundings]:
    """Surroundings whose probes go through the mechanism's proxy, as the runner keeps it for a whole run."""
    where = replace(surroundings(), url=url, seed=7)
    route = mechanism.route(where, seconds=60, token=f"kit-{time.monotonic_ns()}")
    assert route is not None
    journal = Journal.create(route.step.token)
    journal.intend("kit", route.step)
    do(route.step)
    try:
        until(lambda: cross(url, route.connect_to)["requests"] != 0)
        yield replace(where, route=route)
    finally:
        undo(route.step, run="kit", journal=journal, host=HOST)
    assert not processes.family(route.step.token)


def through(where: Surroundings) -> float:
    """The round trip through the route's proxy, ms."""
    assert where.route is not None
    rtt = cross(where.url, where.route.connect_to)["rtt_ms"]
    assert rtt is not None
    return rtt


@pytest.mark.parametrize("delay_ms", [50, 200])
def test_the_delay_that_was_asked_is_measured_by_requests_that_cross_it(server: str, delay_ms: int) -> None:
    asked = scenario("network_latency", delay_ms=delay_ms)
    with routed(ProxyDelay(), server) as where:
        (dose,) = deliver(ProxyDelay(), asked, where, seconds=0.1)
        assert dose.delivered == pytest.approx(delay_ms, abs=2 + 0.05 * delay_ms)
        assert dose.ok
        assert through(where) < 20


def test_without_a_toxic_the_proxy_changes_neither_bytes_nor_their_order(server: str) -> None:
    body = bytes(range(256)) * 8192
    with routed(ProxyDelay(), server) as where:
        assert where.route is not None
        connection = http.client.HTTPConnection(*where.route.connect_to, timeout=10)
        for _ in range(3):
            connection.request("POST", "/", body=body)
            assert connection.getresponse().read() == body
        connection.close()


def test_a_target_that_is_gone_is_gone_through_the_proxy_too() -> None:
    with pytest.raises(AssertionError), routed(ProxyDelay(), "http://127.0.0.1:9"):
        pass


def test_emulated_loss_is_named_so_and_its_share_is_counted(server: str) -> None:
    mechanism, asked = EmulatedLoss(), scenario("packet_loss", loss_percent=30)
    with routed(mechanism, server) as where:
        assert where.route is not None
        stop = threading.Event()
        senders = [threading.Thread(target=keep_asking, args=(where.route.connect_to, stop)) for _ in range(8)]
        for sender in senders:
            sender.start()
        try:
            (dose,) = deliver(mechanism, asked, where, seconds=1.0)
        finally:
            stop.set()
            for sender in senders:
                sender.join()
    assert "emulated" in dose.mechanism
    assert "emulated" in dose.quantity
    assert dose.ok
    assert dose.delivered is not None
    assert dose.delivered > 0


def keep_asking(address: tuple[str, int], stop: threading.Event) -> None:
    connection = http.client.HTTPConnection(*address, timeout=30)
    while not stop.is_set():
        connection.request("GET", "/")
        connection.getresponse().read()
    connection.close()


def test_a_proxy_that_was_killed_is_no_obstacle_to_undoing_its_toxic(server: str) -> None:
    mechanism = ProxyDelay()
    with routed(mechanism, server) as where:
        assert where.route is not None
        asked = scenario("network_latency", delay_ms=50)
        (step,) = mechanism.inject(asked, where, seconds=5, token="t").steps
        journal = Journal.create("killed-proxy")
        journal.intend("kit", step)
        do(step)
        assert not processes.end_family(where.route.step.token)
        undo(step, run="kit", journal=journal, host=HOST)
        assert journal.open_steps() == []


class Dice(random.Random):
    """A generator that throws what it is told."""

    def __init__(self, *throws: float) -> None:
        super().__init__()
        self._throws = iter(throws)

    def random(self) -> float:
        return next(self._throws)


def test_a_lost_chunk_stalls_as_long_as_tcp_would_take_to_send_it_again() -> None:
    def losing(*throws: float) -> StreamToxic:
        toxic = StreamToxic(loss_percent=50)
        toxic.generator = Dice(*throws)
        return toxic

    assert losing(0.9).holds(towards_target=True) == 0.0
    assert losing(0.1).holds(towards_target=False) == 0.0
    assert losing(0.1, 0.9).holds(towards_target=True) == pytest.approx(0.2)
    assert losing(0.1, 0.1, 0.9).holds(towards_target=True) == pytest.approx(0.2 + 0.4)
    assert losing(0.1, 0.9).opens() == pytest.approx(1.0)
    assert losing(*[0.1] * MOST_LOSSES).holds(towards_target=True) == pytest.approx(0.2 * (2**MOST_LOSSES - 1))


def test_equal_seeds_lose_the_same_chunks() -> None:
    def losses(seed: int) -> list[bool]:
        toxic = StreamToxic(loss_percent=30, seed=seed)
        return [toxic.holds(towards_target=True) > 0 for _ in range(50)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)

"""The proxy by itself: with no toxic nobody can tell that it is there; toxics act on what passes, each by its name."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxied import PATIENCE, Way, proxied, receive, silent
from tests.test_processes import until

MEGABYTE = 1024**2


@pytest.fixture
def way() -> Iterator[Way]:
    with proxied() as way:
        yield way


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def gone(connection: socket.socket) -> bool:
    """Whether the connection was reset."""
    try:
        connection.recv(1)
    except ConnectionResetError:
        return True
    return False


def sending(connection: socket.socket, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=connection.sendall, args=(data,))
    thread.start()
    return thread


def fill(connection: socket.socket) -> int:
    """Send until nothing goes any more; return how many bytes went."""
    sent, connection_timeout = 0, connection.gettimeout()
    connection.settimeout(0.3)
    try:
        while sent < 400 * MEGABYTE:
            sent += connection.send(bytes(MEGABYTE))
    except TimeoutError:
        pass
    finally:
        connection.settimeout(connection_timeout)
    return sent


def test_bytes_pass_both_ways_at_the_same_time_unchanged_and_in_order(way: Way) -> None:
    client, target = way.connect()
    there, back = random.Random(1).randbytes(8 * MEGABYTE), random.Random(2).randbytes(8 * MEGABYTE)
    threads = [sending(client, there), sending(target, back)]
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(receive(client, len(back))))
    reader.start()
    assert receive(target, len(there)) == there
    for thread in (*threads, reader):
        thread.join(PATIENCE)
    assert found == [back]


def test_a_side_that_has_said_everything_can_still_be_answered(way: Way) -> None:
    client, target = way.connect()
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert receive(target, 100) == b"question"
    target.sendall(b"answer")
    target.shutdown(socket.SHUT_WR)
    assert receive(client, 100) == b"answer"


def test_a_target_that_resets_is_seen_to_reset(way: Way) -> None:
    client, target = way.connect()
    reset(target)
    assert gone(client)


def test_a_client_that_resets_is_seen_to_reset(way: Way) -> None:
    client, target = way.connect()
    reset(client)
    assert gone(target)


def test_an_answer_sent_before_the_target_closed_arrives_though_the_client_still_sends(way: Way) -> None:
    client, target = way.connect()
    target.sendall(b"too large")
    target.close()
    client.sendall(b"more")
    assert receive(client, 9) == b"too large"


def test_who_does_not_read_stops_who_sends_and_the_proxy_keeps_little(way: Way) -> None:
    client, target = way.connect()
    before = way.resident_bytes()
    sent = fill(client)
    assert sent < 100 * MEGABYTE
    assert way.resident_bytes() - before < 4 * MEGABYTE
    assert len(receive(target, sent)) == sent
    back = fill(target)
    assert way.resident_bytes() - before < 4 * MEGABYTE
    assert len(receive(client, back)) == back


def test_many_connections_are_kept_apart(way: Way) -> None:
    clients = [way.client() for _ in range(300)]
    for number, client in enumerate(clients):
        client.sendall(b"%06d" % number)
    targets = {receive(target, 6): target for target in (way.target() for _ in clients)}
    for name, target in targets.items():
        target.sendall(name)
    assert [int(receive(client, 6)) for client in clients] == list(range(300))


def test_several_toxics_stand_at_once_and_clearing_one_leaves_the_others(way: Way) -> None:
    way.set("slow", "stream", "--delay-ms", "600")
    way.set("slower", "stream", "--delay-ms", "150")
    client, target = way.connect()

    def crossing() -> float:
        sent = time.monotonic()
        client.sendall(b"x")
        receive(target, 1)
        return time.monotonic() - sent

    assert crossing() >= 0.75
    way.clear("slow")
    assert 0.15 <= crossing() < 0.75
    stats = way.stats("slower")
    assert (stats["standing"], stats["chunks"]) == (["slower"], 3)  # the connection's own, and two


def test_what_a_toxic_holds_back_goes_on_once_it_is_cleared(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "stream", "--delay-ms", "60000")
    client.sendall(b"held")
    client.shutdown(socket.SHUT_WR)
    assert silent(target)
    way.clear("t")
    assert receive(target, 100) == b"held"


def test_with_jitter_chunks_vary_but_keep_their_order(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "stream", "--delay-ms", "20", "--jitter-ms", "20", "--seed", "1")
    for number in range(20):
        client.sendall(b"%02d" % number)
        time.sleep(0.002)  # each a chunk of its own
    assert receive(target, 40) == b"".join(b"%02d" % number for number in range(20))


def test_a_pace_bounds_either_direction(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "stream", "--bytes-per-second", "1000000")
    for sender, receiver in ((client, target), (target, client)):
        started = time.monotonic()
        thread = sending(sender, bytes(300_000))
        assert len(receive(receiver, 300_000)) == 300_000
        thread.join(PATIENCE)
        assert time.monotonic() - started >= 0.29
    stats = way.stats("t")
    assert 540_000 <= stats["paced_bytes"] <= 600_000  # what comes late by itself is not held back
    assert stats["paced_bytes"] / stats["paced_seconds"] == pytest.approx(1e6, rel=0.2)


def test_a_black_hole_accepts_and_never_answers_until_it_is_gone(way: Way) -> None:
    client, target = way.connect()
    way.set("hole", "stream", "--black-hole")
    client.sendall(b"anyone there?")
    target.sendall(b"can you hear me?")
    new = way.client()
    new.sendall(b"hello")
    assert silent(client)
    assert silent(target)
    assert silent(new)
    stats = way.stats("hole")
    assert (stats["connections"], stats["chunks"]) == (1, 2)
    way.clear("hole")
    assert receive(target, 13) == b"anyone there?"
    assert receive(client, 16) == b"can you hear me?"
    assert receive(way.target(), 5) == b"hello"


def test_who_gave_up_before_a_black_hole_went_does_not_bother_the_target(way: Way) -> None:
    way.set("hole", "stream", "--black-hole")
    early, late = way.client(), way.client()
    until(lambda: way.stats("hole")["connections"] == 2)
    early.close()
    late.sendall(b"still here")
    way.clear("hole")
    assert receive(way.target(), 10) == b"still here"


def test_a_killed_proxy_is_no_obstacle_to_clearing_but_has_no_stats(way: Way) -> None:
    way.process.kill()
    way.process.wait()
    way.clear("t")
    with pytest.raises(AssertionError, match="there is no proxy"):
        way.stats("t")


def test_a_proxy_that_does_not_answer_cannot_be_said_to_be_cleared(way: Way) -> None:
    way.process.send_signal(19)
    with pytest.raises(AssertionError, match="does not answer"):
        way.clear("t")


def test_its_commands_start_with_the_standard_library_alone() -> None:
    known = "set(sys.stdlib_module_names) | {'chaoslab', '__main__', 'sitecustomize'}"
    code = (
        "import sys; before = set(sys.modules); import chaoslab.agent.proxy.command, chaoslab.agent.proxy.server; "
        f"print(sorted({{module.partition('.')[0] for module in set(sys.modules) - before}} - ({known})))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"

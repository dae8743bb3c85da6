"""The proxy follows requests: each that is hit gets what was asked, the others pass, and the order stays."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from chaoslab.agent.proxy.messages import NotHttp, RequestMessage, ResponseMessage
from chaoslab.agent.proxy.toxics import Request, RequestToxic
from tests.faults.proxied import Way, answer, exchange, get, ok, proxied, receive, silent
from tests.test_processes import until

CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\nbc\r\n3\r\ndef\r\n0\r\n\r\n"


@pytest.fixture
def way() -> Iterator[Way]:
    with proxied() as way:
        yield way


def refused(client: socket.socket, request: bytes) -> int:
    client.sendall(request)
    return answer(client, request.partition(b" ")[0].decode())[0]


def test_a_request_that_is_hit_is_answered_in_the_targets_place_and_the_connection_is_kept(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--path", "/api/*", "--status", "503")
    assert refused(client, get("/api/orders?page=2")) == 503
    assert exchange(client, target, get("/other")) == get("/other")
    assert refused(client, get("/api/x", method="HEAD")) == 503
    exchange(client, target, get("/other"))
    stats = way.stats("t")
    assert (stats["matched"], stats["hit"]) == (2, 2)


def test_pipelined_requests_are_answered_in_their_order(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--path", "/bad", "--status", "500")
    client.sendall(get("/1") + get("/bad") + get("/2"))
    assert receive(target, len(get("/1"))) == get("/1")
    assert silent(client)
    target.sendall(ok(b"one"))
    assert [answer(client)[0] for _ in range(2)] == [200, 500]
    assert receive(target, len(get("/2"))) == get("/2")
    target.sendall(ok(b"two"))
    assert answer(client) == (200, b"two")


def test_the_connection_that_was_open_before_is_hit_from_its_next_request_on(way: Way) -> None:
    client, target = way.connect()
    exchange(client, target, get("/before"))
    way.set("t", "requests", "--status", "429")
    assert refused(client, get()) == 429
    way.clear("t")
    exchange(client, target, get("/after"))
    way.set("t", "requests", "--status", "502")
    assert refused(client, get()) == 502


def test_a_request_that_is_under_way_when_a_toxic_comes_is_not_touched(way: Way) -> None:
    client, target = way.connect()
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n" + get("/bad")[:20] + b"." * 20
    client.sendall(request[:-30])
    assert receive(target, len(request) - 30) == request[:-30]
    way.set("t", "requests", "--status", "503")
    exchange(client, target, request[-30:])
    assert refused(client, get()) == 503


@pytest.mark.parametrize(
    "reply",
    [
        ok(b"\n" * 100_000),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok(),
    ],
    ids=["sized", "chunked", "no content", "not modified", "early hints"],
)
def test_answers_pass_untouched_and_the_next_request_is_found_behind_them(way: Way, reply: bytes) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--path", "/bad", "--status", "503")
    exchange(client, target, CHUNKED, reply)
    assert refused(client, get("/bad")) == 503
    exchange(client, target, get("/"))


def test_an_answer_to_head_has_no_body_whatever_its_length_says(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--path", "/bad", "--status", "503")
    exchange(client, target, get(method="HEAD"), b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    assert refused(client, get("/bad")) == 503


def test_an_answer_without_a_length_lasts_until_the_target_closes(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--path", "/bad", "--status", "503")
    client.sendall(get())
    receive(target, len(get()))
    target.sendall(b"HTTP/1.1 200 OK\r\n\r\nsome\n")
    target.sendall(b"text")
    target.close()
    assert receive(client, 1000).endswith(b"some\ntext")


def test_the_body_of_a_request_that_is_answered_never_reaches_the_target(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--method", "POST", "--status", "503")
    assert refused(client, CHUNKED) == 503
    sized = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    assert refused(client, sized) == 503
    client.sendall(b"0123456789")
    assert exchange(client, target, get("/next")) == get("/next")


def test_who_waits_before_sending_a_body_is_refused_and_the_connection_closed(way: Way) -> None:
    client, _target = way.connect()
    way.set("t", "requests", "--status", "503")
    assert refused(client, get("/", "Expect: 100-continue", "Content-Length: 5", method="PUT")) == 503
    assert client.recv(1) == b""


def test_a_request_that_is_hit_can_be_reset(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--reset")
    client.sendall(get())
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionResetError):
        target.recv(1)


def test_a_request_that_hangs_is_never_answered_and_reset_when_the_toxic_goes(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--hang")
    client.sendall(get())
    target.close()
    assert silent(client)
    way.clear("t")
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_only_requests_that_match_are_delayed_and_the_wait_is_measured(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--path", "/slow", "--delay-ms", "200")
    started = time.monotonic()
    exchange(client, target, get("/slow"))
    assert time.monotonic() - started >= 0.2
    exchange(client, target, get("/fast"))
    stats = way.stats("t")
    assert (stats["matched"], stats["held"]) == (1, 1)
    assert 0.2 <= stats["held_seconds"] < 2


def test_clearing_lets_a_delayed_request_go_on_at_once(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--delay-ms", "60000", "--status", "503")
    client.sendall(get())
    until(lambda: way.stats("t")["hit"] == 1)
    way.clear("t")
    assert receive(target, len(get())) == get()


def test_a_request_and_its_answer_go_at_the_pace_that_was_asked(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--path", "/slow", "--bytes-per-second", "100000")
    started = time.monotonic()
    exchange(client, target, get("/slow"), ok(bytes(30_000)))
    assert time.monotonic() - started >= 0.29
    stats = way.stats("t")
    assert stats["paced_bytes"] > 30_000
    assert stats["paced_bytes"] / stats["paced_seconds"] <= 105_000


def test_toxics_of_both_kinds_act_together_and_go_one_by_one(way: Way) -> None:
    client, target = way.connect()
    way.set("slow", "stream", "--delay-ms", "100")
    way.set("bad", "requests", "--path", "/bad", "--status", "503")
    way.set("worse", "requests", "--status", "500")
    assert refused(client, get("/bad")) == 503
    assert refused(client, get("/")) == 500
    way.clear("worse")
    started = time.monotonic()
    exchange(client, target, get("/"))
    assert time.monotonic() - started >= 0.1
    assert set(way.stats("bad")["standing"]) == {"slow", "bad"}


@pytest.mark.parametrize(
    "data",
    [
        get("/chat", "Connection: Upgrade", "Upgrade: websocket"),
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x00\x00\x00\x08\x04\xd2\x16/",
        b"hello\nworld\n",
    ],
    ids=["upgrade", "connect", "tls", "postgresql", "text"],
)
def test_what_is_no_http_passes_as_it_is(way: Way, data: bytes) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--status", "503")
    assert exchange(client, target, data, b"\x00any\xffthing") == data
    assert exchange(client, target, get(), b"\r\n") == get()
    assert way.stats("t")["unfollowed"] == 1


def test_a_head_that_comes_in_pieces_is_one_head(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--header", "X-Tenant: a*", "--status", "503")
    for byte in get("/", "X-Tenant: acme"):
        client.sendall(bytes([byte]))
    assert answer(client)[0] == 503
    assert exchange(client, target, get("/", "X-Tenant: other"))


def test_a_client_that_stops_in_the_middle_of_a_head_is_handed_on(way: Way) -> None:
    client, target = way.connect()
    way.set("t", "requests", "--status", "503")
    client.sendall(b"GET / HT")
    client.shutdown(socket.SHUT_WR)
    assert receive(target, 100) == b"GET / HT"


def test_equal_seeds_hit_the_same_requests_and_the_share_is_what_was_asked() -> None:
    def hits(seed: int) -> list[bool]:
        toxic = RequestToxic(percent=30, seed=seed)
        return [toxic.strikes(Request("GET", "/", {})) for _ in range(1000)]

    assert hits(1) == hits(1)
    assert hits(1) != hits(2)
    assert 240 < sum(hits(1)) < 360


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_messages_end_where_they_end_however_they_are_cut(size: int) -> None:
    stream = CHUNKED + get("/b") + b"PUT /c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    message, ends, at = RequestMessage(), [], 0
    while at < len(stream):
        at += message.take(stream[at : at + size])
        if message.complete:
            ends.append(at)
            message = RequestMessage()
    assert ends == [len(CHUNKED), len(CHUNKED) + len(get("/b")), len(stream)]


def test_a_head_without_end_is_not_followed() -> None:
    head = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000
    with pytest.raises(NotHttp):
        RequestMessage().take(head)


def test_an_answer_that_changes_the_protocol_is_not_followed() -> None:
    with pytest.raises(NotHttp):
        ResponseMessage("GET").take(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")

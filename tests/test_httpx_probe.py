"""Probes by httpx see what the lean ones cannot ask for, name it alike, and keep to themselves what they were given."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from chaoslab.errors import UsageError
from chaoslab.instruments import probe
from chaoslab.instruments.httpx_probe import keep_home, request_of
from chaoslab.instruments.probe import Prober
from chaoslab.looks import Look, Success
from chaoslab.records import ErrorKind
from chaoslab.tls import Tls
from tests import forward_proxy, servers, web
from tests.conftest import require
from tests.servers import Service
from tests.test_probe import UNSENDABLE, probed, rows, spec
from tests.test_processes import until

CREDENTIALS = "me:pr0xy-secret"
DIGEST = (web.USER, web.PASSWORD)
GONE = "http://127.0.0.1:1/"


class Servers(NamedTuple):
    """`plain` and `secure` speak HTTP/1.1 and HTTP/2, `choosy` asks for a certificate, `old` knows no HTTP/2."""

    plain: Service
    secure: Service
    choosy: Service
    old: Service
    proxy: Service
    guarded: Service  # a proxy, too, behind TLS
    certificate: str

    @property
    def tls(self) -> Tls:
        return Tls(ca_file=self.certificate)

    def way(self, credentials: str = CREDENTIALS) -> str:
        return f"http://{credentials}@127.0.0.1:{self.proxy.port}"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    require("openssl", "install the package openssl")
    file = str(tmp_path_factory.mktemp("tls") / "both.pem")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, "-keyout", file]
    subprocess.run([*argv, "-out", f"{file}.crt"], check=True, capture_output=True)
    with Path(file).open("a") as both:
        both.write(Path(f"{file}.crt").read_text())
    with (
        web.serving() as plain,
        web.serving(certificate=file) as secure,
        web.serving(certificate=file, clients=file) as choosy,
        servers.running(certificate=file) as old,
        forward_proxy.forwarding(credentials=CREDENTIALS) as proxy,
        forward_proxy.forwarding(certificate=file) as guarded,
    ):
        yield Servers(plain, secure, choosy, old, proxy, guarded, file)


def there_is(service: Service) -> tuple[str, int]:
    return "127.0.0.1", service.port


def asked(folder: Path, looks: dict[str, dict[str, Any]]) -> dict[str, tuple[set[Any], set[Any]]]:
    """Return the statuses and the error kinds of each look, all taken by one prober beside a health check."""
    beside = [Look(name=name, rate_hz=10.0, timeout_s=30.0, **fields) for name, fields in looks.items()]
    summary, table = probed(folder, GONE, 15 * (len(beside) + 1), *beside, rate_hz=10.0)
    assert summary.unsent == 0
    assert summary.recorded == summary.scheduled
    found = table.groupby("probe", observed=True)
    return {
        str(name): (set(group["status"].dropna()), set(group["error"].dropna()))
        for name, group in found
        if name != "health"
    }


def test_answers_are_judged_at_the_end_of_the_way(there: Servers, tmp_path: Path) -> None:
    plain, follow = there.plain.url, {"follow_redirects": True}
    holds = {"success": Success(contains="ok")}
    found = asked(
        tmp_path,
        {
            "redirects": {"address": plain("/hop/3"), **follow, **holds},
            "none needed": {"address": plain("/ok"), **follow, "method": "HEAD"},
            "an endless way": {"address": plain("/loop"), **follow},
            "more than ten": {"address": plain("/hop/11"), **follow},
            "exactly ten": {"address": plain("/hop/10"), **follow},
            "a cookie on the way": {"address": plain("/session"), **follow},
            "a failure at its end": {"address": plain(f"/away?{plain('/status/503')}"), **follow},
            "a refusal at its end": {"address": plain(f"/away?{GONE}"), **follow},
            "out of HTTP": {"address": plain("/away?ftp://127.0.0.1/"), **follow},
            "to web sockets": {"address": plain("/away?ws://127.0.0.1/"), **follow},
            "to no URL": {"address": plain("/away?http://127.0.0.1:port/"), **follow},
            "not followed": {"address": plain("/hop/3"), "digest": DIGEST},
            "another body": {"address": plain("/ok"), **follow, "success": Success(contains="fine")},
            "no route": {"address": UNSENDABLE, **follow},
            "no name": {"address": "http://nowhere.invalid/", **follow},
        },
    )
    assert found == {
        "redirects": ({200}, set()),
        "none needed": ({200}, set()),
        "an endless way": ({302}, {ErrorKind.STATUS}),
        "more than ten": ({302}, {ErrorKind.STATUS}),
        "exactly ten": ({200}, set()),
        "a cookie on the way": ({200}, set()),
        "a failure at its end": ({503}, {ErrorKind.STATUS}),
        "a refusal at its end": (set(), {ErrorKind.REFUSED}),
        "out of HTTP": (set(), {ErrorKind.PROTOCOL}),
        "to web sockets": (set(), {ErrorKind.PROTOCOL}),
        "to no URL": (set(), {ErrorKind.PROTOCOL}),
        "not followed": ({302}, set()),
        "another body": ({200}, {ErrorKind.BODY}),
        "no route": (set(), {ErrorKind.UNREACHABLE}),
        "no name": (set(), {ErrorKind.UNREACHABLE}),
    }


def test_http_2_and_who_is_trusted(there: Servers, tmp_path: Path) -> None:
    secure, tls = there.secure.url, there.tls
    shown = Tls(ca_file=there.certificate, certificate=there.certificate)
    found = asked(
        tmp_path,
        {
            "prior knowledge": {"address": there.plain.url("/ok"), "http2": True},
            "round about": {"address": "http://shop.test:81/ok", "connect_to": there_is(there.plain), "http2": True},
            "over TLS": {"address": secure("/ok"), "http2": True, "tls": tls},
            "new connections": {"address": secure("/ok"), "http2": True, "tls": tls, "fresh": True},
            "HEAD": {"address": secure("/ok"), "http2": True, "tls": tls, "method": "HEAD"},
            "a server that has none": {"address": there.old.url("/ok"), "http2": True, "tls": tls},
            "nobody vouches": {"address": secure("/ok"), "http2": True},
            "nobody need vouch": {"address": secure("/ok"), "http2": True, "tls": Tls(verify=False)},
            "lean": {"address": secure("/ok"), "tls": tls},
            "redirected round about": {
                "address": "http://shop.test:81/hop/2",
                "connect_to": there_is(there.plain),
                "follow_redirects": True,
            },
            "lean, nobody need vouch": {"address": secure("/ok"), "tls": Tls(verify=False)},
            "lean, shown": {"address": there.choosy.url("/ok"), "tls": shown},
            "shown": {"address": there.choosy.url("/ok"), "tls": shown, "follow_redirects": True},
            "not shown": {"address": there.choosy.url("/ok"), "tls": tls, "follow_redirects": True},
        },
    )
    # The handshake of TLS 1.3 is over for us before the server looks for our certificate.
    assert found.pop("not shown")[1] <= {ErrorKind.TLS, ErrorKind.RESET}
    assert found.pop("nobody vouches") == (set(), {ErrorKind.TLS})
    assert found.pop("a server that has none")[1] <= {ErrorKind.PROTOCOL, ErrorKind.RESET}
    assert [name for name, ending in found.items() if ending != ({200}, set())] == []
    assert httpx.get(secure("/seen"), verify=tls.context()).json()["versions"] == ["1.1", "2"]


def test_digests_and_proxies(there: Servers, tmp_path: Path) -> None:
    plain, secure, way, tls = there.plain.url, there.secure.url, there.way(), there.tls
    found = asked(
        tmp_path,
        {
            "digest": {"address": plain("/digest/SHA-256"), "digest": DIGEST},
            "digest, MD5": {"address": plain("/digest/MD5"), "digest": DIGEST, "method": "POST", "body": "x"},
            "digest, wrong": {"address": plain("/digest/SHA-256"), "digest": (web.USER, "wr0ng-secret")},
            "digest, unknown": {"address": plain("/digest/odd"), "digest": DIGEST},
            "proxy": {"address": plain("/ok"), "proxy": way},
            "proxy, TLS": {"address": secure("/ok"), "proxy": way, "tls": tls},
            "proxy, HTTP 2": {"address": secure("/ok"), "proxy": way, "tls": tls, "http2": True},
            "proxy behind TLS": {"address": plain("/ok"), "proxy": there.guarded.url(""), "tls": tls},
            "TLS in TLS": {"address": secure("/ok"), "proxy": there.guarded.url(""), "tls": tls, "http2": True},
            "proxy, wrong": {"address": plain("/ok"), "proxy": there.way("me:wr0ng-secret")},
            "proxy, TLS, wrong": {"address": secure("/ok"), "proxy": there.way("me:wr0ng-secret"), "tls": tls},
            "proxy, gone": {"address": plain("/ok"), "proxy": GONE},
        },
    )
    good = ({200}, set[str]())
    assert found == {
        "digest": good,
        "digest, MD5": good,
        "digest, wrong": ({401}, {ErrorKind.STATUS}),
        "digest, unknown": (set(), {ErrorKind.PROTOCOL}),
        "proxy": good,
        "proxy, TLS": good,
        "proxy, HTTP 2": good,
        "proxy behind TLS": good,
        "TLS in TLS": good,
        "proxy, wrong": ({407}, {ErrorKind.STATUS}),
        "proxy, TLS, wrong": (set(), {ErrorKind.STATUS}),
        "proxy, gone": (set(), {ErrorKind.REFUSED}),
    }
    assert there.proxy.seen()["asked"] == [f"CONNECT 127.0.0.1:{there.secure.port}", f"GET {plain('/ok')}"]
    secret = [b"secret", CREDENTIALS.encode()]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in files for one in secret if one in file.read_bytes()]


def test_what_the_environment_says_of_proxies_is_not_asked(
    there: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, GONE)
    _, table = probed(tmp_path, there.plain.url("/ok"), 4, rate_hz=20.0, follow_redirects=True, timeout_s=30.0)
    assert table["error"].isna().all()
    assert probe.check(Look(address=there.plain.url("/ok"), follow_redirects=True)).ok


@pytest.mark.parametrize("features", [{"http2": True}, {"follow_redirects": True}])
def test_the_request_is_the_one_that_was_asked_for(features: Any, tmp_path: Path) -> None:
    headers = (("X-Shop", "fr0m-header"), ("User-Agent", "me"))
    with web.serving() as plain:
        url = plain.url("/ok").replace("//", "//me:s%40cret@")
        changes = {"method": "POST", "headers": headers, "body": '{"name": "käse"}', "timeout_s": 30.0}
        summary, _ = probed(tmp_path, url, 8, rate_hz=20.0, **changes, **features)
        seen = plain.seen()
    assert summary.failures == 0
    sent = {name: seen["headers"].get(name) for name in ("x-shop", "user-agent", "authorization", "cookie")}
    assert sent == {
        "x-shop": "fr0m-header",
        "user-agent": "me",
        "authorization": "Basic bWU6c0BjcmV0",
        "cookie": None,
    }
    assert (seen["method"], seen["body"]) == ("POST", '{"name": "käse"}')


@pytest.mark.parametrize(
    ("features", "accepted"),
    [
        ({"http2": True}, range(1, 11)),
        ({"follow_redirects": True}, range(1, 11)),
        ({"http2": True, "fresh": True}, range(20, 1000)),
        ({"follow_redirects": True, "fresh": True}, range(20, 1000)),
    ],
)
def test_connections_are_kept_or_not(features: Any, accepted: range, tmp_path: Path) -> None:
    with web.serving() as plain:
        summary, _ = probed(tmp_path, plain.url("/ok"), 20, rate_hz=20.0, timeout_s=30.0, **features)
        clients = len(plain.seen()["clients"])
    assert summary.failures == 0
    assert clients in accepted
    assert clients == summary.scheduled or "fresh" not in features


@pytest.mark.parametrize("features", [{"http2": True}, {"follow_redirects": True}])
def test_a_target_that_freezes_thaws_and_dies_is_seen_to(features: Any, tmp_path: Path) -> None:
    with web.serving() as victim:
        wanted = spec(tmp_path, victim.url("/ok"), rate_hz=40.0, timeout_s=0.4, **features)
        with Prober.start(wanted) as prober:
            prober.wait_ready()

            def probes(count: int) -> int:
                begun = prober.live.scheduled if prober.live else 0
                until(lambda: prober.live is not None and prober.live.scheduled >= begun + count)
                return (time.monotonic_ns() - wanted.anchor_ns) // 1000

            until(lambda: prober.live is not None and prober.live.successes_1s >= 10)
            frozen_us = probes(1)
            victim.freeze()
            thawed_us = probes(40)
            victim.thaw()
            until(lambda: prober.live is not None and prober.live.failing_since_us is None)
            until(lambda: prober.live is not None and prober.live.failures_1s == 0)
            dead_us = probes(1)
            victim.kill()
            probes(20)
            summary = prober.stop()
    table = rows(tmp_path)
    frozen = table[table["scheduled_us"].between(frozen_us + 100_000, thawed_us - 500_000)]
    assert len(frozen) >= 10
    assert set(frozen["error"]) == {ErrorKind.TIMEOUT}
    assert (frozen["latency_us"] - frozen["sent_us"] >= 400_000).all()
    assert set(table.loc[table["scheduled_us"] > dead_us + 300_000, "error"]) == {ErrorKind.REFUSED}
    assert summary.unsent == 0
    assert list(table["seq"]) == list(range(summary.scheduled))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2: RFC 9113, section 4.1."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


HEADERS, SETTINGS, GOAWAY, ENDS = 1, 4, 7, 5
GOOD = b"\x88"  # :status 200 (RFC 7541, appendix A)


def leave_in_good_order(listening: socket.socket, pieces: int) -> None:
    """Answer one request on each connection, after a GOAWAY, in as many pieces."""
    with contextlib.suppress(OSError):
        while True:
            with listening.accept()[0] as near, near.makefile("rb") as received:
                near.sendall(frame(SETTINGS, 0, 0))
                received.read(24)  # the preface
                kind, stream = 0, 0
                while kind != HEADERS:
                    head = received.read(9)
                    kind, stream = head[3], int.from_bytes(head[5:])
                    received.read(int.from_bytes(head[:3]))
                answer = frame(GOAWAY, 0, 0, stream.to_bytes(4) + bytes(4)) + frame(HEADERS, ENDS, stream, GOOD)
                step = -(-len(answer) // pieces)
                for at in range(0, len(answer), step):
                    near.sendall(answer[at : at + step])
                    time.sleep(0.002)


@pytest.mark.parametrize("pieces", [1, 2, 35])
def test_what_a_server_answers_after_it_has_said_that_it_leaves_is_heard(pieces: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=leave_in_good_order, args=(listening, pieces), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        _, table = probed(tmp_path, url, 8, rate_hz=10.0, http2=True, timeout_s=30.0)
        listening.shutdown(socket.SHUT_RDWR)
    assert table["error"].isna().all()
    assert set(table["status"]) == {200}


class Relay:
    """What lies between: `swallow` has it keep all connections that there are open, and take nothing further."""

    def __init__(self, listening: socket.socket, port: int) -> None:
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/ok"
        self._listening, self._there = listening, port
        self._generation = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def swallow(self) -> None:
        self._generation += 1

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._there))
                for source, drain in ((near, far), (far, near)):
                    threading.Thread(target=self._pour, args=(source, drain, self._generation), daemon=True).start()

    def _pour(self, source: socket.socket, drain: socket.socket, generation: int) -> None:
        with contextlib.suppress(OSError), source:
            while data := source.recv(65536):
                if generation == self._generation:
                    drain.sendall(data)
            drain.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("features", [{"http2": True}, {"follow_redirects": True}])
def test_a_connection_that_dies_without_a_word_costs_one_time_out(
    features: Any, there: Servers, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as held:
        relay = Relay(held.enter_context(socket.create_server(("127.0.0.1", 0))), there.plain.port)
        wanted = spec(tmp_path, relay.url, rate_hz=20.0, timeout_s=2.0, **features)
        prober = held.enter_context(Prober.start(wanted))
        prober.wait_ready()
        until(lambda: prober.live is not None and prober.live.successes_1s >= 5)
        relay.swallow()
        until(lambda: prober.live is not None and prober.live.failures_1s > 0)
        until(lambda: prober.live is not None and prober.live.failing_since_us is None)
        prober.stop()
    table = rows(tmp_path)
    failed = table[table["error"].notna()]
    assert set(failed["error"]) == {ErrorKind.TIMEOUT}
    # Those that were sent before the first of them went unanswered for as long as it may, and no others.
    assert failed["scheduled_us"].max() - failed["scheduled_us"].min() < 2_500_000
    assert table["error"].iloc[-3:].isna().all()


def test_a_pool_has_its_bound(there: Servers, tmp_path: Path) -> None:
    url = there.plain.url("/hang")
    summary, table = probed(tmp_path, url, 20, rate_hz=50.0, limit=3, timeout_s=1.0, follow_redirects=True)
    assert set(table["error"]) == {ErrorKind.UNSENT, ErrorKind.TIMEOUT}
    assert summary.unsent == (table["error"] == ErrorKind.UNSENT).sum() >= 10


@pytest.mark.parametrize(
    ("path", "fields", "ok", "reason"),
    [
        ("/hop/3", {"follow_redirects": True}, True, ""),
        ("/loop", {"follow_redirects": True}, False, "more than 10 redirects"),
        ("/away?ftp://x/", {"follow_redirects": True}, False, "redirected to what is neither http nor https"),
        ("/digest/SHA-256", {"digest": DIGEST}, True, ""),
        ("/digest/SHA-256", {}, False, "status 401"),
        ("/digest/odd", {"digest": DIGEST}, False, "'ODD'"),
        ("/ok", {"http2": True}, True, ""),
        ("/ok", {"http2": True, "method": "HEAD"}, True, ""),
    ],
)
def test_a_single_look_asks_as_the_probes_do(path: str, fields: Any, ok: bool, reason: str, there: Servers) -> None:
    found = probe.check(Look(address=there.plain.url(path), timeout_s=30.0, **fields))
    assert (found.ok, found.reason) == (ok, reason)


def test_a_single_look_takes_the_proxy_and_trusts_whom_it_may(there: Servers) -> None:
    secure = there.secure.url("/ok")
    assert probe.check(Look(address=secure, proxy=there.way(), tls=there.tls, http2=True, timeout_s=30.0)).ok
    found = probe.check(Look(address=secure, proxy=there.way("me:wrong"), tls=there.tls, timeout_s=30.0))
    assert (found.reachable, found.reason) == (False, "407 Who Are You")
    assert probe.check(Look(address=secure, timeout_s=30.0)).reason.startswith("TLS: self")


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("http://shop/elsewhere", True),
        ("https://shop/", True),
        ("http://shop:81/", False),
        ("https://shop:444/", False),
        ("http://other/", False),
        ("http://shop.other/", False),
    ],
)
def test_a_redirect_takes_the_headers_of_a_probe_to_its_own_server_alone(location: str, kept: bool) -> None:
    look = Look(address="http://shop/", headers=(("X-Api-Key", "secret"), ("Accept", "text/plain")))
    request = httpx.Request("GET", location, headers=request_of(look).headers)
    keep_home(request, look)
    assert ("x-api-key" in request.headers) is kept


def test_a_file_of_tls_that_cannot_be_used_is_named(there: Servers, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tls\.ca_file /nowhere\.pem cannot be used: No such file"):
        Tls(ca_file="/nowhere.pem").context()
    with pytest.raises(UsageError, match=r"tls\.certificate \S+\.crt cannot be used: .*accepted: a certificate in PEM"):
        Tls(certificate=f"{there.certificate}.crt").context()
    locked = tmp_path / "locked.pem"
    argv = ["openssl", "rsa", "-aes256", "-passout", "pass:x", "-in", there.certificate, "-out", str(locked)]
    subprocess.run(argv, check=True, capture_output=True)
    with pytest.raises(UsageError, match=r"with tls\.key \S+locked\.pem cannot be used: .*without a password"):
        Tls(certificate=there.certificate, key=str(locked)).context()


def test_who_probes_lean_imports_no_httpx() -> None:
    code = (
        "import sys, chaoslab.instruments.prober, chaoslab.instruments.http_probe; "
        "print([name for name in ('httpx', 'httpcore', 'h2', 'anyio') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

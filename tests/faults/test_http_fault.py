"""http_fault: what was asked happens to the share of requests that was asked, and the dose says so."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from chaoslab.errors import ScenarioFileError
from chaoslab.faults import Surroundings, choose, failure_types
from chaoslab.faults.http_fault import HttpProxy
from chaoslab.faults.through_proxy import ProxyBlackHole, ProxyDelay
from chaoslab.records import Dose
from tests.faults.kit import HOST, deliver, do, read, scenario, surroundings
from tests.faults.test_network import routed
from tests.servers import running


@pytest.fixture
def url() -> Iterator[str]:
    with running() as service:
        yield service.url("/ok")


@contextmanager
def asking(where: Surroundings, path: str = "/ok", *, clients: int = 4) -> Iterator[None]:
    """Clients that send one request after another through the route."""
    stop = threading.Event()
    threads = [threading.Thread(target=ask, args=(where, path, stop)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def ask(where: Surroundings, path: str, stop: threading.Event) -> None:
    assert where.route is not None
    connection = http.client.HTTPConnection(*where.route.connect_to, timeout=2)
    while not stop.is_set():
        try:
            connection.request("GET", path)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
    connection.close()


def delivered(url: str, path: str = "/ok", **parameters: object) -> dict[str, Dose]:
    mechanism, asked = HttpProxy(), scenario("http_fault", **parameters)
    with routed(mechanism, url) as where, asking(where, path):
        doses = deliver(mechanism, asked, where, seconds=0.5)
    return {dose.quantity.partition(" of ")[0]: dose for dose in doses}


def test_a_share_of_the_requests_is_answered_with_the_status_that_was_asked(url: str) -> None:
    doses = delivered(url, percent=30, status=503)
    assert list(doses) == ["matching requests that were hit"]
    share = doses["matching requests that were hit"]
    # Not `ok`: by chance one run in a hundred is not.
    assert share.delivered == pytest.approx(30, abs=12)
    assert 0 < share.low < 30 < share.high < 100


@pytest.mark.parametrize(
    ("effect", "met"),
    [({"status": 418}, "418"), ({"reset": True}, "reset"), ({"hang": True}, "unanswered")],
    ids=["status", "reset", "hang"],
)
def test_where_every_request_is_hit_one_of_our_own_meets_it(url: str, effect: dict[str, object], met: str) -> None:
    doses = delivered(url, **effect)
    assert all(dose.ok for dose in doses.values())
    seen = doses["requests"]
    assert seen.how.endswith(f"they met: {met}")


def test_the_delay_and_its_jitter_are_measured(url: str) -> None:
    dose = delivered(url, delay_ms=60, jitter_ms=30)["delay"]
    assert dose.delivered == pytest.approx(60, abs=25)


def test_the_pace_is_measured(url: str) -> None:
    dose = delivered(url, bytes_per_second=1000)["pace"]
    assert dose.delivered is not None
    assert 500 < dose.delivered <= 1050


def test_only_what_matches_is_counted(url: str) -> None:
    with running() as service:
        mechanism, asked = HttpProxy(), scenario("http_fault", path="/status/*", methods=["get"], delay_ms=1)
        with routed(mechanism, service.url("/ok")) as where, asking(where, "/status/201", clients=1), asking(where):
            share, *_ = deliver(mechanism, asked, where, seconds=0.2)
    assert share.delivered == 100


def test_a_fault_that_no_request_meets_shows_no_effect(url: str) -> None:
    mechanism, asked = HttpProxy(), scenario("http_fault", path="/nobody/asks/*", status=503)
    with routed(mechanism, url) as where, asking(where, clients=1):
        injection = mechanism.inject(asked, where, seconds=1, token="t")
        do(injection.steps[0])
        reading = read(injection.steps[0])
    assert reading.data["matched"] == 0
    assert not injection.took_effect([reading])
    (share,) = injection.doses([reading])
    assert share.delivered is None


def test_faults_that_share_a_proxy_are_undone_one_by_one(url: str) -> None:
    with routed(HttpProxy(), url) as where:
        delay = ProxyDelay().inject(scenario("network_latency", delay_ms=20), where, seconds=5, token="delay").steps[0]
        fault = HttpProxy().inject(scenario("http_fault", status=503), where, seconds=5, token="fault").steps[0]
        do(delay)
        do(fault)
        for _ in range(2):
            assert HOST.run(delay.undo, timeout=5).ok
        assert read(fault).data["standing"] == ["fault"]


def test_the_black_hole_of_the_proxy_leaves_requests_unanswered(url: str) -> None:
    mechanism = ProxyBlackHole()
    with routed(mechanism, url) as where, asking(where, clients=1):
        (dose,) = deliver(mechanism, scenario("control"), where, seconds=0.1)
    assert dose.ok
    assert "black hole" in dose.mechanism


def test_inside_tls_requests_cannot_be_told_apart_and_the_fault_is_refused() -> None:
    where = replace(surroundings(), url="https://127.0.0.1:1")
    obstacle = HttpProxy().obstacle(scenario("http_fault", status=503), where)
    assert "TLS" in str(obstacle)
    assert ProxyDelay().obstacle(scenario("network_latency", delay_ms=1), where) is None


def test_what_the_proxy_cannot_deliver_is_refused_by_name() -> None:
    obstacle = ProxyBlackHole().obstacle(scenario("network_latency", delay_ms=1), surroundings())
    assert "delay_ms" in str(obstacle)


def test_it_is_found_and_chosen_without_privileges() -> None:
    assert failure_types()["http_fault"].scenario.type_names() == ("http_fault",)
    assert choose(scenario("http_fault", status=503), surroundings()).name == "http proxy"


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({}, "no effect is given"),
        ({"percent": 130, "reset": True}, "less than or equal to 100"),
        ({"percent": 0, "reset": True}, "greater than 0"),
        ({"status": 100}, "greater than or equal to 200"),
        ({"status": 600}, "less than or equal to 599"),
        ({"status": 503, "hang": True}, "status and hang exclude each other"),
        ({"status": 503, "bytes_per_second": 1}, "bytes_per_second and status exclude each other"),
        ({"delay_ms": 5, "jitter_ms": 6}, "jitter_ms must not be more than delay_ms, 5"),
        ({"bytes_per_second": -1}, "greater than 0"),
        ({"methods": ["FETCH"], "reset": True}, "accepted: GET, HEAD"),
        ({"path": "api", "reset": True}, "match pattern"),
        ({"headers": {"a b": "c"}, "reset": True}, "match pattern"),
    ],
)
def test_a_dose_that_makes_no_sense_is_refused(parameters: dict[str, object], says: str) -> None:
    with pytest.raises(ScenarioFileError, match=says):
        scenario("http_fault", **parameters)

"""What the shop does for its customers, with its database and without."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from chaoslab import targets
from chaoslab.agent.processes import Identity
from chaoslab.agent.search import read_pid_file
from chaoslab.demo import database, launch
from chaoslab.demo.premises import Premises
from chaoslab.errors import UsageError
from chaoslab.targets import DatabaseControl, Target
from tests.demo.conftest import Site, until


@dataclass(frozen=True)
class Open:
    """A shop that is open, as its customers and its enemies see it."""

    build: str
    url: str
    premises: Premises
    target: Target

    @property
    def control(self) -> DatabaseControl:
        assert self.target.database is not None
        return self.target.database

    def service(self) -> Identity | None:
        return read_pid_file(Path(self.target.pid_file))


# Starting a shop is what takes its time: the tests of this file share one of each build, and mend what they break.
@contextlib.contextmanager
def opened(build: str, state: Path) -> Iterator[Open]:
    site = Site(Path(tempfile.mkdtemp(prefix="chaoslab-shop-")), f"test-shop-{secrets.token_hex(6)}")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(targets.STATE_VARIABLE, str(state))
        with site.launch(build) as launched:
            target = targets.find(launched.url)
            assert target is not None
            yield Open(build, launched.url, site.premises, target)
        assert site.left() == []


@pytest.fixture(scope="module")
def fragile_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with opened("fragile", tmp_path_factory.mktemp("fragile")) as shop:
        yield shop


@pytest.fixture(scope="module")
def resilient_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with opened("resilient", tmp_path_factory.mktemp("resilient")) as shop:
        yield shop


@pytest.fixture
def fragile(fragile_shop: Open) -> Open:
    until(lambda: healthy(fragile_shop))
    return fragile_shop


@pytest.fixture
def resilient(resilient_shop: Open) -> Open:
    until(lambda: healthy(resilient_shop))
    return resilient_shop


@pytest.fixture(params=["fragile", "resilient"])
def shop(request: pytest.FixtureRequest) -> Open:
    found: Open = request.getfixturevalue(request.param)
    return found


def health(shop: Open) -> tuple[int, str]:
    answer = httpx.get(f"{shop.url}/api/health", timeout=10.0)
    return answer.status_code, answer.json()["status"]


def place(shop: Open, **order: object) -> httpx.Response:
    return httpx.post(f"{shop.url}/api/orders", json=order, timeout=10.0)


def orders(shop: Open) -> httpx.Response:
    return httpx.get(f"{shop.url}/api/orders", timeout=10.0)


def healthy(shop: Open) -> bool:
    try:
        return health(shop) == (200, "ok")
    except httpx.TransportError:
        return False


def test_a_shop_tells_which_build_it_is_and_that_it_is_well(shop: Open) -> None:
    assert httpx.get(shop.url).json()["build"] == shop.build
    assert health(shop) == (200, "ok")


def test_orders_can_be_placed_and_read_back_newest_first(shop: Open) -> None:
    placed = [place(shop, item=item, quantity=2) for item in ("tea", "biscuits")]
    assert [answer.status_code for answer in placed] == [201, 201]
    read = orders(shop).json()["orders"]
    assert [(order["item"], order["quantity"]) for order in read] == [("biscuits", 2), ("tea", 2)]
    assert [order["id"] for order in reversed(read)] == [answer.json()["id"] for answer in placed]


def test_an_order_that_makes_no_sense_is_refused_with_what_is_accepted(fragile: Open) -> None:
    for order in ({}, {"item": "tea"}, {"item": "", "quantity": 1}, {"item": "t\0", "quantity": 1}):
        assert place(fragile, **order).status_code == 400
    for quantity in (0, 1001, "2", True, 1.5):
        answer = place(fragile, item="tea", quantity=quantity)
        assert (answer.status_code, answer.json()["status"]) == (400, "refused")
    for body in (b"tea", b"\xff", b"[1]"):
        assert httpx.post(f"{fragile.url}/api/orders", content=body).status_code == 400


def test_a_killed_service_comes_back_as_another_process_on_the_same_port(shop: Open) -> None:
    before = shop.service()
    assert before is not None
    before.send(signal.SIGKILL)
    until(lambda: shop.service() not in (None, before))
    until(lambda: healthy(shop))
    after = shop.service()
    assert after is not None
    assert after.alive
    assert not before.alive


def test_the_port_stays_reserved_while_the_service_is_down(fragile: Open) -> None:
    service = fragile.service()
    assert service is not None
    service.send(signal.SIGKILL)
    until(lambda: not service.alive)
    with socket.socket() as intruder, pytest.raises(OSError, match="in use"):
        intruder.bind(("127.0.0.1", httpx.URL(fragile.url).port))


def test_a_folder_holds_one_shop(fragile: Open) -> None:
    with pytest.raises(UsageError, match="holds another shop"):
        launch(folder=fragile.premises.path, build="fragile", token="another")
    assert healthy(fragile)


def test_without_its_database_the_fragile_build_is_unavailable_until_it_is_back(fragile: Open) -> None:
    place(fragile, item="tea", quantity=1)
    subprocess.run(fragile.control.stop, check=True)
    assert health(fragile) == (503, "unavailable")
    assert orders(fragile).status_code == 503
    assert place(fragile, item="tea", quantity=1).status_code == 503
    subprocess.run(fragile.control.start, check=True)
    until(lambda: healthy(fragile))
    assert orders(fragile).json()["orders"][-1]["item"] == "tea"


def test_without_its_database_the_resilient_build_answers_from_memory_until_it_is_back(resilient: Open) -> None:
    place(resilient, item="tea", quantity=1)
    remembered = orders(resilient).json()
    subprocess.run(resilient.control.stop, check=True)
    assert health(resilient) == (200, "degraded")
    stale = orders(resilient)
    assert (stale.status_code, stale.headers["X-Shop-Stale"], stale.json()) == (200, "true", remembered)
    before = time.monotonic()
    assert place(resilient, item="tea", quantity=1).status_code == 503
    assert time.monotonic() - before < 1.0
    subprocess.run(resilient.control.start, check=True)
    until(lambda: healthy(resilient))
    assert "X-Shop-Stale" not in orders(resilient).headers


def test_the_resilient_build_does_not_wait_for_a_database_that_hangs(resilient: Open) -> None:
    servers = database.server_processes(resilient.premises)
    for server in servers:
        server.send(signal.SIGSTOP)
    before = time.monotonic()
    assert health(resilient) == (200, "degraded")
    assert time.monotonic() - before < 3.0
    for server in servers:
        server.send(signal.SIGCONT)
    until(lambda: healthy(resilient))


def test_a_restart_of_the_database_between_two_requests_goes_unnoticed_by_the_resilient_build(
    resilient: Open,
) -> None:
    assert healthy(resilient)
    subprocess.run(resilient.control.stop, check=True)
    subprocess.run(resilient.control.start, check=True)
    assert place(resilient, item="tea", quantity=1).status_code == 201


def test_the_published_commands_stop_start_and_check_the_database_however_often(fragile: Open) -> None:
    control = fragile.control
    assert subprocess.run(control.check, capture_output=True).returncode == 0
    for _ in range(2):
        subprocess.run(control.stop, check=True)
        check = subprocess.run(control.check, capture_output=True, text=True)
        assert (check.returncode, check.stdout.strip().endswith("refuses")) == (1, True)
    for _ in range(2):
        subprocess.run(control.start, check=True)
        assert subprocess.run(control.check, capture_output=True).returncode == 0


def test_the_database_starts_again_after_a_kill(fragile: Open) -> None:
    for server in database.server_processes(fragile.premises):
        server.send(signal.SIGKILL)
    until(lambda: not database.server_processes(fragile.premises))
    subprocess.run(fragile.control.start, check=True)
    until(lambda: healthy(fragile))


def test_two_that_start_the_database_at_once_both_succeed(fragile: Open) -> None:
    subprocess.run(fragile.control.stop, check=True)
    starts = [subprocess.Popen(fragile.control.start) for _ in range(2)]
    assert [start.wait() for start in starts] == [0, 0]

"""The prober keeps its instants whatever the target does, names what it saw, and keeps its rows whoever is killed."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from chaoslab.agent import processes
from chaoslab.demo import database, teardown
from chaoslab.demo.premises import Premises
from chaoslab.errors import ChaoslabError, UsageError
from chaoslab.instruments import probe
from chaoslab.instruments.http_probe import HttpTransport
from chaoslab.instruments.probe import Prober, ProbeSpec, Summary
from chaoslab.instruments.prober import ARRIVALS
from chaoslab.instruments.transport import Probe
from chaoslab.instruments.vitals import Histogram, Vitals
from chaoslab.looks import Look, Success
from chaoslab.records import ErrorKind, Outcome
from chaoslab.store import RunKey
from tests.servers import Service, running
from tests.test_processes import until

KEY = RunKey(campaign="c1", scenario="Light CPU Stress", repeat=2, index=3)
UNSENDABLE = "http://255.255.255.255/"  # connect(2) has no route to it on any machine


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running() as found:
        yield found


@pytest.fixture
def victim() -> Iterator[Service]:
    with running() as found:
        yield found


def spec(folder: Path, url: str, *beside: Look, **changes: Any) -> ProbeSpec:
    whole = {name: changes.pop(name) for name in ("window_s", "max_duration_s") if name in changes}
    looks = (Look(address=url, **changes), *beside)
    return ProbeSpec(folder=folder, key=KEY, anchor_ns=time.monotonic_ns(), looks=looks, **whole)


def rows(folder: Path) -> pd.DataFrame:
    table = pd.concat([pd.read_parquet(file) for file in sorted((folder / "probes").rglob("*.parquet"))])
    return table.sort_values("seq", ignore_index=True)


def probed(folder: Path, url: str, probes: int, *beside: Look, **changes: Any) -> tuple[Summary, pd.DataFrame]:
    with Prober.start(spec(folder, url, *beside, **changes)) as prober:
        prober.wait_ready()
        until(lambda: prober.live is not None and prober.live.scheduled >= probes)
        summary = prober.stop()
    return summary, rows(folder)


def now_us(prober_spec: ProbeSpec) -> int:
    return (time.monotonic_ns() - prober_spec.anchor_ns) // 1000


def recorded(folder: Path) -> int:
    return sum(pq.read_metadata(part).num_rows for part in (folder / "probes" / KEY.slug).glob("*.parquet"))


def test_every_instant_is_kept_and_every_probe_has_its_row(service: Service, tmp_path: Path) -> None:
    summary, table = probed(tmp_path, service.url("/ok"), 150, rate_hz=300.0)
    assert list(table["seq"]) == list(range(summary.scheduled))
    steps = table["scheduled_us"].diff().dropna()
    assert steps.between(3333, 3334).all()
    assert (table["outcome"] == Outcome.SUCCESS).all()
    assert (table["status"] == 200).all()
    assert table["error"].isna().all()
    assert (table["sent_us"] >= 0).all()
    assert (table["latency_us"] > table["sent_us"]).all()
    assert set(table["probe"]) == {"health"}
    assert set(table["scenario"]) == {KEY.scenario}


def test_a_stop_joins_the_parts_and_accounts_for_every_probe(service: Service, tmp_path: Path) -> None:
    summary, table = probed(tmp_path, service.url("/ok"), 60, rate_hz=100.0)
    assert summary.scheduled == summary.sent == summary.recorded == len(table)
    assert summary.failures == summary.unsent == summary.dropped == 0
    assert summary.lag_p50_us is not None
    assert summary.lag_max_us == table["sent_us"].max()
    assert [file.name for file in (tmp_path / "probes").iterdir()] == [f"{KEY.slug}.parquet"]


def test_probes_in_flight_are_waited_for(service: Service, tmp_path: Path) -> None:
    summary, table = probed(tmp_path, service.url("/slow/0.3"), 10, rate_hz=50.0)
    assert summary.recorded == summary.scheduled == len(table)
    assert (table["latency_us"] >= 300_000).all()


def test_a_stall_of_the_target_is_seen_by_every_probe_that_fell_into_it(victim: Service, tmp_path: Path) -> None:
    wanted = spec(tmp_path, victim.url("/ok"), rate_hz=50.0)
    with Prober.start(wanted) as prober:
        prober.wait_ready()
        until(lambda: prober.live is not None and prober.live.successes_1s >= 10)
        frozen_us = now_us(wanted)
        victim.freeze()
        time.sleep(0.5)
        thawed_us = now_us(wanted)
        victim.thaw()
        until(lambda: prober.live is not None and prober.live.at_us > thawed_us + 200_000)
        prober.stop()
    table = rows(tmp_path)
    assert (table["outcome"] == Outcome.SUCCESS).all()
    assert table["scheduled_us"].diff().dropna().between(19_999, 20_001).all()
    stalled = table[table["scheduled_us"].between(frozen_us + 1000, thawed_us)]
    assert len(stalled) >= 24
    # Each waits for the same thaw, hence less the later it was due.
    answered_us = stalled["scheduled_us"] + stalled["latency_us"]
    assert answered_us.between(thawed_us, thawed_us + 150_000).all()
    assert stalled["latency_us"].is_monotonic_decreasing


def test_a_stall_of_the_prober_delays_probes_but_neither_loses_nor_fails_them(service: Service, tmp_path: Path) -> None:
    with Prober.start(spec(tmp_path, service.url("/ok"), rate_hz=100.0, timeout_s=0.2)) as prober:
        prober.wait_ready()
        until(lambda: prober.live is not None and prober.live.scheduled >= 20)
        os.kill(prober.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(prober.pid, signal.SIGCONT)
        stopped = prober.live
        until(lambda: prober.live is not stopped)
        summary = prober.stop()
    table = rows(tmp_path)
    assert summary.failures == summary.unsent == 0
    assert list(table["seq"]) == list(range(summary.scheduled))
    assert table["scheduled_us"].diff().dropna().between(9_999, 10_001).all()
    late = table[table["sent_us"] > 100_000]
    assert len(late) >= 35
    assert summary.lag_max_us >= 450_000
    assert (late["latency_us"] >= late["sent_us"]).all()


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/status/503", ErrorKind.STATUS, 503),
        ("/hang", ErrorKind.TIMEOUT, None),
        ("/reset", ErrorKind.RESET, None),
        ("/cut", ErrorKind.RESET, None),
        ("/garbage", ErrorKind.PROTOCOL, None),
    ],
)
def test_a_failure_is_named(path: str, kind: ErrorKind, status: int | None, service: Service, tmp_path: Path) -> None:
    summary, table = probed(tmp_path, service.url(path), 4, rate_hz=50.0, timeout_s=0.1)
    assert summary.failures == summary.scheduled
    assert set(table["outcome"]) == {Outcome.FAILURE}
    assert set(table["error"]) == {kind}
    assert set(table["status"].dropna()) == ({status} if status else set())
    if kind is ErrorKind.TIMEOUT:
        assert (table["latency_us"] - table["sent_us"]).between(100_000, 150_000).all()


@pytest.mark.parametrize(
    ("url", "kind"), [("http://127.0.0.1:1/", ErrorKind.REFUSED), (UNSENDABLE, ErrorKind.UNREACHABLE)]
)
def test_a_connection_that_cannot_be_opened_is_named(url: str, kind: ErrorKind, tmp_path: Path) -> None:
    _, table = probed(tmp_path, url, 4, rate_hz=50.0)
    assert set(table["error"]) == {kind}
    assert table["status"].isna().all()
    assert table["sent_us"].notna().all()


@pytest.mark.parametrize("path", ["/status/204", "/status/302", "/early", "/unsized", "/closing"])
def test_every_form_of_a_good_answer_is_a_success(path: str, service: Service, tmp_path: Path) -> None:
    summary, table = probed(tmp_path, service.url(path), 4, rate_hz=50.0)
    assert summary.failures == 0
    assert set(table["status"]) == {int(path.removeprefix("/status/")) if "status" in path else 200}


@pytest.mark.parametrize("path", ["/sized/200", "/chunked/200", "/sized/304", "/status/204", "/early"])
def test_no_body_is_waited_for_where_none_can_come(path: str, service: Service, tmp_path: Path) -> None:
    summary, table = probed(tmp_path, service.url(path), 6, rate_hz=50.0, timeout_s=1.0, method="HEAD")
    assert summary.failures == 0
    assert set(table["status"]) == {int(path.rpartition("/")[2]) if path != "/early" else 200}
    assert probe.check(Look(address=service.url(path), method="HEAD")).ok


def test_the_connection_of_a_head_is_kept(victim: Service, tmp_path: Path) -> None:
    summary, _ = probed(tmp_path, victim.url("/sized/200"), 30, rate_hz=40.0, method="HEAD")
    assert summary.failures == 0
    assert victim.seen()["connections"] <= summary.scheduled // 2


def test_what_counts_as_a_success_can_be_said(service: Service, tmp_path: Path) -> None:
    url = service.url("/status/404")
    summary, _ = probed(tmp_path, url, 4, rate_hz=50.0, success=Success(statuses=frozenset({404})))
    assert summary.failures == 0


def test_a_certificate_that_nobody_vouches_for_is_a_failure_of_tls(certificate: Path, tmp_path: Path) -> None:
    with running(certificate=str(certificate)) as secure:
        _, table = probed(tmp_path, secure.url("/ok"), 4, rate_hz=50.0)
        assert probe.check(Look(address=secure.url("/ok"))).reason.startswith("TLS: self")
    assert set(table["error"]) == {ErrorKind.TLS}


def test_a_trusted_certificate_is_probed_over_a_kept_connection(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with running(certificate=str(certificate)) as secure:
        summary, _ = probed(tmp_path, secure.url("/ok"), 40, rate_hz=100.0)
        connections = secure.seen()["connections"]
    assert summary.failures == 0
    assert connections <= 10


def test_connections_are_kept(victim: Service, tmp_path: Path) -> None:
    summary, _ = probed(tmp_path, victim.url("/ok"), 100, rate_hz=50.0)
    assert summary.scheduled >= 100
    assert victim.seen()["connections"] <= 5


def test_a_connection_that_is_closed_while_idle_is_no_failure(victim: Service, tmp_path: Path) -> None:
    summary, _ = probed(tmp_path, victim.url("/fickle"), 12, rate_hz=20.0)
    assert summary.failures == 0
    assert victim.seen()["connections"] >= summary.scheduled


def test_a_probe_without_a_free_connection_is_unsent() -> None:
    ended: list[tuple[int, ErrorKind | None]] = []

    async def ask(url: str) -> None:
        transport = HttpTransport(
            Look(address=url), connections=2, finish=lambda probe, _, error: ended.append((probe.seq, error))
        )
        for seq in range(3):
            transport.send(Probe(seq, scheduled_ns=0, sent_ns=0, expires_ns=0))
            await asyncio.sleep(0.02)
        while len(ended) < 3:
            await asyncio.sleep(0.01)
        transport.close()

    with running() as slow:
        asyncio.run(ask(slow.url("/slow/0.2")))
    assert ended == [(2, ErrorKind.UNSENT), (0, None), (1, None)]


def test_a_name_server_that_is_silent_has_a_few_lookups_waiting_however_many_probes_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer, asked, ended = threading.Event(), [], []
    known = socket.getaddrinfo("127.0.0.1", 1, type=socket.SOCK_STREAM)

    def silent(*_: object, **__: object) -> object:
        asked.append(time.monotonic())
        answer.wait()
        return known

    async def ask() -> None:
        transport = HttpTransport(
            Look(address="http://shop.test:1/"), connections=300, finish=lambda _, __, error: ended.append(error)
        )
        probes = [Probe(seq, scheduled_ns=0, sent_ns=0, expires_ns=0) for seq in range(250)]
        for given_up in probes[:200]:
            transport.send(given_up)
            await asyncio.sleep(0.01)
            assert given_up.carrier is not None
            given_up.carrier.cancel()
        for patient in probes[200:]:
            transport.send(patient)
        await asyncio.sleep(0.1)
        answer.set()
        while len(ended) < 50:
            await asyncio.sleep(0.01)
        transport.close()

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    asyncio.run(ask())
    assert 2 <= len(asked) <= 4
    assert set(ended) == {ErrorKind.REFUSED}


def test_killing_the_prober_loses_less_than_a_second(service: Service, tmp_path: Path) -> None:
    wanted = spec(tmp_path, service.url("/ok"), rate_hz=100.0)
    with Prober.start(wanted) as prober:
        prober.wait_ready()
        until(lambda: recorded(tmp_path) >= 80)
        killed_us = now_us(wanted)
        os.kill(prober.pid, signal.SIGKILL)
        until(lambda: not prober.alive)
        with pytest.raises(ChaoslabError, match="ended before it was told to: killed by SIGKILL"):
            prober.check()
        with pytest.raises(ChaoslabError, match="SIGKILL"):
            prober.stop()
    table = rows(tmp_path)
    assert list(table["seq"]) == list(range(len(table)))
    assert killed_us - table["scheduled_us"].max() < 1_000_000


PARENT = """
import sys, time
from pathlib import Path
from chaoslab.looks import Look
from chaoslab.instruments.probe import Prober, ProbeSpec
from chaoslab.store import RunKey
key = RunKey(campaign="c1", scenario="Light CPU Stress", repeat=2, index=3)
looks = (Look(address=sys.argv[2], rate_hz=100.0),)
prober = Prober.start(ProbeSpec(folder=Path(sys.argv[1]), key=key, anchor_ns=0, looks=looks))
prober.wait_ready()
print(prober.pid, flush=True)
time.sleep(60)
"""


def test_a_prober_whose_parent_is_killed_ends_by_itself_and_leaves_its_rows(service: Service, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", PARENT, str(tmp_path), service.url("/ok")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = processes.identify(int(parent.stdout.readline()))
        assert child is not None
        time.sleep(0.3)
        parent.kill()
        killed_us = time.monotonic_ns() // 1000
        until(lambda: not child.alive, seconds=1.0)
    table = rows(tmp_path)
    assert list(table["seq"]) == list(range(len(table)))
    assert killed_us - table["scheduled_us"].max() < 200_000


def test_an_orphan_does_not_wait_for_a_target_that_hangs(service: Service, tmp_path: Path) -> None:
    with Prober.start(spec(tmp_path, service.url("/hang"), timeout_s=60.0)) as prober:
        prober.wait_ready()
        until(lambda: prober.live is not None and prober.live.scheduled >= 2)
        begun = time.monotonic()
        prober.kill()
        assert time.monotonic() - begun < 0.9
    assert not prober.alive


def test_the_prober_stops_at_its_own_limit(service: Service, tmp_path: Path) -> None:
    with Prober.start(spec(tmp_path, service.url("/ok"), rate_hz=50.0, max_duration_s=0.3)) as prober:
        prober.wait_ready()
        until(lambda: not prober.alive)
        with pytest.raises(ChaoslabError, match=r"own limit of 0\.3 s"):
            prober.check()
    assert 15 <= len(rows(tmp_path)) <= 30


def test_rows_that_cannot_be_written_are_reported_and_kept_until_they_can(service: Service, tmp_path: Path) -> None:
    parts = tmp_path / "probes" / KEY.slug
    with Prober.start(spec(tmp_path, service.url("/ok"), rate_hz=100.0)) as prober:
        prober.wait_ready()
        until(lambda: recorded(tmp_path) >= 1)
        shutil.move(parts, tmp_path / "elsewhere")

        def reported() -> bool:
            try:
                prober.check()
            except ChaoslabError as error:
                return str(error) == "probes: rows cannot be written: No such file or directory"
            return False

        until(reported)
        shutil.move(tmp_path / "elsewhere", parts)
        summary = prober.stop()
    assert summary.recorded == summary.scheduled == len(rows(tmp_path))


def test_rows_that_are_lost_fail_the_stop_and_leave_what_was_written(service: Service, tmp_path: Path) -> None:
    with Prober.start(spec(tmp_path, service.url("/ok"), rate_hz=100.0)) as prober:
        prober.wait_ready()
        until(lambda: recorded(tmp_path) >= 1)
        shutil.move(tmp_path / "probes" / KEY.slug, tmp_path / "probes" / "kept")
        with pytest.raises(ChaoslabError, match=r"cannot be (written|joined): No such file or directory"):
            prober.stop()
    assert len(rows(tmp_path)) > 0


def test_a_folder_that_cannot_be_used_is_reported(service: Service, tmp_path: Path) -> None:
    (tmp_path / "probes").write_text("in the way")
    with (
        Prober.start(spec(tmp_path, service.url("/ok"))) as prober,
        pytest.raises(ChaoslabError, match="probes cannot be recorded: Not a directory"),
    ):
        prober.wait_ready()


def test_live_numbers_follow_the_target_down_and_up(victim: Service, tmp_path: Path) -> None:
    with Prober.start(spec(tmp_path, victim.url("/ok"), rate_hz=50.0, window_s=1.0)) as prober:
        prober.wait_ready()
        until(lambda: prober.live is not None and prober.live.window_filled_s == 1.0)
        up = prober.live
        victim.kill()
        until(lambda: prober.live is not None and prober.live.failures_1s >= 20)
        down = prober.live
        with running(port=victim.port):
            until(lambda: prober.live is not None and prober.live.failing_since_us is None)
            again = prober.live
            prober.stop()
    assert up is not None
    assert down is not None
    assert again is not None
    assert up.failing_since_us is None
    assert up.error_rate == 0.0
    assert 35 <= up.successes_1s <= 65
    assert up.median_latency_us is not None
    assert 50 < up.median_latency_us < 50_000
    table = rows(tmp_path)
    failed = table[table["outcome"] == Outcome.FAILURE]
    assert down.failing_since_us == failed["scheduled_us"].iloc[0]
    assert 0.2 < down.error_rate <= 1.0
    assert again.successes_1s > 0
    assert set(failed["error"]) <= {ErrorKind.REFUSED, ErrorKind.RESET}


def test_a_password_in_the_url_is_sent_and_recorded_nowhere(victim: Service, tmp_path: Path) -> None:
    url = victim.url("/ok").replace("//", "//me:s%40cret@")
    with Prober.start(spec(tmp_path, url, rate_hz=50.0)) as prober:
        prober.wait_ready()
        until(lambda: prober.live is not None and prober.live.scheduled >= 4)
        command_line = Path(f"/proc/{prober.pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{prober.pid}/environ").read_bytes()
        prober.stop()
    assert victim.seen()["authorization"] == "Authorization: Basic bWU6c0BjcmV0"
    assert b"cret" not in command_line + environment
    assert all(b"cret" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "url", ["ftp://me:secret@host/", "127.0.0.1:8080", "http://", "http://host:99999/", "http://a..b/"]
)
def test_a_url_that_cannot_be_probed_is_refused_without_showing_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        spec(tmp_path, url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "wrong", [{"rate_hz": 0.0}, {"timeout_s": -1.0}, {"window_s": float("nan")}, {"arrivals": "poison"}]
)
def test_a_value_that_cannot_be_used_is_refused_by_name(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^{next(iter(wrong))} is .*; accepted: "):
        spec(tmp_path, "http://127.0.0.1/", **wrong)


def test_a_specification_survives_its_journey(tmp_path: Path) -> None:
    wanted = spec(tmp_path, "http://127.0.0.1/", arrivals="poisson", seed=7, success=Success(statuses=frozenset({200})))
    assert ProbeSpec.from_dict(wanted.as_dict()) == wanted


def test_poisson_arrivals_have_their_rate_and_their_seed() -> None:
    instants = list(islice(ARRIVALS["poisson"](1000.0, 5), 20_001))
    assert instants == list(islice(ARRIVALS["poisson"](1000.0, 5), 20_001))
    assert instants != list(islice(ARRIVALS["poisson"](1000.0, 6), 20_001))
    assert instants[-1] / 1e9 == pytest.approx(20.0, rel=0.03)


class TestCheck:
    def test_a_good_answer_is_ok(self, service: Service) -> None:
        assert probe.check(Look(address=service.url("/ok"))) == probe.Check(ok=True, reachable=True)

    def test_a_bad_status_is_reachable_and_not_ok(self, service: Service) -> None:
        assert probe.check(Look(address=service.url("/status/503"))) == probe.Check(False, True, "status 503")

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("/hang", "no answer within 0.2 s"),
            ("/garbage", "illegal status line"),
            ("/cut", "without sending complete message body"),
        ],
    )
    def test_no_answer_is_not_reachable(self, path: str, reason: str, service: Service) -> None:
        found = probe.check(Look(address=service.url(path), timeout_s=0.2))
        assert not found.reachable
        assert reason in found.reason

    def test_a_closed_port_refuses(self) -> None:
        assert probe.check(Look(address="http://127.0.0.1:1/")).reason == "connection refused"


class TestVitals:
    def test_failing_begins_with_the_schedule_of_the_first_failure_and_ends_with_a_success(self) -> None:
        vitals = Vitals(window_s=10.0, started_us=0)
        vitals.add(None, scheduled_us=0, latency_us=100)
        vitals.add(ErrorKind.REFUSED, scheduled_us=50_000, latency_us=100)
        vitals.add(ErrorKind.TIMEOUT, scheduled_us=100_000, latency_us=2_000_000)
        assert vitals.tick(2_200_000)["failing_since_us"] == 50_000
        vitals.add(None, scheduled_us=2_300_000, latency_us=100)
        assert vitals.tick(2_400_000)["failing_since_us"] is None

    def test_a_probe_lost_before_later_ones_succeeded_does_not_claim_their_time(self) -> None:
        vitals = Vitals(window_s=10.0, started_us=0)
        vitals.add(None, scheduled_us=1_900_000, latency_us=1000)
        vitals.add(ErrorKind.TIMEOUT, scheduled_us=0, latency_us=2_000_000)
        assert vitals.tick(2_000_000)["failing_since_us"] == 1_901_000

    def test_the_window_forgets(self) -> None:
        vitals = Vitals(window_s=1.0, started_us=0)
        vitals.add(ErrorKind.STATUS, scheduled_us=0, latency_us=400_000)
        first = vitals.tick(500_000)
        assert (first["window_count"], first["window_failures"], first["window_filled_s"]) == (1, 1, 0.5)
        vitals.add(None, scheduled_us=1_000_000, latency_us=1000)
        second = vitals.tick(1_500_000)
        assert (second["window_count"], second["window_failures"], second["window_filled_s"]) == (1, 0, 1.0)
        assert second["median_latency_us"] == pytest.approx(1000, rel=0.05)
        assert vitals.tick(3_000_000)["median_latency_us"] is None

    def test_unsent_probes_say_nothing_and_refusals_are_no_response(self) -> None:
        vitals = Vitals(window_s=1.0, started_us=0)
        vitals.add(ErrorKind.UNSENT, scheduled_us=0, latency_us=0)
        found = vitals.tick(200_000)
        assert (found["window_count"], found["failing_since_us"]) == (0, None)
        vitals.add(ErrorKind.REFUSED, scheduled_us=0, latency_us=100)
        assert vitals.tick(400_000)["median_latency_us"] is None

    @pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
    def test_quantiles_are_within_their_resolution(self, share: float) -> None:
        draw = random.Random(1)
        values = sorted(round(draw.lognormvariate(7, 1)) for _ in range(5000))
        histogram = Histogram()
        for value in values:
            histogram.add(Histogram.bin(value))
        assert histogram.quantile(share) == pytest.approx(values[int(share * 5000) - 1], rel=0.03)


class TestBeside:
    """Several probes of one prober: other requests, other kinds, each with its own pace and its own rows."""

    def test_probes_beside_the_health_check_have_their_pace_and_leave_its_numbers_alone(
        self, service: Service, tmp_path: Path
    ) -> None:
        broken = Look(name="orders", address=service.url("/status/503"), rate_hz=25.0)
        closed = Look(name="port", kind="tcp", address="127.0.0.1:1", rate_hz=50.0, arrivals="poisson", seed=3)
        with Prober.start(spec(tmp_path, service.url("/ok"), broken, closed, rate_hz=100.0)) as prober:
            prober.wait_ready()
            until(lambda: prober.live is not None and prober.live.scheduled >= 200)
            live = prober.live
            summary = prober.stop()
        assert live is not None
        assert (live.failures_1s, live.failing_since_us, live.error_rate) == (0, None, 0.0)
        table = rows(tmp_path)
        assert list(table["seq"]) == list(range(summary.scheduled))
        assert table["scheduled_us"].is_monotonic_increasing
        each = {name: table[table["probe"] == name] for name in ("health", "orders", "port")}
        assert {name: len(found) for name, found in each.items()} == {
            name: counts["scheduled"] for name, counts in summary.probes.items()
        }
        assert len(each["health"]) / len(each["orders"]) == pytest.approx(4.0, rel=0.1)
        assert each["health"]["error"].isna().all()
        assert set(each["orders"]["error"]) == {ErrorKind.STATUS}
        assert set(each["port"]["error"]) == {ErrorKind.REFUSED}
        assert each["port"]["scheduled_us"].diff().nunique() > 10
        assert summary.failures == len(each["orders"]) + len(each["port"])

    def test_the_request_is_the_one_that_was_asked_for(self, victim: Service, tmp_path: Path) -> None:
        headers = (("Authorization", "Bearer t0psecret"), ("Content-Type", "application/json"))
        body = '{"name": "käse"}'
        summary, _ = probed(tmp_path, victim.url("/ok"), 4, rate_hz=50.0, method="POST", headers=headers, body=body)
        assert summary.failures == 0
        seen = victim.seen()
        assert seen["authorization"] == "Authorization: Bearer t0psecret"
        assert seen["body"] == body
        assert seen["method"] == "POST"
        assert all(b"t0psecret" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())

    @pytest.mark.parametrize(
        ("success", "kind"),
        [
            (Success(contains="ok"), None),
            (Success(contains="fine"), ErrorKind.BODY),
            (Success(pointer="/state", equals="up"), ErrorKind.BODY),
            (Success(statuses=frozenset({201})), ErrorKind.STATUS),
            (Success(within_s=0.000001), ErrorKind.LATE),
            (Success(within_s=1.0), None),
        ],
    )
    def test_success_is_what_the_user_says_it_is(
        self, success: Success, kind: ErrorKind | None, service: Service, tmp_path: Path
    ) -> None:
        _, table = probed(tmp_path, service.url("/ok"), 4, rate_hz=50.0, success=success)
        assert set(table["error"].dropna()) == ({kind} if kind else set())
        assert set(table["status"]) == {200}

    def test_a_new_connection_each_time(self, victim: Service, tmp_path: Path) -> None:
        summary, _ = probed(tmp_path, victim.url("/ok"), 20, rate_hz=100.0, fresh=True)
        assert summary.failures == 0
        assert victim.seen()["connections"] == summary.scheduled + 1  # and the one that asks

    def test_a_pool_has_its_bound(self, victim: Service, tmp_path: Path) -> None:
        summary, table = probed(tmp_path, victim.url("/slow/0.2"), 40, rate_hz=100.0, limit=3)
        assert summary.unsent == (table["error"] == ErrorKind.UNSENT).sum() > 10
        assert victim.seen()["connections"] <= 3 + 1

    def test_an_open_port_is_a_success_and_a_frozen_one_with_a_full_queue_is_not(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            look = Look(name="port", kind="tcp", address=address, rate_hz=50.0)
            _, table = probed(tmp_path, "http://127.0.0.1:1/", 6, look, rate_hz=10.0)
        assert set(table[table["probe"] == "port"]["outcome"]) == {Outcome.SUCCESS}

    @pytest.mark.parametrize(
        ("script", "status", "kind"),
        [("exit 0", 0, None), ("exit 3", 3, ErrorKind.STATUS), ("kill -9 $$", -9, ErrorKind.STATUS)],
    )
    def test_a_command_that_exits_with_0_is_a_success(
        self, script: str, status: int, kind: ErrorKind | None, tmp_path: Path
    ) -> None:
        look = Look(name="script", kind="command", argv=("sh", "-c", script), rate_hz=20.0)
        _, table = probed(tmp_path, "http://127.0.0.1:1/", 6, look, rate_hz=20.0)
        mine = table[table["probe"] == "script"]
        assert set(mine["status"]) == {status}
        assert set(mine["error"].dropna()) == ({kind} if kind else set())

    def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(self, tmp_path: Path) -> None:
        marker = f"{os.getpid()}{time.monotonic_ns()}"
        argv = ("sh", "-c", f"sleep 61.{marker} & sleep 61.{marker}")
        look = Look(name="script", kind="command", argv=argv, rate_hz=10.0, timeout_s=0.2)
        _, table = probed(tmp_path, "http://127.0.0.1:1/", 10, look, rate_hz=10.0)
        assert set(table[table["probe"] == "script"]["error"]) <= {ErrorKind.TIMEOUT, ErrorKind.UNSENT}
        until(lambda: marker not in commands_running())

    def test_a_command_does_not_outlive_a_prober_that_is_killed(self, tmp_path: Path) -> None:
        marker = f"{os.getpid()}{time.monotonic_ns()}"
        look = Look(name="script", kind="command", argv=("sleep", f"61.{marker}"), rate_hz=1.0, timeout_s=50.0)
        with Prober.start(spec(tmp_path, "http://127.0.0.1:1/", look, rate_hz=10.0)) as prober:
            prober.wait_ready()
            until(lambda: marker in commands_running())
            os.kill(prober.pid, signal.SIGKILL)
            until(lambda: marker not in commands_running())

    def test_a_command_has_none_of_the_probers_privileges(self, tmp_path: Path) -> None:
        told = tmp_path / "told"
        reads = "nice; cat /proc/self/oom_score_adj; cut -d' ' -f41 /proc/self/stat"  # 41: the scheduling policy
        script = f"({reads}) > {told}.new; mv {told}.new {told}"
        look = Look(name="script", kind="command", argv=("sh", "-c", script), rate_hz=5.0)
        with Prober.start(spec(tmp_path, "http://127.0.0.1:1/", look, rate_hz=10.0)) as prober:
            prober.wait_ready()
            until(told.exists)
        assert told.read_text().split() == ["0", "0", "0"]


def commands_running() -> str:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return "\n".join(found)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Premises]:
    """A PostgreSQL that runs."""
    # Not pytest's own folder: nobody else may pass through it, and its path is too long for a socket.
    premises = Premises.at(Path(tempfile.mkdtemp(prefix="chaoslab-shop-")))
    premises.occupy(f"test-shop-{secrets.token_hex(6)}")
    database.create(premises)
    database.start(premises)
    yield premises
    teardown.clear(premises)
    shutil.rmtree(premises.path, ignore_errors=True)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_database_that_answers_freezes_and_is_gone(fresh: bool, postgres: Premises, tmp_path: Path) -> None:
    dsn = f"host={postgres.data} user={database.ROLE} dbname=postgres password=t0psecret"
    look = Look(name="db", kind="postgres", address=dsn, rate_hz=40.0, timeout_s=0.3, fresh=fresh)
    with Prober.start(spec(tmp_path, "http://127.0.0.1:1/", look, rate_hz=10.0)) as prober:
        prober.wait_ready()

        def passed(seconds: float) -> int:
            assert prober.live is not None
            begun_us = prober.live.at_us
            until(lambda: prober.live is not None and prober.live.at_us > begun_us + seconds * 1e6)
            return begun_us

        until(lambda: prober.live is not None)
        passed(0.6)
        frozen = database.server_processes(postgres)
        for process in frozen:
            process.send(signal.SIGSTOP)
        frozen_us = passed(0.8)
        for process in frozen:
            process.send(signal.SIGCONT)
        thawed_us = passed(0.8)
        database.stop(postgres)
        stopped_us = passed(0.6)
        database.start(postgres)
        passed(0.8)
        summary = prober.stop()
    table = rows(tmp_path)
    mine = table[table["probe"] == "db"].set_index("scheduled_us")
    assert summary.probes["db"]["unsent"] == 0
    assert mine.loc[: frozen_us - 400_000, "error"].isna().all()
    assert ErrorKind.TIMEOUT in set(mine.loc[frozen_us:thawed_us, "error"])
    assert {ErrorKind.REFUSED, ErrorKind.STATUS, ErrorKind.RESET} & set(mine.loc[thawed_us:, "error"])
    assert ErrorKind.REFUSED in set(mine.loc[stopped_us - 400_000 :, "error"])
    assert mine["error"].iloc[-4:].isna().all()
    assert all(b"t0psecret" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())

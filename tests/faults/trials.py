"""A trial for every mechanism, with all that it needs: what the kit, the crash harness and the benchmark take.

    with TRIALS["cpu_stress by stress-ng"]() as trial:
        conform(trial)

`HERE` names those that can be tried on any machine that has the programs; `NAMESPACED` ones change the network, and
must be entered within a network namespace of their own. `ELSEWHERE`: what needs another kernel is tried in `uml/`, and
systemd by a stand-in.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from chaoslab.agent import process_table, processes
from chaoslab.agent.search import read_pid_file
from chaoslab.conformance import Trial, do
from chaoslab.demo import launch, teardown
from chaoslab.demo.premises import Premises
from chaoslab.faults import Mechanism, Surroundings, failure_types
from chaoslab.hosts import LocalHost
from chaoslab.targets import Target, find
from tests import machines, servers
from tests.faults.kit import rules, scenario, surroundings
from tests.faults.pingpong import traffic
from tests.faults.test_dns_failure import resolver

Opening = Callable[[], AbstractContextManager[Trial]]

_STALLS: Final = "tcp proxy, loss emulated as retransmission stalls"

ELSEWHERE: Final = frozenset({"tc netem", "systemd"})

# A supervisor in a few lines: starts a sleeper, writes its pid file, starts another when it dies.
SUPERVISOR = """
import subprocess, sys
from chaoslab.agent import processes
while True:
    child = subprocess.Popen(["sleep", "600"])
    found = processes.identify(child.pid)
    open(sys.argv[1], "w").write(f"{found.pid} {found.start_ticks}")
    child.wait()
"""


def mechanism(kind: str, name: str) -> Mechanism:
    """The mechanism of a failure type that has that name."""
    return next(found for found in failure_types()[kind].mechanisms if found.name == name)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stress(kind: str, name: str, **dose: object) -> Opening:
    """Workers on this machine: their processes are all that is to be seen of them, and files in a folder."""

    @contextmanager
    def opened() -> Iterator[Trial]:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            place = {"folder": folder} if kind == "disk_stress" else {}
            asked = scenario(kind, **dose, **place)
            yield _trial(kind, name, asked, surroundings(), lambda: sorted(Path(folder).iterdir()))

    return opened


def _trial(
    kind: str, name: str, asked: Any, where: Surroundings, state: Callable[[], object], *, seconds: float = 0.5
) -> Trial:
    return Trial(mechanism=mechanism(kind, name), asked=asked, where=where, seconds=seconds, state=state)


def container(kind: str, **dose: object) -> Opening:
    """A container that Docker starts again by itself."""

    @contextmanager
    def opened() -> Iterator[Trial]:
        name = f"chaoslab-trial-{secrets.token_hex(4)}"
        with machines.container(name, "sleep", "600", options=["--network=none", "--restart=always"]):
            check = (
                {} if kind == "container_crash" else {"check_command": ["docker", "exec", name, "/bin/busybox", "true"]}
            )
            asked = scenario(kind, container=name, **check, **dose)
            where = surroundings(allow_commands=True)
            yield _trial(kind, "docker", asked, where, lambda: _status(name))

    return opened


def _status(name: str) -> str:
    argv = ["docker", "inspect", "-f", "{{.State.Status}}", name]
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()


def listener(**dose: object) -> Opening:
    """A server that is found by its port; a start command brings one back."""

    @contextmanager
    def opened() -> Iterator[Trial]:
        port = free_port()
        argv = [sys.executable, servers.__file__, str(port), ""]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as first:
            assert first.stdout is not None
            first.stdout.readline()
            start = {} if "action" in dose else {"start_command": argv}
            asked = scenario("container_crash", port=port, **start, **dose)
            where = surroundings(allow_commands=True)
            try:
                yield _trial("container_crash", "process", asked, where, lambda: _states(port))
            finally:
                for found in process_table.listeners(process_table.look(), port):
                    found.identity.send(signal.SIGKILL)

    return opened


def _states(port: int) -> list[bool]:
    """Whether each process that listens on the port runs on."""
    return [found.state != "T" for found in process_table.listeners(process_table.look(), port)]


@contextmanager
def supervised() -> Iterator[Trial]:
    """A process that its supervisor brings back."""
    token = f"supervised-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pid"
        supervisor = processes.spawn([sys.executable, "-c", SUPERVISOR, str(file)], token=token)
        try:
            until(lambda: read_pid_file(file) is not None)
            yield _supervised(file)
        finally:
            processes.end_family(token)
            supervisor.wait()


def _supervised(file: Path) -> Trial:
    target = Target(url="http://127.0.0.1:1", name="sleeper", build="", pid_file=str(file))
    where, asked = surroundings(target), scenario("container_crash")
    return _trial("container_crash", "supervised process", asked, where, lambda: _lives(file))


def _lives(file: Path) -> bool:
    found = read_pid_file(file)
    return found is not None and found.alive


def commands() -> AbstractContextManager[Trial]:
    """A stand-in for a database: it answers while a file is there."""

    @contextmanager
    def opened() -> Iterator[Trial]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "up"
            file.touch()
            asked = scenario(
                "database_outage",
                stop_command=["rm", str(file)],
                start_command=["touch", str(file)],
                check_command=["test", "-e", str(file)],
            )
            where = surroundings(allow_commands=True)
            yield _trial("database_outage", "commands of the scenario", asked, where, file.exists)

    return opened()


def database(name: str, *, seconds: float = 0.5, **dose: Callable[[Premises], object]) -> Opening:
    """The embedded shop's PostgreSQL."""

    @contextmanager
    def opened() -> Iterator[Trial]:
        folder = Path(tempfile.mkdtemp(prefix="chaoslab-trial-"))
        shop = Premises.at(folder)
        try:
            with launch(folder=folder, build="resilient", token=f"trial-shop-{secrets.token_hex(6)}") as running:
                target = find(running.url)
                asked = scenario("database_outage", **{key: value(shop) for key, value in dose.items()})
                where, state = surroundings(target), lambda: _answers(shop)
                yield _trial("database_outage", name, asked, where, state, seconds=seconds)
        finally:
            teardown.clear(shop)

    return opened


def _answers(shop: Premises) -> bool:
    argv = [sys.executable, "-m", "chaoslab.agent.database", "ping", f"host={shop.data} port=5432"]
    return subprocess.run(argv, capture_output=True).returncode == 0


def proxied(kind: str, name: str, **dose: object) -> Opening:
    """A fault of the proxy, which stands between the prober and a server for the whole run, and is asked all along."""

    @contextmanager
    def opened() -> Iterator[Trial]:
        host = LocalHost()
        with servers.running() as server:
            where = replace(surroundings(), url=server.url("/ok"))
            route = mechanism(kind, name).route(where, seconds=3600, token=f"trial-{secrets.token_hex(4)}")
            assert route is not None
            do(route.step, host)
            try:
                until(lambda: _connects(route.connect_to))
                with _asked_all_along(route.connect_to):
                    yield _trial(kind, name, scenario(kind, **dose), replace(where, route=route), lambda: None)
            finally:
                assert host.run(route.step.undo, timeout=10).ok

    return opened


@contextmanager
def _asked_all_along(address: tuple[str, int]) -> Iterator[None]:
    """Connect and ask again and again, whatever becomes of it."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            with contextlib.suppress(OSError), socket.create_connection(address, timeout=0.2) as connection:
                connection.sendall(b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n")
                connection.recv(100)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _connects(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def lost(name: str) -> Opening:
    """Packets that a filter drops, from much traffic; all of them, so that chance has no part in it."""

    @contextmanager
    def opened() -> Iterator[Trial]:
        with traffic(connections=30) as port:
            where = replace(surroundings(), url=f"http://127.0.0.1:{port}")
            yield _trial("packet_loss", name, scenario("packet_loss", loss_percent=100), where, rules)

    return opened


def parted(name: str) -> Opening:
    """A server that nothing reaches."""

    @contextmanager
    def opened() -> Iterator[Trial]:
        with servers.running() as server:
            where = replace(surroundings(), url=server.url("/ok"))
            yield _trial("network_partition", name, scenario("network_partition"), where, rules)

    return opened


def unresolved(name: str) -> Opening:
    """A resolver that does not answer."""

    @contextmanager
    def opened() -> Iterator[Trial]:
        with resolver() as address:
            yield _trial("dns_failure", name, scenario("dns_failure", resolver=address), surroundings(), rules)

    return opened


def cut(name: str) -> Opening:
    """A port that is cut off."""

    @contextmanager
    def opened() -> Iterator[Trial]:
        with servers.running() as server:
            client = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=0.3)"
            check = [sys.executable, "-c", client, str(server.port)]
            asked = scenario("database_outage", cut_port=server.port, cut_by="drop", check_command=check)
            yield _trial("database_outage", name, asked, surroundings(allow_commands=True), rules)

    return opened


def _data(shop: Premises) -> str:
    return str(shop.data)


def _server(shop: Premises) -> dict[str, str]:
    return {"pid_file": str(shop.data / "postmaster.pid")}


def _address(shop: Premises) -> str:
    return f"host={shop.data} port=5432"


HERE: Final[dict[str, Opening]] = {
    "cpu_stress by stress-ng": stress("cpu_stress", "stress-ng", cpu_workers=1),
    "cpu_stress by python workers": stress("cpu_stress", "python workers", cpu_workers=1),
    "memory_stress by stress-ng": stress("memory_stress", "stress-ng", memory_size="64M"),
    "memory_stress by python worker": stress("memory_stress", "python worker", memory_size="64M"),
    "disk_stress by stress-ng": stress("disk_stress", "stress-ng", io_workers=1),
    "disk_stress by python workers": stress("disk_stress", "python workers", io_workers=1),
    "network_latency by tcp proxy": proxied("network_latency", "tcp proxy", delay_ms=50),
    "packet_loss by tcp proxy": proxied(
        "packet_loss", "tcp proxy, loss emulated as retransmission stalls", loss_percent=100
    ),
    "network_partition by tcp proxy": proxied("network_partition", "tcp proxy, black hole"),
    "http_fault by http proxy": proxied("http_fault", "http proxy", status=503),
    "container_crash by docker": container("container_crash"),
    "container_crash by docker, pause": container("container_crash", action="pause"),
    "container_crash by process": listener(),
    "container_crash by process, pause": listener(action="pause"),
    "container_crash by supervised process": supervised,
    "database_outage by docker": container("database_outage", action="pause"),
    "database_outage by pg_ctl": database("pg_ctl", data_directory=_data),
    "database_outage by commands of the scenario": commands,
    "database_outage by frozen server": database("frozen server", seconds=2.0, freeze=_server, connection=_address),
    "database_outage by control published by the target": database("control published by the target"),
}
NAMESPACED: Final[dict[str, Opening]] = {
    "packet_loss by nftables": lost("nftables"),
    "packet_loss by iptables": lost("iptables"),
    "network_partition by nftables": parted("nftables"),
    "network_partition by iptables": parted("iptables"),
    "dns_failure by nftables": unresolved("nftables"),
    "dns_failure by iptables": unresolved("iptables"),
    "database_outage by port cut by nftables": cut("port cut by nftables"),
    "database_outage by port cut by iptables": cut("port cut by iptables"),
}
TRIALS: Final = HERE | NAMESPACED

"""No fault takes away what it takes to undo it: ssh, Docker's API, the kernel that we run in, our own processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from chaoslab.faults.base import Mechanism
from chaoslab.faults.lifelines import endangered
from chaoslab.faults.systemd import needed
from chaoslab.faults.traffic import Traffic
from chaoslab.hosts import LocalHost
from tests import servers
from tests.faults.kit import scenario, surroundings
from tests.faults.trials import mechanism
from tests.machines import container

REPOSITORY = Path(__file__).parents[2]

NETWORK = [
    ("network_latency", "tc netem", {"delay_ms": 50}),
    ("network_impairment", "tc netem", {"rate_kbit": 100}),
    ("packet_loss", "tc netem", {"loss_percent": 5}),
    ("packet_loss", "nftables", {"loss_percent": 5}),
    ("packet_loss", "iptables", {"loss_percent": 5}),
    ("network_partition", "tc netem", {}),
    ("network_partition", "nftables", {}),
    ("network_partition", "iptables", {}),
]
CUTS = [("database_outage", f"port cut by {tool}") for tool in ("nftables", "iptables")]


@pytest.mark.parametrize(("port", "what"), [(22, "ssh"), (2375, "Docker's API"), (2376, "Docker's API")])
@pytest.mark.parametrize(("kind", "name", "dose"), NETWORK)
def test_no_network_fault_hits_a_port_by_which_it_is_undone(
    kind: str, name: str, dose: dict[str, object], port: int, what: str
) -> None:
    asked = scenario(kind, **dose, port=port)
    assert f"it would hit {what} (port {port})" in str(mechanism(kind, name).obstacle(asked, surroundings()))


@pytest.mark.parametrize("address", [None, "192.0.2.7"])
@pytest.mark.parametrize(("kind", "name"), CUTS)
def test_no_port_is_cut_by_which_the_cut_is_undone(kind: str, name: str, address: str | None) -> None:
    where = {} if address is None else {"cut_address": address}
    asked = scenario(kind, cut_port=22, cut_by="drop", connection="host=127.0.0.1 port=5432", **where)
    assert "it would hit ssh (port 22)" in str(mechanism(kind, name).obstacle(asked, surroundings()))


@pytest.mark.parametrize("name", ["nftables", "iptables"])
def test_a_resolver_on_such_a_port_is_no_victim(name: str) -> None:
    found = mechanism("dns_failure", name).obstacle(scenario("dns_failure", resolver="127.0.0.1:22"), surroundings())
    assert "it would hit ssh" in str(found)


PROXIES = [
    ("network_latency", "tcp proxy", {"delay_ms": 50}),
    ("network_partition", "tcp proxy, black hole", {}),
    ("http_fault", "http proxy", {"status": 503}),
]


@pytest.mark.parametrize(("kind", "name", "dose"), PROXIES)
def test_a_proxy_touches_nobodys_packets_but_the_probers(kind: str, name: str, dose: dict[str, object]) -> None:
    found: Mechanism = mechanism(kind, name)
    where = surroundings()
    assert found.obstacle(scenario(kind, **dose), where) is None
    route = found.route(where, seconds=1, token="t")
    assert route is not None
    assert route.connect_to[0] == "127.0.0.1"
    assert "--control" not in route.step.do  # it is asked over a Unix socket, which no packet filter sees


def everything(network: str) -> Traffic:
    return Traffic((ip_network(network),), None, ())


def test_the_operators_own_session_is_spared_whatever_port_and_network_it_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.9 50000 203.0.113.1 2222")
    assert "the ssh session from 198.51.100.9" in str(endangered(everything("198.51.100.0/24"), LocalHost()))
    to_its_port = Traffic((ip_network("198.51.100.9"),), 2222)
    assert "the ssh session from 198.51.100.9" in str(endangered(to_its_port, LocalHost()))
    assert endangered(everything("192.0.2.0/24"), LocalHost()) is None
    assert endangered(Traffic((ip_network("192.0.2.9"),), 2222), LocalHost()) is None


def test_the_engine_that_docker_host_names_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.9:4243")
    assert "Docker's API (port 4243)" in str(endangered(Traffic((ip_network("192.0.2.9"),), 4243), LocalHost()))


# Somebody is logged in, as far as the kernel can tell: a connection to port 22 in a network of its own.
LOGGED_IN = """
import ipaddress, socket
from chaoslab.faults.lifelines import endangered
from chaoslab.faults.traffic import Traffic
from chaoslab.hosts import LocalHost
listener = socket.create_server(("127.0.0.1", 22))
client = socket.create_connection(("127.0.0.1", 22), source_address=("127.0.0.7", 0))
print(endangered(Traffic((ipaddress.ip_network("127.0.0.7"),), None, ()), LocalHost()))
print(endangered(Traffic((ipaddress.ip_network("127.0.0.8"),), None, ()), LocalHost()))
"""


def test_a_session_that_sudo_or_cron_hides_is_seen_all_the_same() -> None:
    argv = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-c", LOGGED_IN]
    environment = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
    shown = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "the ssh session from 127.0.0.7" in shown[0]
    assert shown[1] == "None"


# The ports of the kernel that runs this, as a cell and as a command below it see them.
IN_A_KERNEL = """
import json, subprocess, sys
code = '''
import json
from chaoslab.faults.lifelines import lifelines
from chaoslab.hosts import LocalHost
print(json.dumps(sorted({line.port for line in lifelines(LocalHost()) if "kernel" in line.what})))
'''
exec(code)
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout, end="")
"""


@pytest.fixture
def kernel() -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_the_ports_of_the_kernel_that_we_run_in_are_spared(
    kernel: tuple[KernelManager, BlockingKernelClient],
) -> None:
    manager, client = kernel
    printed: list[str] = []
    client.execute_interactive(
        IN_A_KERNEL, timeout=60, output_hook=lambda message: printed.append(message["content"].get("text", ""))
    )
    file = json.loads(Path(manager.connection_file).read_text())
    ports = sorted(value for name, value in file.items() if name.endswith("_port"))
    assert [json.loads(line) for line in "".join(printed).splitlines()] == [ports, ports]


def test_a_target_on_loopback_is_no_lifeline_though_we_serve_it_ourselves() -> None:
    with servers.running() as server:
        assert endangered(Traffic((ip_network("127.0.0.1"),), server.port), LocalHost()) is None


# Processes and containers.


def test_stress_is_not_placed_beside_chaoslab_itself() -> None:
    for pid in (1, os.getpid()):
        argv = [sys.executable, "-m", "chaoslab.agent.within", "--pid-file", "/dev/stdin", "--", "true"]
        ended = subprocess.run(argv, input=str(pid), capture_output=True, text=True)
        assert ended.returncode == 125
        assert f"process {pid} can be no placement: chaoslab itself runs below it" in ended.stderr


IN_A_CONTAINER = """
import sys
from chaoslab.errors import NotDelivered
from chaoslab.faults.containers import running
try:
    running(sys.argv[1])
except NotDelivered as refusal:
    print(refusal)
"""


def test_the_container_that_we_run_in_is_no_victim() -> None:
    name = "chaoslab-test-own-container"
    # This machine's files are all that it has: the interpreter that runs this test is the one in there too.
    with container(name, "sleep", "600", options=["--network=none", "--volume=/:/machine"]):
        inside = ["docker", "exec", f"--env=PYTHONPATH={REPOSITORY}", name, "/bin/busybox", "chroot", "/machine"]
        argv = [*inside, sys.executable, "-c", IN_A_CONTAINER, name]
        shown = subprocess.run(argv, capture_output=True, text=True)
    assert f"the container '{name}' can be no victim: chaoslab itself runs in it" in shown.stdout, shown.stderr


def test_the_unit_that_we_run_in_and_that_of_ssh_are_no_victims() -> None:
    class InAUnit(LocalHost):
        """A machine of which this command is part of a unit."""

        def run(self, argv, **_):  # type: ignore[no-untyped-def]
            return super().run(("echo", "0::/system.slice/jupyter.service"), timeout=5)

    assert "chaoslab itself runs in it" in str(needed(InAUnit(), "jupyter"))
    assert "chaoslab itself runs in it" in str(needed(InAUnit(), "jupyter.service"))
    assert needed(InAUnit(), "postgresql") is None
    assert "hosts are reached" in str(needed(LocalHost(), "ssh.service"))

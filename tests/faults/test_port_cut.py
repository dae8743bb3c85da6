"""database_outage by cutting the port, for real, each test in a network namespace of its own."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from chaoslab.faults import Surroundings
from chaoslab.faults.database_outage import CutPort
from chaoslab.faults.port_cut import Iptables, Nft
from chaoslab.scenario import Scenario
from tests import servers
from tests.faults.kit import HOST, deliver, do, scenario, surroundings

MECHANISMS = pytest.mark.parametrize("mechanism", [CutPort(Nft()), CutPort(Iptables())], ids=lambda cut: cut.name)
# A client that soon gives up stands for the one of a database.
CLIENT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.3)"


def rules() -> list[str]:
    """Every rule of ours that filters packets here."""
    commands = (["nft", "--stateless", "list", "ruleset"], ["iptables-save"], ["ip6tables-save"])
    texts = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
    return [line for text in texts for line in text.splitlines() if "chaoslab" in line.lower()]


def cutting(port: int, by: str = "drop", **more: str) -> tuple[Scenario, Surroundings]:
    check = [sys.executable, "-c", CLIENT, "127.0.0.1", str(port)]
    return scenario("database_outage", cut_port=port, cut_by=by, check_command=check, **more), surroundings(
        allow_commands=True
    )


@pytest.mark.parametrize(
    ("mechanism", "address"),
    [
        (CutPort(Nft()), {}),
        (CutPort(Nft()), {"cut_address": "127.0.0.1"}),
        (CutPort(Iptables()), {"cut_address": "127.0.0.1"}),
    ],
    ids=["nftables, all addresses", "nftables", "iptables"],
)
def test_a_port_that_is_cut_refuses_and_answers_again(
    namespace: None, mechanism: CutPort, address: dict[str, str]
) -> None:
    with servers.running() as database:
        (dose,) = deliver(mechanism, *cutting(database.port, **address), seconds=0.3)
    assert dose.ok
    assert mechanism.name in dose.mechanism
    assert rules() == []


@MECHANISMS
def test_other_ports_stay_open_and_a_cut_that_got_half_way_can_be_undone(namespace: None, mechanism: CutPort) -> None:
    with servers.running() as database, servers.running() as other:
        asked, where = cutting(database.port)
        steps = mechanism.inject(asked, where, seconds=1, token="test-half").steps
        for begun in range(1, len(steps) + 1):
            for step in steps[:begun]:
                do(step)
            assert rules() != []
            socket.create_connection(("127.0.0.1", other.port), timeout=1).close()
            assert HOST.run(steps[begun - 1].undo, timeout=10).ok
            assert rules() == []
        socket.create_connection(("127.0.0.1", database.port), timeout=1).close()


def test_a_rejected_client_is_told_so_at_once(namespace: None) -> None:
    with servers.running() as database:
        asked, where = cutting(database.port, by="reject")
        (step,) = CutPort(Nft()).inject(asked, where, seconds=1, token="test-reject").steps
        do(step)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", database.port), timeout=5)
        assert HOST.run(step.undo, timeout=10).ok


def test_iptables_is_refused_where_it_would_have_to_reject(namespace: None) -> None:
    obstacle = str(CutPort(Iptables()).obstacle(*cutting(9, by="reject")))
    assert "cut_by: drop" in obstacle


@MECHANISMS
def test_a_machine_that_cannot_cut_says_why(mechanism: CutPort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "cannot be cut" in str(mechanism.obstacle(None, surroundings()))


def test_a_port_here_is_refused_when_the_target_is_elsewhere(namespace: None) -> None:
    asked, _ = cutting(9)
    obstacle = CutPort(Nft()).obstacle(asked, surroundings(local=False, allow_commands=True))
    assert "allow_other_host" in str(obstacle)

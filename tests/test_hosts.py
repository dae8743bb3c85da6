"""Hosts: a command runs there as it would here, nothing stays behind, and a host that cannot be used says why."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chaoslab.agent import processes
from chaoslab.agent.ssh import _FIRST, parcel
from chaoslab.errors import NotDelivered, UsageError
from chaoslab.faults import choose
from chaoslab.hosts import Host, LocalHost, host_of
from chaoslab.hosts.ssh import CONFIG_VARIABLE
from tests import servers
from tests.conftest import missing
from tests.faults.kit import scenario, surroundings
from tests.machines import ELSEWHERE, container, sshd
from tests.test_processes import until

LOCAL = LocalHost()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.geteuid() != 0:
        missing("an sshd of the test's own needs root")
    with sshd(tmp_path_factory.mktemp("sshd")) as config:
        yield config


@pytest.fixture
def ssh(config: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    return host_of("ssh://here")


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """A container that serves something, at a published port."""
    if os.geteuid() != 0:
        missing("entering a container takes root")
    web = ("httpd", "-f", "-p", "8080", "-h", "/bin")
    with container("chaoslab-test-shop", *web, options=["--publish=127.0.0.1::8080"]) as name:
        yield name


@pytest.fixture
def token() -> Iterator[str]:
    name = f"test-{os.urandom(6).hex()}"
    yield name
    assert not processes.end_family(name)


def usage(token: str) -> int:
    found: int = processes.usage(token)["processes"]
    return found


@pytest.mark.parametrize(
    "name", ["remote", "docker", "ssh://", "ssh://-oProxyCommand=x", "ssh://h:x", "ssh://u:p@h", "ssh://h/folder"]
)
def test_what_names_no_host_is_refused_with_what_is_accepted(name: str) -> None:
    with pytest.raises(UsageError, match=r"is not accepted"):
        host_of(name)


def test_arguments_arrive_over_ssh_as_they_were_given(ssh: Host) -> None:
    odd = ("", "a  b", "$HOME", "it's", '"quoted"', "*", "new\nline", "--", "é")
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    found = ssh.run(("python3", "-c", code, *odd), timeout=20)
    assert json.loads(found.stdout) == list(odd)


def test_an_exit_code_and_the_last_words_come_back_over_ssh(ssh: Host) -> None:
    found = ssh.run(("sh", "-c", "echo no such thing >&2; exit 7"), timeout=20)
    assert (found.exit_code, found.stderr.strip()) == (7, "no such thing")
    assert ssh.run(("no-such-program",), timeout=20).exit_code == 127


def test_the_agent_runs_over_ssh_where_there_is_no_chaoslab(ssh: Host) -> None:
    assert "No module named" in ssh.run(("python3", "-c", "import chaoslab"), timeout=20).stderr
    assert ssh.facts(programs=["sh", "no-such-program"]).programs.keys() == {"sh"}


def test_a_command_that_is_held_over_ssh_is_ended_there_by_its_token(ssh: Host, token: str) -> None:
    spin = (sys.executable, "-m", "chaoslab.agent.workers", "cpu", "--workers", "2", "--seconds", "60")
    client = processes.spawn(ssh.reach(spin, token=token), token="client")
    until(lambda: usage(token) == 3)  # a leader and its two workers; neither the client nor its watcher is one of them
    assert ssh.run((sys.executable, "-m", "chaoslab.agent.processes", "end", token), timeout=20).ok
    assert usage(token) == 0
    client.wait(timeout=10)


def test_a_command_ends_with_the_connection_that_started_it(ssh: Host, token: str) -> None:
    sleep = ("sh", "-c", "setsid sleep 60 & sleep 60")
    client = processes.spawn(ssh.reach(sleep, token=token), token="client")
    until(lambda: usage(token) == 3)
    assert not processes.end_family("client")
    client.wait()
    until(lambda: usage(token) == 0)


def far_end(*changes: tuple[bytes, bytes], argv: tuple[str, ...], token: str = "") -> subprocess.Popen[bytes]:
    """What ssh would start there, without ssh, its text changed."""
    first, modules = parcel()
    for old, new in changes:
        assert old in first
        first = first.replace(old, new)
    command = ["python3", "-c", _FIRST, str(len(first)), str(len(modules)), *argv]
    marked = os.environ | {processes.TOKEN_VARIABLE: token}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=marked, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(first + modules)
    process.stdin.flush()
    return process


def test_a_command_ends_when_the_connection_falls_silent(token: str) -> None:
    with far_end((b"SILENCE_SECONDS = 15.0", b"SILENCE_SECONDS = 0.2"), argv=("sleep", "60"), token=token) as process:
        assert process.wait(timeout=10) == 128 + 15
        assert usage(token) == 0


def test_a_python_that_is_too_old_is_named() -> None:
    with far_end((b"_OLDEST = (3, 11)", b"_OLDEST = (9, 0)"), argv=("true",)) as process:
        assert b"Python 3.11 or newer is needed" in process.communicate(timeout=10)[1]
        assert process.returncode == 125


def test_a_machine_that_does_not_answer_is_refused_in_sshs_own_words(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(UsageError, match=r"Connection refused"):
            host_of(f"ssh://127.0.0.1:{closed.getsockname()[1]}")
    stranger = tmp_path / "config"
    stranger.write_text(config.read_text().replace("HostKeyAlias test", "HostKeyAlias stranger"))
    monkeypatch.setenv(CONFIG_VARIABLE, str(stranger))
    with pytest.raises(UsageError, match=r"Host key verification failed.*connect once with ssh, and accept its key"):
        host_of("ssh://here")
    stranger.write_text(config.read_text().replace("/user\n", "/host\n"))
    with pytest.raises(UsageError, match=r"Permission denied.*give ssh a key"):
        host_of("ssh://here")


def test_a_machine_without_python_is_refused_before_anything_is_done(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "config"
    bare.write_text(config.read_text().replace("sshd -i", "sshd -o SetEnv=PATH=/nonexistent -i"))
    monkeypatch.setenv(CONFIG_VARIABLE, str(bare))
    with pytest.raises(UsageError, match=r"python3|env"):
        host_of("ssh://elsewhere")


def test_a_target_is_served_by_the_machine_whose_address_it_has(
    config: Path, ssh: Host, need: Callable[[str, str], None]
) -> None:
    need("ip", "apt-get install iproute2")
    other = host_of("ssh://elsewhere")
    assert other.serves(f"http://{ELSEWHERE}:80")
    assert not other.serves("http://127.0.0.1:80")
    assert not other.serves("http://no-such-host.invalid")
    assert ssh.serves("http://127.0.0.1:80")  # it is this very machine
    assert not ssh.serves(f"http://{ELSEWHERE}:80")


def test_a_container_is_entered_with_our_own_tools(shop: str) -> None:
    host = host_of(f"docker:{shop}")
    here, there = LOCAL.facts(), host.facts(programs=["python3"])
    assert "python3" in there.programs
    assert there.machine != here.machine
    assert any("/docker/" in group or "docker-" in group for group in there.groups)
    assert set(there.interfaces) == {"lo", "eth0"}


def test_a_target_is_served_by_the_container_that_has_its_address_or_publishes_its_port(shop: str) -> None:
    host = host_of(f"docker:{shop}")
    described = json.loads(subprocess.run(["docker", "inspect", shop], capture_output=True, check=True).stdout)[0]
    network = described["NetworkSettings"]
    assert host.serves(f"http://{network['IPAddress']}:8080")
    assert host.serves(f"http://127.0.0.1:{network['Ports']['8080/tcp'][0]['HostPort']}")
    with servers.running() as other:
        assert not host.serves(other.url("/"))


def test_a_container_in_this_machines_network_serves_the_ports_that_it_listens_on() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    web = ("httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "/bin")
    with container("chaoslab-test-open", *web, options=["--network=host"]) as name, servers.running() as other:
        host = host_of(f"docker:{name}")
        until(lambda: host.serves(f"http://127.0.0.1:{port}"))
        assert not host.serves(other.url("/"))


def test_an_unknown_container_is_refused_and_those_that_run_are_named(shop: str) -> None:
    with pytest.raises(UsageError, match=rf"no container 'none-such'; running: .*{shop}"):
        host_of("docker:none-such")


def test_without_an_engine_a_container_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(UsageError, match=r"Docker engine does not answer.*start dockerd"):
        host_of("docker:any")
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(UsageError, match=r"another machine; accepted: unix://SOCKET"):
        host_of("docker:any")


def test_an_undo_in_a_container_that_has_gone_is_success_but_nothing_else_is() -> None:
    with container("chaoslab-test-gone", "sleep", "600", options=["--network=none"]) as name:
        host = host_of(f"docker:{name}")
        assert LOCAL.run(host.reach(("false",), undo=True), timeout=10).exit_code == 1
        subprocess.run(["docker", "kill", name], check=True, capture_output=True)
        assert LOCAL.run(host.reach(("false",), undo=True), timeout=10).ok
        refused = LOCAL.run(host.reach(("true",)), timeout=10)
        assert not refused.ok
        assert f"the container '{name}' is exited, not running" in refused.problem


def test_an_undo_that_cannot_tell_whether_the_container_has_gone_is_no_success(
    shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = host_of(f"docker:{shop}").reach(("true",), undo=True)
    monkeypatch.setenv("DOCKER_HOST", "unix:///none.sock")
    assert not LOCAL.run(command, timeout=10).ok


def test_a_process_of_ours_in_a_container_is_found_and_ended_after_the_container_has_gone(token: str) -> None:
    with container("chaoslab-test-gone", "sleep", "600", options=["--network=none"]) as name:
        host = host_of(f"docker:{name}")
        sleeper = processes.spawn(host.reach(("sleep", "60"), token=token), token=token)
        until(lambda: usage(token) == 1 and Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n")
        subprocess.run(["docker", "rm", "--force", name], check=True, capture_output=True)
        end = host.reach((sys.executable, "-m", "chaoslab.agent.processes", "end", token), undo=True)
        assert LOCAL.run(end, timeout=10).ok
        assert usage(token) == 0
        sleeper.wait()


def test_a_place_that_is_none_is_refused(tmp_path: Path) -> None:
    stale = tmp_path / "pid"
    stale.write_text(f"{os.getpid()} 1")
    for place, words in {("--pid-file", str(stale)): "is gone", ("--port", "1"): "no process"}.items():
        found = LOCAL.run((sys.executable, "-m", "chaoslab.agent.within", *place, "--", "true"), timeout=10)
        assert found.exit_code == 125
        assert words in found.stderr


class Elsewhere(LocalHost):
    """A host that is another one by name."""

    name = "elsewhere"


BOUND = [("container_crash", {"container": "web"}), ("network_latency", {"delay_ms": 5})]


@pytest.mark.parametrize(("kind", "dose"), BOUND)
def test_what_would_act_on_this_machine_is_not_chosen_for_another(kind: str, dose: dict[str, object]) -> None:
    with pytest.raises(NotDelivered, match="it acts on this machine, not on elsewhere"):
        choose(scenario(kind, **dose), replace(surroundings(), host=Elsewhere()))

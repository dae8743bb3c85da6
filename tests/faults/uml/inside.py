"""Inside User Mode Linux: take netem through its paces, and write what was found as JSON, one entry a question."""

from __future__ import annotations

import ctypes
import gc
import json
import multiprocessing
import os
import runpy
import shlex
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import chaoslab.faults.shares
from chaoslab.agent.crossing import cross
from chaoslab.faults import Injection, Mechanism, Surroundings
from chaoslab.faults.netem import Netem
from chaoslab.faults.network_partition import NetemPartition
from chaoslab.hosts import Completed, LocalHost
from chaoslab.journal import now_us
from tests.faults import kit, pingpong
from tests.faults.kit import deliver, read, scenario, surroundings
from tests.servers import OK


class ForkingHost(LocalHost):
    """Runs the package's own commands in a fork of this process: importing it anew takes this kernel seconds."""

    def run(
        self, argv: Sequence[str], *, timeout: float, token: str = "", watch: Callable[[], None] = lambda: None
    ) -> Completed:
        if tuple(argv[:2]) != (sys.executable, "-m"):
            return super().run(argv, timeout=timeout, token=token, watch=watch)
        if argv[2] == "chaoslab.agent.together":
            return self.run_each([json.loads(command) for command in argv[3:]], timeout)
        ours, theirs = _FORK.Pipe()
        process = _FORK.Process(target=_command, args=(argv[2], tuple(argv[2:]), theirs))
        process.start()
        process.join(timeout)
        if not ours.poll():
            process.kill()
            return Completed(tuple(argv), None, "", "")
        return Completed(tuple(argv), *ours.recv())

    def run_each(self, commands: list[list[str]], timeout: float) -> Completed:
        """As `chaoslab.agent.together`, one after another."""
        ended = [self.run(command, timeout=timeout) for command in commands]
        said = {key: value for one in ended if one.stdout for key, value in json.loads(one.stdout).items()}
        worst = next((one.exit_code for one in ended if one.exit_code), 0)
        return Completed(("together",), worst, json.dumps(said), "")


_FORK = multiprocessing.get_context("fork")


def _command(module: str, argv: tuple[str, ...], answer: Connection) -> None:
    out, err, sys.argv = StringIO(), StringIO(), list(argv)
    # Imported above already, and run anew all the same.
    sys.modules.pop(module, None)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            runpy.run_module(module, run_name="__main__")
    except SystemExit as ending:
        answer.send((ending.code, out.getvalue(), err.getvalue()))


FAR, NEAR, NETWORK = "10.99.0.2", "10.99.0.1", 24
_CLONE_NEWNET = 0x40000000


@contextmanager
def beside(work: Callable[[Connection], None]) -> Iterator[Connection]:
    """Do some work in a fork of this process meanwhile."""
    ours, theirs = _FORK.Pipe()
    process = _FORK.Process(target=work, args=(theirs,))
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def _answer(host: str, report: Connection) -> None:
    with socket.create_server((host, 0)) as server:
        report.send(server.getsockname()[1])
        while True:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while connection.recv(65_536):
                    connection.sendall(OK)


@contextmanager
def service(host: str = "127.0.0.1") -> Iterator[int]:
    """Yield the port of a service that answers one connection after another."""
    with beside(lambda report: _answer(host, report)) as report:
        yield report.recv()


@contextmanager
def traffic(connections: int = 4) -> Iterator[int]:
    """As `pingpong.traffic`."""
    with beside(lambda report: pingpong.play("127.0.0.1", connections, report.send)) as report:
        yield report.recv()


def _far(report: Connection) -> None:
    assert ctypes.CDLL(None).unshare(_CLONE_NEWNET) == 0
    report.send(os.getpid())
    report.recv()
    for words in (f"addr add {FAR}/{NETWORK} dev far0", "link set far0 up", "link set lo up"):
        subprocess.run(["ip", *words.split()], check=True)
    _answer(FAR, report)


@contextmanager
def another_machine() -> Iterator[int]:
    """Yield the port of a service at FAR, in a network namespace of its own, behind the interface near0."""
    with beside(_far) as report:
        pid = report.recv()
        subprocess.run(f"ip link add near0 type veth peer name far0 netns {pid}".split(), check=True)
        for words in (f"addr add {NEAR}/{NETWORK} dev near0", "link set near0 up"):
            subprocess.run(["ip", *words.split()], check=True)
        report.send("go on")
        port = report.recv()
        try:
            yield port
        finally:
            subprocess.run(["ip", "link", "del", "near0"], check=True)


def to(port: int, host: str = "127.0.0.1") -> Surroundings:
    return replace(surroundings(), url=f"http://{host}:{port}")


def queues() -> str:
    """Everything that we might have changed: queues, what leads to them, and devices."""
    commands = ("tc qdisc show", "tc filter show dev near0 ingress", "ip -o link show type ifb")
    return "".join(subprocess.run(command.split(), capture_output=True, text=True).stdout for command in commands)


def prepare(mechanism: Mechanism, port: int, kind: str, host: str = "127.0.0.1", **dose: Any) -> Injection:
    return mechanism.inject(scenario(kind, **dose), to(port, host), seconds=1.0, token="uml")


def undo(injection: Injection) -> list[str]:
    commands = {step.undo: step.undo_limit for step in reversed(injection.steps)}
    results = [kit.HOST.run(command, timeout=limit) for command, limit in commands.items()]
    return [result.problem for result in results if not result.ok]


def delivered(kind: str, where: Surroundings, seconds: float = 0.1, **dose: Any) -> dict[str, Any]:
    """Deliver a fault; return its doses by quantity, and whether everything was restored.

    As `kit.deliver` does it, less what takes this kernel long: the obstacle is asked for and the undo done twice there.
    """
    before = queues()
    mechanism = NetemPartition() if kind == "network_partition" else Netem()
    injection = mechanism.inject(scenario(kind, **dose), where, seconds=seconds, token="uml")
    first = read(injection.steps[-1])
    try:
        for step in injection.steps:
            kit.do(step)
        readings = [first, *kit.wait_for_effect(injection, first)]
        time.sleep(seconds)
        readings.append(read(injection.steps[-1]))
    finally:
        problems = undo(injection)
    doses = {measured.quantity: measured.as_dict() for measured in injection.doses(readings)}
    return {**doses, "problems": problems, "restored": queues() == before}


def delay_by_the_kit() -> Any:
    before = queues()
    with service() as port:
        (dose,) = deliver(Netem(), scenario("network_latency", delay_ms=50), to(port), seconds=0.1)
    return {dose.quantity: dose.as_dict(), "restored": queues() == before}


def delay_both_ways() -> Any:
    with service() as port:
        return delivered("network_latency", to(port), delay_ms=30, direction="both")


def loss() -> Any:
    with traffic(connections=60) as port:
        return delivered("packet_loss", to(port), seconds=1.0, loss_percent=15)


def loss_by_states() -> Any:
    with traffic(connections=25) as port:
        states = {"p13_percent": 4, "p31_percent": 30, "p32_percent": 20, "p23_percent": 60, "p14_percent": 3}
        return delivered("packet_loss", to(port), seconds=0.5, loss_state=states)


def everything() -> Any:
    burst = {"p_percent": 2, "r_percent": 20, "bad_loss_percent": 80, "good_loss_percent": 1}
    shares = {"duplicate_percent": 10, "corrupt_percent": 40, "corrupt_correlation_percent": 25, "reorder_percent": 20}
    jitter = {"delay_ms": 40, "jitter_ms": 5, "delay_distribution": "normal"}
    with traffic() as port:
        return delivered("network_impairment", to(port), loss_gemodel=burst, **shares, **jitter)


def rate() -> Any:
    with traffic() as port:
        return delivered("network_impairment", to(port), rate_kbit=1000, delay_ms=10)


def loss_over_ipv6() -> Any:
    asked = scenario("packet_loss", loss_percent=100)
    injection = Netem().inject(asked, to(9, "[::1]"), seconds=1.0, token="uml")
    for step in injection.steps:
        kit.do(step)
    with suppress(TimeoutError):
        socket.create_connection(("::1", 9), timeout=0.1)
    return {**read(injection.steps[-1]).data, "problems": undo(injection)}


def others() -> Any:
    with service() as target, service() as other:
        injection = prepare(Netem(), target, "network_latency", delay_ms=100)
        began = now_us()
        for step in injection.steps:
            kit.do(step)
        done = now_us()
        ports = {"target": target, "other": other}
        found = {name: cross(f"http://127.0.0.1:{port}")["rtt_ms"] for name, port in ports.items()}
        ending = now_us()
        problems = undo(injection)
        over = now_us()
        after = cross(f"http://127.0.0.1:{target}")["rtt_ms"]
    return {
        **found,
        "after": after,
        "problems": problems,
        "do_ms": (done - began) / 1e3,
        "undo_ms": (over - ending) / 1e3,
    }


def coming_in() -> Any:
    with another_machine() as port:
        dose: dict[str, Any] = {"delay_ms": 30, "jitter_ms": 5, "direction": "ingress"}
        obstacle = Netem().obstacle(scenario("network_latency", **dose), to(port, FAR))
        return {"obstacle": str(obstacle), **delivered("network_latency", to(port, FAR), **dose)}


def coming_in_beside_a_foreign_filter() -> Any:
    with another_machine() as port:
        for words in ("qdisc add dev near0 clsact", "filter add dev near0 ingress pref 5 matchall action continue"):
            subprocess.run(["tc", *words.split()], check=True)
        return delivered("network_impairment", to(port, FAR), direction="both", delay_ms=30)


def coming_in_cut() -> Any:
    with another_machine() as port:
        return cut_between_any_two_steps(port, FAR, direction="both")


def partition() -> Any:
    with service() as port:
        return delivered("network_partition", to(port), direction="ingress")


def foreign() -> Any:
    asked = scenario("network_latency", delay_ms=50)
    subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "handle", "1:", "pfifo", "limit", "77"], check=True)
    before = queues()
    try:
        refusal = str(Netem().obstacle(asked, to(9)))
        injection = prepare(Netem(), 9, "network_latency", delay_ms=50)
        began = kit.HOST.run(injection.steps[0].do, timeout=5).ok
        return {"refusal": refusal, "began": began, "problems": undo(injection), "kept": queues() == before}
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)


def cut_between_any_two_steps(port: int, host: str = "127.0.0.1", **dose: Any) -> Any:
    before = queues()
    injection = prepare(Netem(), port, "packet_loss", host, loss_percent=50, **dose)
    left = []
    for done in range(len(injection.steps) + 1):
        # In one shell: starting each by itself takes this kernel long.
        script = " && ".join(shlex.join(step.do) for step in injection.steps[:done])
        subprocess.run(["sh", "-c", script], check=True)
        problems = undo(injection)
        left.append({"done": done, "problems": problems, "restored": queues() == before})
    return left


def unseen() -> Any:
    injection = prepare(Netem(), 9, "packet_loss", loss_percent=50)
    readings = [read(injection.steps[-1])]
    for step in injection.steps:
        kit.do(step)
    readings.append(read(injection.steps[-1]))
    without = injection.took_effect(readings)
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", 9), timeout=0.1)
    readings.append(read(injection.steps[-1]))
    return {"without": without, "with": injection.took_effect(readings), "problems": undo(injection)}


def doctor() -> Any:
    return str(Netem().obstacle(None, surroundings()))


QUESTIONS: tuple[Callable[[], Any], ...] = (
    *(delay_by_the_kit, delay_both_ways, loss, loss_by_states, everything, rate),
    *(loss_over_ipv6, others, coming_in, coming_in_beside_a_foreign_filter, coming_in_cut, partition),
    *(foreign, unseen, doctor),
)


def main(file: Path) -> None:
    kit.HOST = ForkingHost()
    # Importing scipy takes this kernel seconds too: the test outside judges by chance.
    chaoslab.faults.shares.chance = lambda *_: (0.0, 1.0)
    gc.disable()  # a collection in a fork copies every page it looks at
    found = {}
    for question in QUESTIONS:
        began = now_us()
        try:
            answer = question()
        except BaseException:  # noqa: BLE001  # it is the answer
            answer = {"error": traceback.format_exc()}
        found[question.__name__] = answer
        print(question.__name__, (now_us() - began) / 1e6, flush=True)
    file.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

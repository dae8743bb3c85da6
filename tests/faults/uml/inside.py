"""Inside User Mode Linux: take netem through its paces, and write what was found as JSON, one entry a question."""

from __future__ import annotations

import gc
import json
import multiprocessing
import runpy
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import chaoslab.faults.traffic
from chaoslab.agent.crossing import cross
from chaoslab.faults import Injection, Mechanism, Surroundings
from chaoslab.faults.netem import NetemLatency, NetemLoss
from chaoslab.hosts import Completed, LocalHost
from chaoslab.journal import now_us
from tests import servers
from tests.faults import kit
from tests.faults.kit import deliver, read, scenario, surroundings
from tests.faults.pingpong import traffic


class ForkingHost(LocalHost):
    """Runs the package's own commands in a fork of this process: importing it anew takes this kernel seconds."""

    def run(
        self, argv: Sequence[str], *, timeout: float, token: str = "", watch: Callable[[], None] = lambda: None
    ) -> Completed:
        if tuple(argv[:2]) != (sys.executable, "-m"):
            return super().run(argv, timeout=timeout, token=token, watch=watch)
        ours, theirs = _FORK.Pipe()
        process = _FORK.Process(target=_command, args=(argv[2], tuple(argv[2:]), theirs))
        process.start()
        process.join(timeout)
        if not ours.poll():
            process.kill()
            return Completed(tuple(argv), None, "", "")
        return Completed(tuple(argv), *ours.recv())


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


kit.HOST = ForkingHost()
# Importing scipy takes this kernel seconds too: the test outside judges by chance.
chaoslab.faults.traffic.chance = lambda *_: (0.0, 1.0)
gc.disable()  # a collection in a fork copies every page it looks at


def to(port: int, host: str = "127.0.0.1") -> Surroundings:
    return replace(surroundings(), url=f"http://{host}:{port}")


def queues() -> str:
    return subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True).stdout


def prepare(mechanism: Mechanism, port: int, kind: str, **dose: float) -> Injection:
    return mechanism.inject(scenario(kind, **dose), to(port), seconds=1.0, token="uml")


def undo(injection: Injection) -> list[str]:
    commands = {step.undo: step.undo_limit for step in reversed(injection.steps)}
    results = [kit.HOST.run(command, timeout=limit) for command, limit in commands.items()]
    return [result.problem for result in results if not result.ok]


def delay() -> Any:
    before = queues()
    with servers.running() as target:
        (dose,) = deliver(NetemLatency(), scenario("network_latency", delay_ms=50), to(target.port), seconds=0.1)
    return {"dose": dose.as_dict(), "restored": queues() == before}


def loss() -> Any:
    before = queues()
    with traffic(connections=25) as port:
        (dose,) = deliver(NetemLoss(), scenario("packet_loss", loss_percent=15), to(port), seconds=2.0)
    return {"dose": dose.as_dict(), "restored": queues() == before}


def loss_over_ipv6() -> Any:
    asked = scenario("packet_loss", loss_percent=100)
    injection = NetemLoss().inject(asked, to(9, "[::1]"), seconds=1.0, token="uml")
    for step in injection.steps:
        kit.do(step)
    with suppress(TimeoutError):
        socket.create_connection(("::1", 9), timeout=0.1)
    return {**read(injection.steps[-1]).data, "problems": undo(injection)}


def others() -> Any:
    with servers.running() as target, servers.running() as other:
        injection = prepare(NetemLatency(), target.port, "network_latency", delay_ms=200)
        began = now_us()
        for step in injection.steps:
            kit.do(step)
        done = now_us()
        found = {name: cross(service.url("/ok"))["rtt_ms"] for name, service in (("target", target), ("other", other))}
        ending = now_us()
        problems = undo(injection)
        over = now_us()
        after = cross(target.url("/ok"))["rtt_ms"]
    return {
        **found,
        "after": after,
        "problems": problems,
        "do_ms": (done - began) / 1e3,
        "undo_ms": (over - ending) / 1e3,
    }


def foreign() -> Any:
    asked = scenario("network_latency", delay_ms=50)
    subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "handle", "1:", "pfifo", "limit", "77"], check=True)
    before = queues()
    try:
        refusal = str(NetemLatency().obstacle(asked, to(9)))
        injection = prepare(NetemLatency(), 9, "network_latency", delay_ms=50)
        began = kit.HOST.run(injection.steps[0].do, timeout=5).ok
        return {"refusal": refusal, "began": began, "problems": undo(injection), "kept": queues() == before}
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)


def cut() -> Any:
    before = queues()
    injection = prepare(NetemLoss(), 9, "packet_loss", loss_percent=50)
    left = []
    for done in range(len(injection.steps) + 1):
        for step in injection.steps[:done]:
            kit.do(step)
        problems = undo(injection)
        left.append({"done": done, "problems": problems, "restored": queues() == before})
    return left


def unseen() -> Any:
    injection = prepare(NetemLoss(), 9, "packet_loss", loss_percent=50)
    readings = [read(injection.steps[-1])]
    for step in injection.steps:
        kit.do(step)
    readings.append(read(injection.steps[-1]))
    without = injection.took_effect(readings)
    with suppress(OSError):
        cross("http://127.0.0.1:9")
    readings.append(read(injection.steps[-1]))
    return {"without": without, "with": injection.took_effect(readings), "problems": undo(injection)}


def doctor() -> Any:
    return str(NetemLatency().obstacle(None, surroundings()))


QUESTIONS: tuple[Callable[[], Any], ...] = (delay, loss, loss_over_ipv6, others, foreign, cut, unseen, doctor)


def main(file: Path) -> None:
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

"""What every mechanism must keep: its do takes effect, its evidence shows it, its undo reverts it, twice too."""

from __future__ import annotations

import json
import os
import subprocess
import time
from itertools import product

from chaoslab.faults import Injection, Mechanism, Reading, Surroundings
from chaoslab.hosts import LocalHost
from chaoslab.journal import Journal, Step, now_us
from chaoslab.records import Dose
from chaoslab.scenario import Scenario
from chaoslab.scenario_file import parse
from chaoslab.targets import Target
from chaoslab.undo import undo

HOST = LocalHost()


def scenario(kind: str, duration: float = 1.0, **parameters: object) -> Scenario:
    """A scenario of one type, read through the real parser."""
    text = json.dumps({"scenarios": [{"name": "S", "type": kind, "duration": duration, "parameters": parameters}]})
    return parse(text).scenarios[0]


def surroundings(target: Target | None = None, *, local: bool = True, allow_commands: bool = False) -> Surroundings:
    """This machine, with a target that published itself or not."""
    url = target.url if target else "http://127.0.0.1:1"
    return Surroundings(host=HOST, url=url, target=target, hits_target=local, allow_commands=allow_commands)


def read(step: Step) -> Reading:
    """Look at a step's evidence."""
    at = now_us()
    result = HOST.run(step.evidence, timeout=10)
    try:
        data = json.loads(result.stdout)
    except ValueError:
        data = {}
    return Reading(at_us=at, exit_code=result.exit_code, data=data)


def do(step: Step) -> None:
    """Run a step's do as the runner does."""
    if step.holds:
        HOST.hold(step.do, token=step.token)
    else:
        result = HOST.run(step.do, timeout=step.do_limit, token=step.token)
        assert result.ok, result.problem


def deliver(mechanism: Mechanism, asked: Scenario, where: Surroundings, seconds: float = 1.0) -> tuple[Dose, ...]:
    """Take a mechanism through do, evidence, undo, and undo again; return the doses that its evidence shows."""
    assert mechanism.obstacle(asked, where) is None
    injection = mechanism.inject(asked, where, seconds=seconds, token=f"kit-{os.urandom(6).hex()}")
    journal = Journal.create(injection.steps[0].token)
    try:
        before = read(injection.steps[-1])
        for step in injection.steps:
            journal.intend("kit", step)
            do(step)
        readings = [before, *wait_for_effect(injection, before)]
        time.sleep(seconds)
        readings.append(read(injection.steps[-1]))
    finally:
        for _ in range(2):
            for step in reversed(injection.steps):
                undo(step, run="kit", journal=journal, host=HOST)
    assert journal.open_steps() == []
    journal.close()
    return injection.doses(readings)


def wait_for_effect(injection: Injection, *before: Reading) -> list[Reading]:
    """Read the evidence until it shows the effect; return the readings after those `before`."""
    readings = [*before, read(injection.steps[-1])]
    deadline = time.monotonic() + injection.effect_limit
    while not injection.took_effect(readings):
        assert time.monotonic() < deadline, f"no effect was seen: {readings[-1]}"
        readings.append(read(injection.steps[-1]))
    return readings[len(before) :]


_CHAINS = (("mangle", "OUTPUT"), ("mangle", "INPUT"), ("filter", "OUTPUT"))


def open_tables() -> None:
    """Make iptables' own empty tables and chains, which stay wherever there once was a rule."""
    for tool, (table, chain) in product(("iptables", "ip6tables"), _CHAINS):
        for change in ("-A", "-D"):
            subprocess.run([tool, "-t", table, change, chain, "-j", "ACCEPT"], check=True)


def rules() -> list[str]:
    """Everything that filters packets here, without counters and iptables' own empty chains."""
    commands = (["nft", "--stateless", "list", "ruleset"], ["iptables-save"], ["ip6tables-save"])
    texts = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
    return [line for text in texts for line in text.splitlines() if not line.startswith(("#", ":"))]

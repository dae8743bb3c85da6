"""python -m tests.crash: kills in the middle of every fault, and looks at what is left.

Prints a line for each mechanism and victim: instants tried, kills, leftovers, and the worst time until the machine was
as before. Exits 1 if anything was left. The two halves of `TRIALS`, those that change the network and the others, run
at the same time; the former in a network namespace of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chaoslab.targets import STATE_VARIABLE
from tests.conform import IN_A_NAMESPACE
from tests.crash.harness import VICTIMS, Outcome, Range, plan
from tests.faults import kit
from tests.faults.trials import HERE, NAMESPACED, TRIALS

_JOBS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """What became of the kills of one victim in one mechanism; `worst` is in seconds."""

    name: str
    victim: str
    instants: int
    kills: int
    left: tuple[str, ...]
    worst: float


def shoot(name: str, count: int, seed: int) -> list[Line]:
    """Kill `count` times in the fault of that name."""
    with TRIALS[name]() as trial, tempfile.TemporaryDirectory(prefix="crash-") as state:
        range_ = Range(name, trial, Path(state))
        kills = plan(range_.instants(), count, random.Random(f"{seed} {name}"))
        outcomes = [range_.kill(kill) for kill in kills]
    return list(_summed(name, outcomes))


def _summed(name: str, outcomes: Sequence[Outcome]) -> Iterator[Line]:
    for victim in VICTIMS:
        mine = [outcome for outcome in outcomes if outcome.kill.victim == victim]
        yield Line(
            name=name,
            victim=victim,
            instants=len({(outcome.kill.instant, outcome.kill.after) for outcome in mine}),
            kills=len(mine),
            left=tuple(f"{outcome.kill}: {left}" for outcome in mine for left in outcome.left),
            worst=max((outcome.seconds for outcome in mine if outcome.seconds is not None), default=0.0),
        )


def shoot_all(names: Sequence[str], kills: int, seed: int) -> list[Line]:
    """Share `kills` out among the faults of those names; several at a time, but for those that see each other."""
    namespaced = set(names) <= set(NAMESPACED)
    if namespaced:
        kit.open_tables()
    with ThreadPoolExecutor(1 if namespaced else _JOBS) as pool:
        found = pool.map(lambda name: shoot(name, max(1, -(-kills // len(names))), seed), names)
        return [line for lines in found for line in lines]


def _elsewhere(names: Sequence[str], kills: int, seed: int) -> subprocess.Popen[str]:
    """Do the same in a process of its own, in a network namespace of its own; its lines come as JSON."""
    options = ["--kills", str(kills), "--seed", str(seed), "--json", *(f"--only={name}" for name in names)]
    argv = [*IN_A_NAMESPACE, sys.executable, "-m", "tests.crash", *options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def _together(kills: int, seed: int) -> list[Line]:
    share = kills * len(NAMESPACED) // (len(HERE) + len(NAMESPACED))
    with _elsewhere(list(NAMESPACED), share, seed) as other:
        lines = shoot_all(list(HERE), kills - share, seed)
        text, _ = other.communicate()
    return lines + [Line(**{**fields, "left": tuple(fields["left"])}) for fields in json.loads(text)]


def show(lines: Iterable[Line]) -> None:
    """Print the table, and below it what was left."""
    table = Table("fault", "killed", "instants", "kills", "left", "worst s", box=None, header_style="bold")
    for line in lines:
        counts = (line.instants, line.kills, len(line.left))
        table.add_row(line.name, line.victim, *map(str, counts), f"{line.worst:.2f}")
        for left in line.left:
            table.add_row("", "", "", "", left)
    Console(width=160).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash")
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    parser.add_argument(
        "--only", action="append", choices=sorted(TRIALS), help="repeatable; it stays in this namespace"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crash-") as state:
        os.environ[STATE_VARIABLE] = state
        lines = (
            shoot_all(options.only, options.kills, options.seed)
            if options.only
            else _together(options.kills, options.seed)
        )
    if options.json:
        print(json.dumps([asdict(line) for line in lines]))
        return 0
    show(lines)
    left, kills = sum(len(line.left) for line in lines), sum(line.kills for line in lines)
    worst = max(line.worst for line in lines if line.victim != "both")
    print(
        f"seed {options.seed}: {kills} kills, {left} leftovers; the one that lived had cleaned in {worst:.2f} s at most"
    )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())

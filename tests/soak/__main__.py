"""python -m tests.soak: see the package."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd
from rich.console import Console

from chaoslab import store
from tests.conform import IN_A_NAMESPACE
from tests.demo_run import CHAOSLAB, Machine, new_machine
from tests.faults import kit
from tests.soak import growth, report, rows, watching
from tests.soak.campaigns import WATCH, Plan

_OPENING_LIMIT: Final = 90.0
_ENDING_LIMIT: Final = 30.0
_ANALYSIS_LIMIT: Final = 300.0
_MOST_SAMPLES: Final = 720
_NOT_DELIVERED: Final = 4
_SHORTEST: Final = 0.3
_PR_SET_THP_DISABLE: Final = 41


class Soak:
    """One soak in `folder`: what runs, and what was seen."""

    def __init__(self, folder: Path, machine: Machine, plan: Plan, *, rate: float, seed: int) -> None:
        self._folder = folder
        self._machine = machine
        self._plan = plan
        self._rate, self._seed = rate, seed
        self._config = folder / "scenarios.json"
        self._samples: list[dict[str, Any]] = []
        self.problems: list[str] = []

    def run(self) -> pd.DataFrame:
        """Run everything to its end; return the samples, `seconds` from the start."""
        self._plan.write(self._config)
        started_ns = time.monotonic_ns()
        with ExitStack() as ending:
            shop, url = ending.enter_context(self._shop())
            watch = ending.enter_context(self._campaign("watch", url, [WATCH], "--repeats", "1"))
            options = ("--repeats", str(self._plan.repeats), "--duration-scale", str(self._plan.scale))
            faults = ending.enter_context(self._campaign("faults", url, self._plan.faults, *options))
            self._sample_until_over({"shop": shop, "watch": watch, "faults": faults})
            for name, process in (("watch", watch), ("faults", faults)):
                if process.returncode not in (0, _NOT_DELIVERED):
                    self.problems.append(f"the campaign {name} ended with {process.returncode}: see {name}.log")
        series = pd.DataFrame(self._samples)
        series.insert(0, "seconds", (series.pop("at_ns") - started_ns) / 1e9)
        for name in ("watch", "faults"):
            # Before, a tool starts; afterwards it analyses: other matters.
            begin, end = ((at_ns - started_ns) / 1e9 for at_ns in rows.span_ns(self.campaign(name)))
            during = series["seconds"].between(begin, end)
            series = series[during | ~series["process"].str.startswith(f"{name}:")]
        return series.reset_index(drop=True)

    def campaign(self, name: str) -> store.Campaign:
        return store.Campaign.open(self._folder / name)

    @contextmanager
    def _tool(self, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        out = (self._folder / f"{name}.log").open("wb")
        with (
            out,
            subprocess.Popen(
                [*CHAOSLAB, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._machine.environment
            ) as process,
        ):
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                try:
                    process.wait(_ENDING_LIMIT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    self.problems.append(f"{name} did not end within {_ENDING_LIMIT:g} s and was killed")

    @contextmanager
    def _shop(self) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        with self._tool("shop", "demo", "--serve", "--build", "resilient") as process:
            targets = self._machine.state / "targets"
            _wait(lambda: any(targets.glob("*.json")) or process.poll() is not None, _OPENING_LIMIT, "the shop")
            yield process, json.loads(next(targets.glob("*.json")).read_text())["url"]

    @contextmanager
    def _campaign(self, name: str, url: str, scenarios: Sequence[str], *more: str) -> Iterator[subprocess.Popen[bytes]]:
        chosen = [word for scenario in scenarios for word in ("--scenario", scenario)]
        pace = ("--probe-rate", str(self._rate), "--seed", str(self._seed))
        where = ("--target", url, "--config", str(self._config), "--output", str(self._folder / name))
        with self._tool(name, "run", *where, *chosen, *pace, *more) as process:
            yield process

    def _sample_until_over(self, tools: dict[str, subprocess.Popen[bytes]]) -> None:
        interval = max(0.25, self._plan.seconds / _MOST_SAMPLES)
        give_up = time.monotonic() + self._plan.limit + _ANALYSIS_LIMIT
        pids = {name: process.pid for name, process in tools.items()}
        running = [process for name, process in tools.items() if name != "shop"]
        while any(process.poll() is None for process in running):
            if tools["shop"].poll() is not None:
                self.problems.append("the shop has ended: see shop.log")
                return
            if time.monotonic() > give_up:
                self.problems.append("the campaigns do not end")
                return
            self._samples += watching.look(pids)
            time.sleep(interval)


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} has not opened for {seconds:g} s")
        time.sleep(0.05)


def _network() -> list[str]:
    """Everything of the network that faults change, where one may see it."""
    if os.geteuid() != 0:
        return []
    queues = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True).stdout
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    return [*kit.rules(), *queues.splitlines(), *links.splitlines()]


def _without_huge_pages() -> None:
    """Have the kernel give this process, and all that it starts, small pages only (prctl(2)).

    Where it may, it makes 2 MB resident of which only a page was used, at any time: no growth, but it looks like it.
    """
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def soak(folder: Path, plan: Plan, *, rate: float, seed: int) -> int:
    """Soak, say what was seen, and return the exit code."""
    folder.mkdir(parents=True)
    machine = new_machine(folder / "state")
    if os.geteuid() == 0:
        kit.open_tables()
    before = _network()
    one = Soak(folder, machine, plan, rate=rate, seed=seed)
    try:
        series = one.run()
        left = [*machine.traces(), *(f"network: {line}" for line in sorted(set(_network()) ^ set(before)))]
    finally:
        shutil.rmtree(machine.temporary, ignore_errors=True)
    series.to_parquet(folder / "series.parquet")
    return conclude(folder, series, one, [*one.problems, *(f"left: {what}" for what in left)], warm_up=plan.seconds / 6)


def conclude(folder: Path, series: pd.DataFrame, one: Soak, problems: list[str], *, warm_up: float) -> int:
    """Judge the samples and the rows; print, draw, and return the exit code."""
    console = Console(width=200)
    each_run = ["faults: prober", "faults: sampler"]
    lasting = [name for name in series["process"].unique() if name not in each_run]
    grown = [growth.judge(name, series[series["process"] == name], warm_up=warm_up) for name in lasting]
    counts = {name: rows.count(one.campaign(name)) for name in ("faults", "watch")}
    report.show_growth(grown, console)
    report.show_short_lived(series, each_run, console)
    report.show_rows(counts, console)
    for problem in problems:
        console.print(problem, style="red")
    report.draw(series, lasting, folder / "soak.png", warm_up=warm_up)
    console.print(f"{folder} has the campaigns, series.parquet and soak.png")
    verdicts = {found.verdict for found in grown}
    if problems or "fail" in verdicts or any(found.problems for found in counts.values()):
        return 1
    return 3 if "inconclusive" in verdicts else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60); from 12 on memory is judged")
    parser.add_argument("--rate", type=float, default=100.0, help="probes a second, of each of the two campaigns")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("campaigns") / f"{datetime.now():%Y%m%d-%H%M%S}-soak")
    parser.add_argument("--here", action="store_true", help="stay in this network namespace")
    options = parser.parse_args()
    if options.minutes < _SHORTEST:
        parser.error(f"--minutes is {options.minutes:g}; accepted: {_SHORTEST:g} or more")
    if os.geteuid() == 0 and not options.here:
        os.execvp(IN_A_NAMESPACE[0], [*IN_A_NAMESPACE, sys.executable, "-m", "tests.soak", *sys.argv[1:], "--here"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what it has started is ended with it
    _without_huge_pages()
    return soak(options.output.resolve(), Plan(options.minutes), rate=options.rate, seed=options.seed)


if __name__ == "__main__":
    sys.exit(main())

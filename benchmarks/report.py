"""What a report costs beside a notebook that only imports its libraries, and what the program costs to start.

    python benchmarks/report.py [--rounds N] [--rows N] [--starts N]

Written is a campaign of the nineteen scenarios × 5 runs, at their own lengths and twenty probes a second, or as many as
`--rows` says. Then, in turns, each a process of its own: `chaoslab report`, and papermill and `jupyter nbconvert` with
a notebook that imports matplotlib and pandas. Printed are wall-clock and CPU time of both with all their children
(medians), the ratio of the two, the size of the page and the most memory that one process of the report held. Last,
what `import chaoslab` and `chaoslab --help` take beyond `python -c pass`. Compare ratios, not machines.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaoslab import scenario_file, share
from chaoslab.scenario import Scenario, ScenarioFile
from tests.campaigns import RunRows, make_campaign, make_dose, make_run

REPEATS = 5
RATE_HZ = 20.0
MODULES = ("matplotlib", "pandas")
_RUN = [sys.executable, "-P", "-m"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="probes of the whole campaign; by default twenty a second")
    parser.add_argument("--starts", type=int, default=20, help="how often each short command is started")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as base:
        folder, notebook = Path(base) / "campaign", Path(base) / "imports.ipynb"
        rows = write_campaign(folder, options.rows)
        write_notebook(notebook)
        rounds = [(render(folder), import_only(notebook)) for _ in range(options.rounds)]
        print(f"{rows:,} probes in {19 * REPEATS} runs; load of the machine {os.getloadavg()[0]:.1f}")
        print(f"{'s':>6} {'report':>8} {'imports only':>13} {'ratio':>6}")
        for place, what in enumerate(("wall", "CPU")):
            ours, theirs = (statistics.median(pair[side][place] for pair in rounds) for side in (0, 1))
            print(f"{what:>6} {ours:8.2f} {theirs:13.2f} {ours / theirs:6.2f}")
        page = (folder / "report.html").stat().st_size
        print(f"page {page / 1e6:.2f} MB; the largest process {max(pair[0][2] for pair in rounds):.2f} GiB")
    if options.starts:
        starts(options.starts)


def render(folder: Path) -> tuple[float, float, float]:
    """Render the report: wall-clock and CPU seconds, and GiB of its largest process."""
    return cost([[*_RUN, "chaoslab", "report", str(folder)]])


def import_only(notebook: Path) -> tuple[float, float, float]:
    """Execute the notebook of imports and make a page of it, by the tools themselves."""
    executed = notebook.with_stem("executed")
    execution = [*_RUN, "papermill", "--no-progress-bar", str(notebook), str(executed)]
    return cost([execution, [*_RUN, "jupyter", "nbconvert", "--to", "html", str(executed)]])


def cost(commands: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    """Run commands one after another; return wall-clock and CPU seconds, and GiB of the largest process."""
    began, before = time.perf_counter(), os.times()
    peak = 0.0
    for command in commands:
        code = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=2, stderr=2).returncode; "
        code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20); sys.exit(done)"
        told = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
        if told.returncode:
            sys.exit(f"{' '.join(command)} failed: {told.stderr}")
        peak = max(peak, float(told.stdout))
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, used, peak


def starts(count: int) -> None:
    """Print what short commands take beyond an interpreter that does nothing; medians of `count`, in turns."""
    commands = {
        "python -c pass": ["-c", "pass"],
        "import chaoslab": ["-c", "import chaoslab"],
        "chaoslab --help": ["-m", "chaoslab", "--help"],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(count):
        for name, arguments in commands.items():
            taken[name].append(cost([[sys.executable, "-P", *arguments]])[:2])
    wall, used = (
        {name: 1e3 * statistics.median(one[place] for one in times) for name, times in taken.items()}
        for place in (0, 1)
    )
    for name in list(commands)[1:]:
        more, cpu = (found[name] - found["python -c pass"] for found in (wall, used))
        print(f"{name}: {more:.0f} ms more than `python -c pass` (CPU {cpu:.0f} ms)")


def write_notebook(path: Path) -> None:
    """Write a notebook that imports modules and does nothing else."""
    v4 = nbformat.v4
    cells = [v4.new_code_cell("\n".join(f"import {name}" for name in MODULES))]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def write_campaign(folder: Path, rows: int | None) -> int:
    """Write the nineteen scenarios, five runs of each; return how many probes they have."""
    file = scenario_file.load(share.scenario_file())
    seconds = REPEATS * sum(
        one.duration + file.phases.baseline_seconds + file.phases.recovery_seconds for one in file.scenarios
    )
    rate_hz = rows / seconds if rows else RATE_HZ
    runs = [run(file, one, repeat, rate_hz) for repeat in range(1, REPEATS + 1) for one in file.scenarios]
    probe = {"name": "health", "url": "http://127.0.0.1:8080/api/health", "rate_hz": rate_hz, "timeout_seconds": 2.0}
    make_campaign(folder, runs, probe=probe)
    return sum(len(run.probes["seq"]) for run in runs)


def run(file: ScenarioFile, scenario: Scenario, repeat: int, rate_hz: float) -> RunRows:
    """Return a run: what crashes is down for a while, what delays is slower, and now and then a probe fails."""
    seed = sum(map(ord, scenario.name)) + repeat
    generator = np.random.default_rng(seed)
    before = file.phases.baseline_seconds
    crashes = scenario.type in ("container_crash", "database_outage")
    blips = [(at, at + 1.5 / RATE_HZ) for at in generator.uniform(before, before + scenario.duration, 4)]
    outage = (before, before + scenario.duration * generator.uniform(0.2, 0.8) + generator.uniform(1.0, 4.0))
    delivered = generator.normal(2.0, 0.05)
    made = make_run(
        scenario.name,
        repeat,
        type=scenario.type,
        intensity=scenario.intensity,
        baseline=before,
        injection=scenario.duration,
        recovery=file.phases.recovery_seconds,
        rate_hz=rate_hz,
        latency_ms=(12.0, 12.0 if scenario.type == "control" else 60.0, 13.0),
        jitter_ms=40.0,
        seed=seed,
        down=[outage] if crashes else [] if scenario.type == "control" else blips,
        doses=() if scenario.type == "control" else [make_dose(delivered=float(delivered))],
    )
    return replace(made, duration=scenario.duration)


if __name__ == "__main__":
    main()

"""What an analysis costs beside reading the same columns with pandas, and how it grows.

    python benchmarks/analysis.py --rows 100000 1000000 10000000

For each number of probes it writes a campaign of 100 runs (real Parquet, as a recorder writes it), and then, each in a
process of its own: pandas reads the columns that the analysis needs, and chaoslab analyses the campaign, intervals,
verdicts and all. Ratios of one run on one machine; absolute times mean little.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from chaoslab import store
from chaoslab.records import SCHEMA_VERSION, ErrorKind, Outcome
from chaoslab.scenario import ScenarioFile, resolve_slos
from chaoslab.study.truths import Outage, lognormal

RUNS = 100
COLUMNS = ["scenario", "repeat", "probe", "seq", "scheduled_us", "latency_us", "outcome", "error"]
START = "import resource, time; from pathlib import Path\n"
PEAK = "print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"
READ = f"""import pandas as pd
began = time.perf_counter()
pd.read_parquet(Path(folder) / "probes", columns={COLUMNS})
"""
ANALYSE = """from chaoslab import Campaign, analyse
began = time.perf_counter()
analyse(Campaign.open(folder)).as_results()
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'probes':>12} {'read s':>8} {'analyse s':>10} {'ratio':>6} {'per million s':>14} {'peak GiB':>9}")
    with tempfile.TemporaryDirectory(prefix="chaoslab-bench-") as base:
        for rows in options.rows:
            folder = Path(base) / str(rows)
            write(folder, rows // RUNS)
            rounds = [(run(READ, folder), run(ANALYSE, folder)) for _ in range(options.rounds)]
            read, analysed = (sorted(pair[side][0] for pair in rounds)[len(rounds) // 2] for side in (0, 1))
            peak = max(pair[1][1] for pair in rounds)
            print(
                f"{rows:12,} {read:8.2f} {analysed:10.2f} {analysed / read:6.2f} "
                f"{analysed / rows * 1e6:14.2f} {peak:9.2f}",
                flush=True,
            )


def run(code: str, folder: Path) -> tuple[float, float]:
    """Return seconds and the peak of memory in GiB of `code` in a new interpreter."""
    program = f"{START}folder = {str(folder)!r}\n{code}{PEAK}"
    seconds, peak = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    return float(seconds), float(peak)


def write(folder: Path, rows: int) -> None:
    """Write a campaign of `RUNS` runs of `rows` probes: each with an outage, and failures here and there."""
    generator = np.random.default_rng(1)
    truth = Outage(label="lognormal", durations=lognormal(4.0, 0.6))
    store.create(folder, meta())
    start_us = 0
    for number in range(RUNS):
        events = truth.draw(generator).events
        length_us = events["at_us"][-1]
        key = store.RunKey(campaign="bench", scenario=f"Scenario {number // 5}", repeat=number % 5 + 1, index=number)
        injected_us, over_us = events["at_us"][1], events["at_us"][1] + int(generator.lognormal(1.2, 0.6) * 1e6)
        scheduled = np.linspace(0, length_us, rows, endpoint=False).astype(np.int64)
        bad = ((scheduled >= injected_us) & (scheduled < over_us)) | (generator.random(rows) < 0.001)
        columns = {
            "seq": np.arange(rows),
            "probe": ["health"] * rows,
            "scheduled_us": scheduled + start_us,
            "sent_us": np.full(rows, 40),
            "latency_us": np.where(bad, 900, generator.lognormal(9.0, 0.3, rows)).astype(np.int64),
            "status": [None if failed else 200 for failed in bad],
            "outcome": [Outcome.FAILURE if failed else Outcome.SUCCESS for failed in bad],
            "error": [ErrorKind.REFUSED if failed else None for failed in bad],
        }
        shifted = {**events, "at_us": [at + start_us for at in events["at_us"]]}
        for table, values in (("probes", columns), ("events", shifted)):
            writer = store.PartWriter(folder, table, key)
            writer.write(values)
            writer.compact()
        start_us += length_us + 1_000_000


def meta() -> dict[str, object]:
    """Return `campaign.json`."""
    names = [f"Scenario {number}" for number in range(RUNS // 5)]
    return {
        "schema_version": SCHEMA_VERSION,
        "campaign": "bench",
        "dry_run": False,
        "status": "finished",
        "reason": "",
        "probe": {"name": "health", "rate_hz": 1000.0},
        "scenarios": [{"name": name, "type": "process_crash", "intensity": ""} for name in names],
        "order": [[name, repeat] for name in names for repeat in range(1, 6)],
        "slos": [asdict(slo) for slo in resolve_slos(ScenarioFile(scenarios=()))],
        "required_health_checks": 3,
    }


if __name__ == "__main__":
    main()

"""Asked and delivered doses, and how soon a fault is there and gone again.

    python benchmarks/doses.py [--rounds N] [--json]

For each failure type and mechanism that can be tried here: the dose that was asked and the one that was measured
(median, least and greatest of the rounds), the time from the start of `do` to the end of the reading that showed the
effect (a bound from above: the reading takes its time too), and the time that the undo took until the state was seen to
be back. For a container, a process or a database that is its own start-up too. Faults of the network are tried in a
network namespace of their own (root). Times are those of one machine in one run: compare rows, not machines.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaoslab.conformance import deliver
from chaoslab.targets import STATE_VARIABLE
from tests.conform import IN_A_NAMESPACE
from tests.faults import kit
from tests.faults.trials import HERE, NAMESPACED, TRIALS


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """Deliver one fault again and again; return a row for each quantity of its dose."""
    with TRIALS[name]() as trial:
        delivered = [deliver(trial) for _ in range(rounds)]
    times = {
        "effect_ms": [1000 * one.effect_seconds for one in delivered],
        "undo_ms": [1000 * one.undo_seconds for one in delivered],
    }
    return [
        {
            "fault": name,
            "quantity": dose.quantity,
            "unit": dose.unit,
            "asked": dose.asked,
            "delivered": [one.doses[place].delivered for one in delivered],
            "ok": all(one.doses[place].ok for one in delivered),
            **times,
        }
        for place, dose in enumerate(delivered[0].doses)
    ]


def namespaced(rounds: int) -> list[dict[str, Any]]:
    """Measure what changes the network, in a process and a namespace of its own."""
    argv = [*IN_A_NAMESPACE, sys.executable, __file__, "--rounds", str(rounds), "--json", "--namespaced"]
    found: list[dict[str, Any]] = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
    return found


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Return median (least to greatest)."""
    known = [value for value in values if value is not None]
    if not known:
        return "not measured"
    middle, least, most = statistics.median(known), min(known), max(known)
    return f"{middle:.{digits}g} ({least:.{digits}g}–{most:.{digits}g})"


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    columns = ("fault", "quantity", "asked", "delivered", "accepted", "ms to effect", "ms to undone")
    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        asked = f"{row['asked']:.3g} {row['unit']}"
        times = (spread(row["effect_ms"]), spread(row["undo_ms"]))
        table.add_row(
            row["fault"], row["quantity"], asked, spread(row["delivered"]), "yes" if row["ok"] else "no", *times
        )
    Console(width=170).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--namespaced", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.namespaced:
        kit.open_tables()
        rows = [row for name in NAMESPACED for row in measure(name, options.rounds)]
    else:
        with tempfile.TemporaryDirectory(prefix="doses-") as state:
            os.environ[STATE_VARIABLE] = state
            rows = [row for name in HERE for row in measure(name, options.rounds)]
            rows += namespaced(options.rounds) if os.geteuid() == 0 else []
    print(json.dumps(rows)) if options.json else show(rows)


if __name__ == "__main__":
    main()

"""python data/reference/record.py [FOLDER]: records the reference campaigns anew, on this machine, for real.

Both builds of the embedded shop are broken with the shipped scenarios, `REPEATS` times each; then a history is
recorded: one campaign after the other, of which the later half see the resilient build. It takes about twenty minutes.
FOLDER is this one by default; what it holds of an earlier recording is replaced.

What identifies the machine is taken out afterwards: paths, the kernel's name, the boot. Nothing else is changed.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import chaoslab
from chaoslab import store

HERE: Final = Path(__file__).resolve().parent
SCENARIOS: Final = HERE.parent / "scenarios.yml"
NAMES: Final = (
    "Control (no fault)",
    "Light Network Delay",
    "Application Container Restart",
    "Database Brief Outage",
)
REPEATS: Final = 5
SCALE: Final = 0.2
RATE_HZ: Final = 50
HISTORY: Final = 12
"""Campaigns of the history, half of each build."""
KEPT: Final = ("probes", "resources", "events", "campaign.json")


def record(folder: Path, url: str, names: Sequence[str], *, repeats: int, seed: int) -> None:
    """Record one campaign into `folder`.

    Raises:
        CalledProcessError: it did not end with 0.
    """
    words = [word for name in names for word in ("--scenario", name)]
    options = {"--repeats": repeats, "--duration-scale": SCALE, "--probe-rate": RATE_HZ, "--seed": seed}
    words += [str(word) for option in options.items() for word in option]
    argv = [
        sys.executable,
        "-m",
        "chaoslab",
        "run",
        "--config",
        SCENARIOS.name,
        "--target",
        url,
        "--output",
        folder.name,
        "--yes",
    ]
    folder.parent.mkdir(exist_ok=True)
    file = Path(shutil.copy(SCENARIOS, folder.parent))
    subprocess.run([*argv, *words], cwd=folder.parent, check=True)
    file.unlink()
    for path in folder.iterdir():
        if path.name not in KEPT:
            path.unlink()
    anonymise(folder)


def anonymise(folder: Path) -> None:
    """Take out of a recorded campaign what tells the machine that it was recorded on."""
    path = folder / "campaign.json"
    meta = json.loads(path.read_text(encoding="utf-8"))
    meta["configuration"]["path"] = None
    meta["host"]["system"] = platform.system()
    boot, meta["anchor"]["boot_id"] = meta["anchor"]["boot_id"], "BOOT"
    meta["command_line"] = meta["command_line"].replace("__main__.py", "chaoslab")
    store.write_json(path, meta)
    places = {
        sys.executable: "python",
        str(Path(chaoslab.__file__).parents[1]): "REPOSITORY",
        str(folder.parent): "FOLDER",
        boot: "BOOT",
    }
    for file in sorted((folder / "events").rglob("*.parquet")):
        _replace(file, places)


def _replace(file: Path, places: Mapping[str, str]) -> None:
    with pq.ParquetFile(file) as opened:
        rows = opened.read(use_threads=False)
    for number, field in enumerate(rows.schema):
        if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type):
            words = rows.column(number).cast(pa.string())
            for place, name in places.items():
                words = pc.replace_substring(words, place, name)
            rows = rows.set_column(number, field, words.cast(field.type))
    pq.write_table(rows, file, compression="zstd")


def main() -> int:
    """Record everything, and put it into place when all of it is there."""
    into = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE
    with tempfile.TemporaryDirectory(prefix="reference-") as name:
        folder = Path(name)
        for build in ("fragile", "resilient"):
            with chaoslab.shop(build=build) as url:
                record(folder / build, url, NAMES, repeats=REPEATS, seed=1)
        for number in range(HISTORY):
            build = "fragile" if number < HISTORY // 2 else "resilient"
            with chaoslab.shop(build=build) as url:
                record(folder / "history" / f"{number + 1:02d}", url, NAMES[-1:], repeats=3, seed=number + 1)
        for recorded in sorted(folder.iterdir()):
            shutil.rmtree(into / recorded.name, ignore_errors=True)
            shutil.copytree(recorded, into / recorded.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())

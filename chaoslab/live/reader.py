"""Reading a campaign while it is written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from chaoslab import campaign_file, store
from chaoslab.errors import CampaignFolderError
from chaoslab.records import TABLES, Event, Outcome, RunState
from chaoslab.store import Run
from chaoslab.wording import plural, quantity

RUNNING: Final = "running"
SILENT_SECONDS: Final = 10.0
"""Without a new row for so long (and a planned pause) a campaign that says that it runs may be dead."""

_TRIES: Final = 20
_PHASES: Final = ("baseline", "injection", "recovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the parts on disk say at one instant.

    Attributes:
        meta: `campaign.json`.
        ended: how each run that is over has ended, in order: scenario, repeat and state.
        run: the newest run, its instants as far as it came; None before the first.
        over: whether the newest run is over.
        probes, resources: rows of the newest run, as in `records`; of the probe that the service is judged by.
        now_us: the instant of looking, in microseconds since the campaign's anchor.
    """

    meta: Mapping[str, Any]
    ended: tuple[tuple[str, int, str], ...]
    run: Run | None
    over: bool
    probes: pd.DataFrame
    resources: pd.DataFrame
    now_us: int

    @property
    def status(self) -> str:
        """What `campaign.json` says: "running" until it is over."""
        return str(self.meta.get("status", ""))

    @property
    def total(self) -> int:
        """Runs that are planned."""
        return len(self.meta.get("order", ()))

    @property
    def number(self) -> int:
        """Runs that have begun."""
        return len(self.ended) + (self.run is not None and not self.over)

    @property
    def phase(self) -> str:
        """Phase of the newest run: baseline, injection, recovery, or "" where none is under way."""
        if self.run is None or self.over:
            return ""
        if self.run.recovery_us is not None:
            return "recovery"
        return "baseline" if self.run.injection_us is None else "injection"

    @property
    def silent_seconds(self) -> float:
        """Seconds since the newest row; 0 where there is none."""
        newest = [int(self.probes["scheduled_us"].max())] if len(self.probes) else []
        newest += [] if self.run is None else [self.run.finished_us]
        return max(0.0, (self.now_us - max(newest)) / 1e6) if newest else 0.0

    @property
    def lost(self) -> bool:
        """Whether the campaign says that it runs, and nothing has come for longer than anything could take."""
        timeout = (self.meta.get("probe") or {}).get("timeout_seconds")
        pause = float(self.meta.get("cooldown_seconds") or 0) + float(timeout or 0)
        return self.status == RUNNING and self.silent_seconds > SILENT_SECONDS + pause

    def line(self) -> str:
        """Return one line: run, scenario, repeat, phase."""
        if self.status != RUNNING:
            return f"{self.status}, {len(self.ended)} of {plural(self.total, 'run')}{self._reason()}"
        if self.run is None:
            return "starting"
        where = f"run {self.number}/{self.total} · {self.run.scenario} · repeat {self.run.repeat}"
        silent = f" · nothing new for {self.silent_seconds:.0f} s: was it killed?" if self.lost else ""
        return f"{where} · {self.phase or 'over'}{silent}"

    def _reason(self) -> str:
        reason = str(self.meta.get("reason") or "")
        return f": {reason}" if reason else ""

    def by_phase(self) -> pd.DataFrame:
        """Return a row for each phase that the newest run has reached: phase, probes, failed, p50 and p95 in words."""
        if self.run is None:
            return pd.DataFrame(columns=["phase", "probes", "failed", "p50", "p95"])
        run = self.run
        starts = [run.baseline_us, run.injection_us, run.recovery_us]
        at = self.probes["scheduled_us"]
        rows = []
        for place, (phase, start) in enumerate(zip(_PHASES, starts, strict=True)):
            if start is None:
                continue
            later = [instant for instant in starts[place + 1 :] if instant is not None]
            rows.append(_phase_row(phase, self.probes[(at >= start) & (at < (later[0] if later else self.now_us))]))
        return pd.DataFrame(rows)

    def columns(self, count: int) -> tuple[list[float | None], list[bool]]:
        """Return the last `count` seconds of the newest run: the slowest success of each in ms, whether one failed."""
        if not len(self.probes):
            return [], []
        second = ((self.probes["scheduled_us"] - int(self.probes["scheduled_us"].max())) // 1_000_000).to_numpy()
        failed = (self.probes["outcome"] != Outcome.SUCCESS).to_numpy()
        latency = self.probes["latency_us"].to_numpy() / 1000
        slowest: list[float | None] = []
        bad = []
        for one in range(max(1 - count, int(second.min())), 1):
            here = second == one
            good = latency[here & ~failed]
            slowest.append(float(good.max()) if len(good) else None)
            bad.append(bool((here & failed).any()))
        return slowest, bad

    def as_dict(self) -> dict[str, Any]:
        """Return the standing as a JSON object."""
        return {
            "campaign": self.meta.get("campaign"),
            "status": self.status,
            "reason": self.meta.get("reason") or "",
            "runs": {"begun": self.number, "over": len(self.ended), "total": self.total},
            "scenario": self.run.scenario if self.run else None,
            "repeat": self.run.repeat if self.run else None,
            "phase": self.phase,
            "silent_seconds": round(self.silent_seconds, 1),
            "phases": self.by_phase().to_dict("records"),
            "ended": [{"scenario": name, "repeat": repeat, "state": state} for name, repeat, state in self.ended],
        }


def _phase_row(phase: str, probes: pd.DataFrame) -> dict[str, Any]:
    good = probes["latency_us"][probes["outcome"] == Outcome.SUCCESS] / 1000
    quantiles = {
        f"p{percent}": quantity(float(good.quantile(percent / 100)), "ms") if len(good) else "" for percent in (50, 95)
    }
    return {"phase": phase, "probes": len(probes), "failed": len(probes) - len(good), **quantiles}


def newest(folder: Path | str) -> Path:
    """Return `folder` if it is a campaign's, else the newest campaign's among those that it holds.

    Raises:
        CampaignFolderError: neither.
    """
    folder = Path(folder)
    if (folder / store.CAMPAIGN_FILE).exists():
        return folder
    held = [(file.stat().st_mtime_ns, file.parent) for file in folder.glob(f"*/{store.CAMPAIGN_FILE}")]
    if not held:
        raise CampaignFolderError(f"{folder} is not a campaign folder, and holds none")
    return max(held)[1]


class Reader:
    """Looks at a campaign's folder again and again; what has not changed since is not read twice."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._read: dict[Path, tuple[tuple[int, int], pa.Table]] = {}

    def look(self) -> Standing:
        """Return how the campaign stands.

        Raises:
            CampaignFolderError: not a campaign, a dry run, or a folder that is damaged.
        """
        for _ in range(_TRIES):
            try:
                return self._look()
            except FileNotFoundError:  # parts are joined, and removed, while we read
                continue
        raise CampaignFolderError(f"{self.folder} changes faster than it can be read")

    def _look(self) -> Standing:
        meta = store.Campaign.open(self.folder).meta
        slugs = _runs(self.folder / "events")
        known = {slug: self._table("events", slug) for slug in slugs}
        runs = [_run(rows) for rows in known.values()]
        newest = slugs[-1] if slugs else None
        standing = Standing(
            meta=meta,
            ended=tuple((run.scenario, run.repeat, str(run.state)) for run, over in runs if over),
            run=runs[-1][0] if newest else None,
            over=bool(newest and runs[-1][1]),
            probes=_judged(self._table("probes", newest), meta),
            resources=self._table("resources", newest),
            now_us=_now_us(meta),
        )
        self._forget(newest)
        return standing

    def _table(self, table: str, slug: str | None) -> pd.DataFrame:
        """Return the rows of one run, in order; parts that are full are kept, those that grow are read anew."""
        files = [] if slug is None else _files(self.folder / table, slug)
        read = [self._file(file) for file in files]
        rows = pa.concat_tables(read).unify_dictionaries() if read else TABLES[table].empty_table()
        frame: pd.DataFrame = rows.to_pandas()
        order = "scheduled_us" if table == "probes" else "at_us"
        return frame.sort_values(order, kind="stable", ignore_index=True)

    def _file(self, file: Path) -> pa.Table:
        found = file.stat()
        stamp = (found.st_mtime_ns, found.st_ino)
        if self._read.get(file, (None,))[0] != stamp:
            try:
                self._read[file] = (stamp, pq.read_table(file, partitioning=None))
            except (pa.ArrowException, ValueError) as error:
                raise CampaignFolderError(f"{file} is damaged: {str(error).splitlines()[0]}") from error
        return self._read[file][1]

    def _forget(self, newest: str | None) -> None:
        """Keep the events of all runs, which are few, and the rows of the newest one."""
        kept = {file: read for file, read in self._read.items() if "events" in (file.parts[-2], file.parts[-3])}
        for table in ("probes", "resources"):
            for file in _files(self.folder / table, newest) if newest else ():
                if file in self._read:
                    kept[file] = self._read[file]
        self._read = kept


def _runs(folder: Path) -> list[str]:
    """Return the names of the runs that `folder` holds rows of; they sort as the campaign went."""
    whole = {file.stem for file in folder.glob("[!.]*.parquet")}
    return sorted(whole | {part.parent.name for part in folder.glob("*/part-*.parquet")})


def _files(folder: Path, slug: str) -> Sequence[Path]:
    whole = folder / f"{slug}.parquet"
    return [whole] if whole.exists() else sorted((folder / slug).glob("part-*.parquet"))


def _judged(probes: pd.DataFrame, meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of the probe that the service is judged by; others may look at what fails by design."""
    name = (meta.get("probe") or {}).get("name")
    return probes if name is None else probes[probes["probe"] == name].reset_index(drop=True)


def _now_us(meta: Mapping[str, Any]) -> int:
    return (time.time_ns() - int(meta["anchor"]["wall_ns"])) // 1000


def _run(rows: pd.DataFrame) -> tuple[Run, bool]:
    """Return a run as far as it came, and whether it is over."""
    at = {str(event): int(instant) for event, instant in zip(rows["event"], rows["at_us"], strict=True)}
    over = Event.RUN_FINISHED in at
    end: dict[str, Any] = {}
    if over:
        end = campaign_file.parse(str(rows["detail"][rows["event"] == Event.RUN_FINISHED].iloc[0]))
    steady = rows["detail"][rows["event"] == Event.STEADY_STATE]
    run = Run(
        scenario=str(rows["scenario"].iloc[0]),
        repeat=int(rows["repeat"].iloc[0]),
        state=RunState(end.get("state", RunState.BROKEN)),
        reason=str(end.get("reason", "")),
        steady=bool(len(steady)) and json.loads(steady.iloc[0]).get("steady") is True,
        baseline_us=int(rows["at_us"].iloc[0]),
        injection_us=at.get(Event.INJECTION_STARTED),
        recovery_us=at.get(Event.RECOVERY_STARTED),
        fault_over_us=at.get(Event.FAULT_OVER),
        finished_us=int(rows["at_us"].max()),
    )
    return run, over

"""What each probe of a campaign saw: the health check, which is judged, and those beside it, which are not."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from chaoslab.records import ErrorKind, Outcome
from chaoslab.store import Campaign

COLUMNS: Final = ("probe", "type", "judged", "sent", "failed", "unsent", "p50_ms", "p95_ms", "p99_ms")


def probe_table(campaign: Campaign) -> pd.DataFrame:
    """Return one row a probe over all runs and phases, the health check first: the columns are `COLUMNS`.

    `sent` are those that left, `failed` of them did not succeed; `unsent` are those for which the prober had no free
    connection. The quantiles are of successes, counted from the scheduled instant, over all probes together: they
    describe, and have no interval. They are missing where none succeeded. The table is empty where `campaign.json`
    tells of no more than one probe.
    """
    told = {str(entry["name"]): str(entry.get("type", "http")) for entry in campaign.meta.get("probes") or ()}
    if len(told) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    counts = {name: np.zeros(3, dtype=int) for name in told}
    latencies: dict[str, list[np.ndarray]] = {name: [np.empty(0)] for name in told}
    for run in campaign.runs:
        for name, rows in campaign.probes_of(run).groupby("probe", observed=True):
            if name not in told:
                continue
            good, unsent = rows["outcome"] == Outcome.SUCCESS, rows["error"] == ErrorKind.UNSENT
            counts[str(name)] += (int((~unsent).sum()), int((~good & ~unsent).sum()), int(unsent.sum()))
            latencies[str(name)].append(rows.loc[good, "latency_us"].to_numpy(dtype=float) / 1e3)
    judged = (campaign.meta.get("probe") or {}).get("name", "health")
    seen = []
    for name in sorted(told, key=lambda one: one != judged):
        found = np.concatenate(latencies[name])
        quantiles = np.quantile(found, [0.5, 0.95, 0.99]) if len(found) else [None] * 3
        seen.append((name, told[name], name == judged, *map(int, counts[name]), *quantiles))
    return pd.DataFrame(seen, columns=list(COLUMNS))

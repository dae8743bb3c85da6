"""A report of a million probes is made run by run, is not larger for it, and loses no extreme."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path

from chaoslab.analysis import analyse
from chaoslab.report import sections
from tests.campaigns import make_campaign, make_run


def test_a_million_probes_are_read_run_by_run_and_none_is_lost(tmp_path: Path) -> None:
    runs = [make_run(repeat=n, rate_hz=12_500.0, down=[(6.0, 8.0)], seed=n) for n in (1, 2, 3, 4)]
    latency = list(runs[0].probes["latency_us"])
    latency[123_456] = 777_000
    runs[0] = replace(runs[0], probes={**runs[0].probes, "latency_us": latency})
    campaign = make_campaign(tmp_path / "campaign", runs)
    analysis = analyse(campaign)
    shown = sections.scenarios(analysis, campaign).html
    assert "probes" not in vars(campaign)  # the whole table was never in memory
    assert "100,000 of 500,000 probes during injection failed" in shown
    [detail] = [json.loads(html.unescape(found)) for found in re.findall(r"data-detail='([^']*)'", shown)]
    assert sum(column[1] for column in detail["columns"]) == 1_000_000
    assert max(column[5] for column in detail["columns"] if column[5] is not None) == 777
    assert len(shown) < 200_000
    assert "Every metric that an objective names was measured" in sections.omissions(analysis).html

"""Baseline against candidate: is today's build worse than the stored one?

What the gate judges is the family of every blocking objective's metric in every fault scenario; its p values are
adjusted for the whole family, so that two campaigns of one build raise a false alarm in at most one comparison of
twenty. The control and the other metrics are explored beside it, with the false discovery rate kept instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median_high
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from chaoslab.analysis import Analysis, analyse
from chaoslab.comparison import answers, caveats, changes, comparability, effects
from chaoslab.comparison.answers import Answer, Chance, Judgement
from chaoslab.comparison.changes import COMPARED, Change, Margin, Pair
from chaoslab.errors import UsageError, nearest
from chaoslab.intervals import LEVEL
from chaoslab.store import Campaign
from chaoslab.wording import METRIC_NAMES, listed, plural

COMPARISON_VERSION: Final = 1
Role = Literal["gate", "explored"]
ADJUSTMENTS: Final[Mapping[Role, str]] = {
    "gate": "Westfall–Young step-down maxT",
    "explored": "Benjamini–Hochberg",
}
NAMES: Final = {
    **METRIC_NAMES,
    "first_success_seconds": "first success",
    "longest_outage_seconds": "longest outage",
    "latency_baseline_p95_ms": "latency at rest, p95",
    "latency_injection_p50_ms": "latency during injection, p50",
    "latency_injection_p95_ms": "latency during injection, p95",
    "latency_injection_p99_ms": "latency during injection, p99",
}
"""Compared metrics, as readers know them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One metric of one scenario, compared.

    Attributes:
        role: whether the gate judges it, or it is explored beside.
        runs: usable runs with a value, of baseline and candidate.
        margin: the largest change that does not matter, in the metric's unit (points for percentages).
        p: adjusted over all cells of its role; `p_alone` is the cell's own.
        no_runs: whether a side has no usable run at all.
    """

    scenario: str
    metric: str
    role: Role
    runs: tuple[int, int]
    change: Change
    margin: float
    p: float
    p_alone: float
    no_runs: bool
    judgement: Judgement

    @property
    def answer(self) -> Answer:
        """Better, same, worse or inconclusive."""
        return self.judgement.answer

    @property
    def harm(self) -> tuple[float, float, float] | None:
        """The change with its interval, in margins, positive for the worse; None without an interval."""
        if self.change.difference is None or self.change.wide is None:
            return None
        sign = 1 if COMPARED[self.metric].more_is_worse else -1
        ends = sorted(sign * bound / self.margin for bound in self.change.wide)
        return sign * self.change.difference / self.margin, ends[0], ends[1]

    def as_dict(self) -> dict[str, Any]:
        """Return the cell as a JSON object."""
        compared = COMPARED[self.metric]
        return {
            "scenario": self.scenario,
            "metric": self.metric,
            "role": self.role,
            "unit": compared.unit,
            "runs": list(self.runs),
            "baseline": self.change.baseline,
            "candidate": self.change.candidate,
            "effect": self.change.effect.as_dict(),
            "difference": self.change.difference,
            "margin": self.margin,
            "p": self.p,
            "p_alone": self.p_alone,
            "adjustment": ADJUSTMENTS[self.role],
            "robust": changes.as_fields(self.change.robust),
            **asdict(self.judgement),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two campaigns, compared. `baseline` and `candidate` are their `campaign.json`.

    Attributes:
        cells: scenario by scenario, those of the gate first in each.
        missing: scenarios of the baseline that the candidate did not run; `added` the other way round.
        marks: what a reader must know beside the numbers.
        margins: of every metric, as declared.
    """

    baseline: Mapping[str, Any]
    candidate: Mapping[str, Any]
    level: float
    margins: Mapping[str, Margin]
    cells: tuple[Cell, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    marks: tuple[str, ...]

    @property
    def gate(self) -> tuple[Cell, ...]:
        """The cells that decide."""
        return tuple(cell for cell in self.cells if cell.role == "gate")

    @property
    def answer(self) -> Answer:
        """Worse if a cell of the gate is; else inconclusive if one is, or nothing was judged; else better or same."""
        found = {cell.answer for cell in self.gate}
        if "worse" in found:
            return "worse"
        if not found or self.missing or "inconclusive" in found:
            return "inconclusive"
        return "better" if "better" in found else "same"

    def exit_code(self, fail_on_regression: bool = False) -> int:
        """Return 0; with `fail_on_regression` 1 if the candidate is worse, 3 if that could not be settled."""
        return {"worse": 1, "inconclusive": 3}.get(self.answer, 0) if fail_on_regression else 0

    def headline(self) -> str:
        """Return the answer as a sentence or two."""
        gate = self.gate
        where = {
            answer: list(dict.fromkeys(cell.scenario for cell in gate if cell.answer == answer))
            for answer in ("worse", "better")
        }
        said = f"{plural(len(gate), 'comparison')} in the gate: " + ", ".join(
            f"{sum(cell.answer == answer for cell in gate)} {answer}"
            for answer in ("worse", "inconclusive", "same", "better")
        )
        if where["worse"]:
            return f"The candidate is worse in {listed(where['worse'])}. {said}."
        if self.answer == "inconclusive":
            needed = [cell.judgement.repeats_needed for cell in gate if cell.judgement.repeats_needed]
            more = f" About {median_high(needed)} runs on each side would settle half of the rest." if needed else ""
            lacking = f" The candidate did not run {listed(self.missing)}." if self.missing else ""
            return f"Nothing is shown to be worse, and not all is shown to be the same. {said}.{lacking}{more}"
        if where["better"]:
            return f"The candidate is better in {listed(where['better'])}, and nowhere worse. {said}."
        return f"The candidate is the same within the margins. {said}."

    def table(self) -> pd.DataFrame:
        """Return one row a cell; `harm` with its bounds is the change in margins, positive for the worse."""
        return pd.DataFrame([_row(cell) for cell in self.cells], columns=list(_COLUMNS))

    def as_dict(self) -> dict[str, Any]:
        """Return what `comparison.json` holds; equal campaigns give equal bytes."""
        known = ("campaign", "started_at", "target", "target_name", "target_build", "environment", "status")
        return {
            "comparison_version": COMPARISON_VERSION,
            "answer": self.answer,
            "headline": self.headline(),
            "level": self.level,
            "baseline": {name: self.baseline.get(name) for name in known},
            "candidate": {name: self.candidate.get(name) for name in known},
            "marks": list(self.marks),
            "missing": list(self.missing),
            "added": list(self.added),
            "margins": {metric: asdict(margin) for metric, margin in self.margins.items()},
            "cells": [cell.as_dict() for cell in self.cells],
        }


def compare(
    baseline: Campaign,
    candidate: Campaign,
    *,
    margins: Mapping[str, str | float] | None = None,
    level: float = LEVEL,
    scenarios: Sequence[str] = (),
) -> Comparison:
    """Compare two campaigns, scenario by scenario and metric by metric.

    Args:
        baseline, candidate: what was, and what is judged.
        margins: changes that do not matter, by metric, where the defaults do not fit; see `changes.margins`.
        level: of the intervals; 1 − `level` is also the chance of a false alarm in the whole gate.
        scenarios: names to look at; all that both have by default.

    Raises:
        UsageError: campaigns whose numbers do not mean the same, nothing in common, a bad margin, level or name.
        CampaignFolderError: a folder is damaged.
    """
    declared = changes.margins(margins)
    if not 0.5 < level < 1:
        raise UsageError(f"the level {level:g} cannot be used; accepted: above 0.5 and below 1, such as 0.95")
    before, after = ({str(e["name"]): e for e in side.meta["scenarios"]} for side in (baseline, candidate))
    common = _chosen(before, after, scenarios)
    comparability.refuse(baseline.meta, candidate.meta, common)
    sides = [analyse(baseline), analyse(candidate)]
    pairs = _pairs(sides, common, float(candidate.meta["probe"]["rate_hz"]))
    cells = judge(pairs, _blocking(sides[1]), declared, level=level)
    controls = {name for name in common if after[name]["type"] == "control"}
    return Comparison(
        baseline=baseline.meta,
        candidate=candidate.meta,
        level=level,
        margins=declared,
        cells=cells,
        missing=() if scenarios else tuple(name for name in before if name not in after),
        added=() if scenarios else tuple(name for name in after if name not in before),
        marks=(
            *comparability.marks(baseline.meta, candidate.meta),
            *caveats.busy(sides, common),
            *_drift(cells, controls),
            *caveats.lost(sides, common),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The pairs of one scenario, in the order of `COMPARED`; a control is never part of the gate."""

    name: str
    control: bool
    pairs: tuple[Pair, ...]


def judge(
    scenarios: Sequence[Scenario], blocking: Iterable[str], margins: Mapping[str, Margin], *, level: float = LEVEL
) -> tuple[Cell, ...]:
    """Judge every pair; `blocking` names the metrics that the gate looks at."""
    gated = set(blocking)
    planned = [
        (scenario, pair, "gate" if pair.compared.metric in gated and not scenario.control else "explored")
        for scenario in scenarios
        for pair in scenario.pairs
    ]
    found: dict[tuple[str, str], Cell] = {}
    for role in ADJUSTMENTS:
        mine = [(scenario, pair) for scenario, pair, its in planned if its == role]
        found |= {(cell.scenario, cell.metric): cell for cell in _judge_family(mine, role, margins, level)}
    cells = [found[scenario.name, pair.compared.metric] for scenario, pair, _ in planned]
    return tuple(
        cell
        for scenario in scenarios
        for role in ADJUSTMENTS
        for cell in cells
        if cell.scenario == scenario.name and cell.role == role
    )


def _judge_family(
    family: Sequence[tuple[Scenario, Pair]], role: Role, margins: Mapping[str, Margin], level: float
) -> list[Cell]:
    by_scenario: dict[str, list[Pair]] = {}
    for scenario, pair in family:
        by_scenario.setdefault(scenario.name, []).append(pair)
    testable = {name: pairs for name, pairs in by_scenario.items() if _both_ran(pairs[0])}
    regrouped = {name: regroup(pairs) for name, pairs in testable.items()}
    own = {name: effects.alone(found) for name, found in regrouped.items()}
    adjusted = dict(zip(own, _adjust(role, list(regrouped.values()), list(own.values())), strict=True))
    groups = [(len(pairs[0].baseline.runs), len(pairs[0].candidate.runs)) for pairs in testable.values()]
    cells = []
    for name, pairs in by_scenario.items():
        for column, pair in enumerate(pairs):
            tested = name in testable
            p = float(adjusted[name][column]) if tested else 1.0
            chance = Chance(
                t=float(regrouped[name].observed[column]) if tested else 0.0,
                p=p,
                least_p=_least_p(role, groups) if tested else 1.0,
                alpha=1 - level,
                least_p_with=lambda runs: _least_p(role, [(runs, runs)] * len(groups)),
            )
            change = changes.estimate(pair, level=level)
            margin = margins[pair.compared.metric].of(change.baseline or 0.0) or pair.floor
            cells.append(
                Cell(
                    scenario=name,
                    metric=pair.compared.metric,
                    role=role,
                    runs=pair.runs,
                    change=change,
                    margin=margin,
                    p=p,
                    p_alone=float(own[name][column]) if tested else 1.0,
                    no_runs=not tested,
                    judgement=answers.judge(pair, change, chance, margin=margin),
                )
            )
    return cells


def _both_ran(pair: Pair) -> bool:
    return bool(pair.baseline.runs and pair.candidate.runs)


def regroup(pairs: Sequence[Pair]) -> effects.Regrouped:
    """Return what every other dealing of the runs would have given, for all metrics of a scenario together."""
    before = np.column_stack([pair.scores(pair.baseline) for pair in pairs])
    after = np.column_stack([pair.scores(pair.candidate) for pair in pairs])
    return effects.regroup(before, after, resolution=[pair.resolution for pair in pairs])


def _adjust(
    role: Role, regrouped: Sequence[effects.Regrouped], own: Sequence[changes.Floats]
) -> Sequence[changes.Floats]:
    if role == "gate" or not own:
        return effects.step_down(regrouped)
    from scipy import stats  # takes half a second

    together = stats.false_discovery_control(np.concatenate(own), method="bh")
    return np.split(together, np.cumsum([len(part) for part in own])[:-1])


def _least_p(role: Role, groups: Sequence[tuple[int, int]]) -> float:
    """The gate's smallest p grows with its scenarios; what is explored may lean on others that changed as well."""
    if role == "gate":
        return effects.least_adjusted_p(groups)
    return min((2 / math.comb(before + after, after) for before, after in groups), default=1.0)


def _pairs(sides: Sequence[Analysis], common: Sequence[str], rate_hz: float) -> list[Scenario]:
    by_name = [{result.name: result for result in side.scenarios} for side in sides]
    return [
        Scenario(
            name=name,
            control=by_name[1][name].type == "control",
            pairs=tuple(
                changes.pair(compared, by_name[0][name].runs, by_name[1][name].runs, rate_hz=rate_hz)
                for compared in COMPARED.values()
            ),
        )
        for name in common
    ]


def _blocking(candidate: Analysis) -> list[str]:
    return [slo.metric for slo in candidate.slos if slo.severity == "blocking"]


def _chosen(before: Mapping[str, Any], after: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """Return the scenarios to compare, in the candidate's order."""
    for name in wanted:
        if name not in before or name not in after:
            hint = nearest(name, [known for known in after if known in before])
            raise UsageError(
                f"no scenario {name!r} in both campaigns{hint}; the baseline has {listed(before)}, "
                f"the candidate {listed(after)}"
            )
    common = [name for name in after if name in before and (not wanted or name in wanted)]
    if not common:
        raise UsageError(
            f"the campaigns have no scenario in common: the baseline has {listed(before) or 'none'}, "
            f"the candidate {listed(after) or 'none'}"
        )
    return common


def _drift(cells: Sequence[Cell], controls: set[str]) -> list[str]:
    """A control that changed says that the machine, or the build at rest, is not what it was."""
    moved = [NAMES[cell.metric] for cell in cells if cell.scenario in controls and cell.answer in ("worse", "better")]
    if not moved:
        return []
    return [
        f"Without any fault, {listed(moved)} changed as well: the machine or the build at rest is not what it was, and "
        "what follows under a fault may come from that."
    ]


_COLUMNS: Final = (
    "scenario",
    "metric",
    "name",
    "role",
    "baseline_runs",
    "candidate_runs",
    "baseline",
    "candidate",
    "unit",
    "effect",
    "low",
    "high",
    "effect_unit",
    "margin",
    "harm",
    "harm_low",
    "harm_high",
    "p",
    "shift",
    "mann_whitney_p",
    "answer",
    "reason",
    "repeats_needed",
    "no_runs",
)


def _row(cell: Cell) -> dict[str, Any]:
    harm = cell.harm or (None, None, None)
    robust = cell.change.robust
    return {
        "scenario": cell.scenario,
        "metric": cell.metric,
        "name": NAMES[cell.metric],
        "role": cell.role,
        "baseline_runs": cell.runs[0],
        "candidate_runs": cell.runs[1],
        "baseline": cell.change.baseline,
        "candidate": cell.change.candidate,
        "unit": COMPARED[cell.metric].unit,
        "effect": cell.change.effect.value,
        "low": cell.change.effect.low,
        "high": cell.change.effect.high,
        "effect_unit": cell.change.effect.unit,
        "margin": cell.margin,
        "harm": harm[0],
        "harm_low": harm[1],
        "harm_high": harm[2],
        "p": cell.p,
        "shift": robust.shift if robust else None,
        "mann_whitney_p": robust.p if robust else None,
        "answer": cell.answer,
        "reason": cell.judgement.reason,
        "repeats_needed": cell.judgement.repeats_needed,
        "no_runs": cell.no_runs,
    }

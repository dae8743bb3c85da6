"""The report's sections: display objects that a notebook shows and the HTML page holds as they are.

Each is one template of `template/parts`, rendered with autoescaping: whatever came from a scenario file, a probed
service or the host is text, never markup.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chaoslab import baselines, forest, plots, wording
from chaoslab.comparison import compare
from chaoslab.errors import ChaoslabError
from chaoslab.export import comparison as comparisons
from chaoslab.export import narrative
from chaoslab.probe_table import probe_table
from chaoslab.report import figures
from chaoslab.report.section import TEMPLATE, Section

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis
    from chaoslab.comparison import Comparison, Role
    from chaoslab.store import Campaign


def style() -> Section:
    """Return the style of all sections, for notebooks; the exported page carries it in its head."""
    return Section(Markup("<style>{}</style>").format(Markup((TEMPLATE / "parts.css").read_text(encoding="utf-8"))))


def answer(analysis: Analysis) -> Section:
    """Return the verdict in words, what stands in its way, and a table of all scenarios."""
    outcome = {
        "outcome": analysis.outcome,
        "says": narrative.headline(analysis),
        "exit_code": analysis.exit_code(),
        "strict_exit_code": analysis.exit_code(fail_on_violation=True),
    }
    return replace(rendered("answer", analysis=analysis), outcome=outcome)


def doses(analysis: Analysis) -> Section:
    """Return what was asked of each fault beside what was measured."""
    drawn = figures.doses(analysis) if narrative.dose_rows(analysis) else None
    return rendered("doses", analysis=analysis, figure=drawn)


def scenarios(analysis: Analysis, campaign: Campaign, *, scale: plots.Scale = "log") -> Section:
    """Return a section for each scenario: what happened, its timeline, its estimates against the objectives."""
    latencies = plots.latency_limits(figures.judged(campaign.probes_of(run), campaign) for run in campaign.runs)
    limits = figures.objective_limits(analysis)
    with _only_new_garbage():
        drawn = [
            (
                result,
                figures.timeline(result, campaign, scale=scale, limits=latencies),
                figures.objectives(result, limits) if result.verdicts and result.runs else None,
            )
            for result in analysis.scenarios
        ]
    return rendered("scenarios", drawn=drawn)


@contextmanager
def _only_new_garbage() -> Iterator[None]:
    """Keep what is there already from being searched each time that figures, which refer to themselves, are swept away.

    That search took a fifth of the time in which they are drawn.
    """
    if gc.get_freeze_count():  # whoever has frozen something must find it as it was
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def recovery(analysis: Analysis) -> Section:
    """Return the recovery curves of all scenarios on one scale."""
    return rendered("recovery", figure=figures.recoveries(analysis))


def method(analysis: Analysis) -> Section:
    """Return how it was measured: mechanisms, methods, provenance."""
    return rendered("method", analysis=analysis)


def probes(campaign: Campaign) -> Section:
    """Return what each probe saw, where there were several."""
    table = probe_table(campaign)
    return rendered("probes", rows=table.astype(object).where(table.notna(), None).to_dict("records"))


def omissions(analysis: Analysis) -> Section:
    """Return what was not measured, and why."""
    return rendered("omissions", analysis=analysis)


def rehearsal(meta: Mapping[str, Any]) -> Section:
    """Return what a dry run planned, from its `campaign.json`: nothing was injected, so nothing is judged."""
    return rendered("rehearsal", meta=meta)


def comparison(found: Comparison) -> Section:
    """Return the answer of a comparison in words, what a reader must know, and its gate with the figure."""
    outcome = {
        "outcome": found.answer,
        "says": found.headline(),
        "exit_code": found.exit_code(),
        "strict_exit_code": found.exit_code(fail_on_regression=True),
    }
    section = rendered("comparison", found=found, words_of=comparisons, figure=_forest(found, "gate"))
    return replace(section, outcome=outcome)


def against(campaign: Campaign, baseline: str) -> Section:
    """Return how the campaign compares with a baseline: a campaign's folder or the name of a stored one, "" for none.

    Raises:
        UsageError: neither a folder nor the name of a stored baseline.
    """
    if not baseline:
        return rendered("against", reason="")
    earlier = baselines.find(baseline)
    try:
        return comparison(compare(earlier, campaign))
    except ChaoslabError as refusal:
        return rendered("against", reason=str(refusal))


def changes(found: Comparison) -> Section:
    """Return what was explored beside the gate, and how all of it was compared."""
    return rendered("changes", found=found, words_of=comparisons, figure=_forest(found, "explored"))


def _forest(found: Comparison, role: Role) -> plots.Picture | None:
    table = found.table()
    rows = table[table["role"] == role]
    if rows.empty:
        return None
    caption = "Change from baseline to candidate as a multiple of its margin, with its interval; to the right is worse."
    return plots.picture(forest.forest(rows), alt=forest.describe(rows), caption=caption)


def rendered(name: str, **values: Any) -> Section:
    """Return a template of `template/parts` as a section."""
    return Section(_environment().get_template(f"{name}.html.j2").render(values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE / "parts"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(words=narrative, wording=wording)
    return environment

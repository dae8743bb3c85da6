"""Figures over several campaigns, laid out and captioned: histories, and what events cost of the error budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from chaoslab import budget as budgets
from chaoslab import charts, plots, wording

if TYPE_CHECKING:
    from chaoslab.trends import History, Trends

_PANEL: Final = 2.5


def changed(found: Trends) -> plots.Picture | None:
    """Draw every history in which a change is claimed; None if there is none."""
    shown = [history for history in found.histories if history.changes]
    return _panels(shown) if shown else None


def histories(found: Trends, metric: str) -> plots.Picture:
    """Draw the history of `metric` in every scenario.

    Raises:
        UsageError: it is not among the metrics of `found`.
    """
    shown = [history for history in found.histories if history.metric == metric]
    return _panels(shown or [found.history(found.histories[0].scenario, metric)])


def budget(costs: Sequence[budgets.Cost]) -> plots.Picture:
    """Draw what one event of each scenario costs of the error budget."""
    figure = plots.row_figure(0.75 + 0.34 * len(costs), right=3.8)
    charts.budget(budgets.table(costs), ax=figure.subplots())
    said = " ".join(f"{one.scenario}: {wording.estimate(one.share)}." for one in costs)
    caption = f"{budgets.headline(costs[0])}. The bar is the estimate, the line its 95 % interval. {costs[0].warning}"
    return plots.picture(
        figure, alt=f"Share of the error budget that one event costs. {said}", caption=caption.rstrip()
    )


def _panels(shown: Sequence[History]) -> plots.Picture:
    figure = plots.figure(height=_PANEL * len(shown))
    for ax, history in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        charts.history(
            history.table(),
            changes=history.changes_table(),
            threshold=history.slo.threshold if history.slo else None,
            comparison=history.slo.comparison if history.slo else "<=",
            ax=ax,
            label=_name(history),
        )
    caption = (
        "Each mark is one campaign with its 95 % interval, an arrow a value that is only a lower bound, a dash a "
        "campaign without a value. Levels and dotted lines are changes that are claimed; the shaded side is the wrong "
        "one."
    )
    return plots.picture(figure, alt=" ".join(map(_said, shown)), caption=caption)


def _name(history: History) -> str:
    return f"{history.scenario}: {wording.METRIC_NAMES.get(history.metric, history.metric)}"


def _said(history: History) -> str:
    newest = wording.estimate(history.points[-1].estimate)
    changes = "; ".join(history.changes_table()["words"]) or history.reason or "no change is shown"
    return f"{_name(history)}, {wording.plural(len(history.points), 'campaign')}, newest {newest}: {changes}."

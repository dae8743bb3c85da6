"""What is shown of several campaigns: a dashboard of all histories, figures of them, the cost of events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from chaoslab import budget as budgets
from chaoslab import charts, plots, wording
from chaoslab.report.sections import rendered
from chaoslab.report.sparklines import sparkline

if TYPE_CHECKING:
    import pandas as pd

    from chaoslab.report.section import Section
    from chaoslab.trends import History, Trends

_PANEL: Final = 2.5


def dashboard(found: Trends) -> Section:
    """Return a tile for each scenario and metric: the newest estimate, the history as a line, and what changed."""
    groups = [
        (scenario, [_tile(history) for history in found.histories if history.scenario == scenario])
        for scenario in found.scenarios
    ]
    changed = sum(bool(history.changes) for history in found.histories)
    campaigns = max(len(history.points) for history in found.histories)
    headline = (
        f"{wording.plural(len(found.histories), 'history', 'histories')} of up to "
        f"{wording.plural(campaigns, 'campaign')}, the newest {found.newest.name}: "
        f"{'a change is claimed in ' + str(changed) if changed else 'no change is claimed'}."
    )
    return rendered("dashboard", groups=groups, headline=headline)


def _tile(history: History) -> dict[str, object]:
    slo = history.slo
    ends = [point.started_at for point in (history.points[0], history.points[-1])]
    told = 10 if ends[0][:10] != ends[1][:10] else 16  # the hour, where all are of one day
    return {
        "metric": wording.short_name(history.metric),
        "objective": wording.objective(slo.comparison, slo.threshold, slo.unit) if slo else "",
        "newest": wording.estimate(history.points[-1].estimate),
        "line": sparkline(history, alt=_said(history)),
        "first": ends[0][:told].replace("T", " "),
        "last": ends[1][:told].replace("T", " ") if len(history.points) > 1 else "",
        "changes": list(history.changes_table()["words"]),
        "otherwise": history.reason or "no change is shown",
    }


def table(frame: pd.DataFrame, label: str, *, empty: str = "Nothing.") -> Section:
    """Return a table whose first column names its rows; `empty` is said where it has none."""
    rows = frame.astype(object).where(frame.notna(), "").to_numpy().tolist()
    return rendered("table", names=list(frame.columns), rows=rows, label=label, empty=empty)


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

"""The figure of a comparison says what its table says, by shape and word."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from chaoslab import forest, plots
from chaoslab.comparison import compare
from tests.campaigns import make_campaign
from tests.test_comparison import longer, runs


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    place = tmp_path_factory.mktemp("forest")
    name = "</style>$x$ & a very long name of a scenario that goes on and on"
    before = make_campaign(place / "before", runs(5, seed=0, scenario=name), campaign="before")
    after = make_campaign(place / "after", runs(5, seed=50, scenario=name, down=longer), campaign="after")
    return compare(before, after).table()


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.findobj(Text) if isinstance(text, Text)]


def marker(ax: Axes, place: int) -> tuple[str, float]:
    """Shape and place of the mark in a row."""
    [found] = [line for line in ax.lines if line.get_marker() in "XosD" and list(line.get_ydata()) == [place]]
    return str(found.get_marker()), float(found.get_xdata()[0])


def test_every_row_is_named_and_says_effect_and_answer(table: pd.DataFrame) -> None:
    said = texts(forest.forest(table))
    assert "error rate during injection" in said
    assert "(longest outage)" in said  # explored
    assert any("points [" in words and words.endswith("· WORSE") for words in said)
    assert "no outage → 3.30 s · WORSE" in said
    assert "the same within ±1" in said


def test_worse_is_a_cross_to_the_right_and_same_a_square_within_the_band(table: pd.DataFrame) -> None:
    ax = forest.forest(table)
    names = [label.get_text() for label in ax.get_yticklabels()]
    shape, where = marker(ax, names.index("availability during injection"))
    assert (shape, where > 1) == ("X", True)
    shape, where = marker(ax, names.index("latency degradation"))
    assert (shape, abs(where) < 1) == ("s", True)


def test_a_change_beyond_the_axis_ends_in_an_arrow(table: pd.DataFrame) -> None:
    far = table[table["metric"] == "error_rate_percent"].assign(harm=500.0, harm_low=400.0, harm_high=600.0)
    ax = forest.forest(far)
    assert marker(ax, 1) == ("X", forest.FURTHEST)
    assert [line.get_marker() for line in ax.lines].count(">") == 2


def test_a_scenario_without_runs_has_one_row_with_the_reason(table: pd.DataFrame) -> None:
    reason = "the baseline has no usable run"
    empty = table.assign(no_runs=True, baseline=None, candidate=None, harm=None, reason=reason, answer="inconclusive")
    said = texts(forest.forest(empty))
    assert said.count(f"{reason} · inconclusive") == 1


def test_it_draws_into_given_axes_and_in_words_too(table: pd.DataFrame) -> None:
    ax = plots.figure().subplots()
    assert forest.forest(table, ax=ax) is ax
    picture = plots.picture(ax, alt=forest.describe(table))
    assert "availability during injection: 100.00 % → 67.00 %" in picture.alt
    assert picture.svg == plots.picture(ax, alt="").svg

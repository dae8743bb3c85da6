"""The gallery has a page for each plot function, and shows what the code on the page draws today."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest
from matplotlib.axes import Axes

from chaoslab import charts, forest, plots
from chaoslab.study import picture as study
from docs.gallery import draw
from tests.overlaps import overlaps

PAGES = draw.pages()


def plot_functions(module: ModuleType) -> set[str]:
    """Public functions of a module that draw into `ax=`, and make their own axes if there are none."""
    return {
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if not name.startswith("_")
        and (ax := inspect.signature(function).parameters.get("ax")) is not None
        and (ax.kind, ax.default) == (ax.KEYWORD_ONLY, None)
    }


def test_every_plot_function_has_a_page_and_every_page_a_function() -> None:
    functions = set().union(*map(plot_functions, (plots, charts, forest, study)))
    assert {page.name for page in PAGES} == functions
    assert len(functions) >= 11


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_its_code_draws_and_no_words_lie_over_each_other(
    page: draw.Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Axes] = []
    picture = plots.picture
    monkeypatch.setattr(plots, "picture", lambda ax, alt: drawn.append(ax) or picture(ax, alt=alt))
    assert page.draw() == page.picture.read_text(encoding="utf-8"), "make gallery draws it anew"
    figure = drawn[0].get_figure(root=True)
    assert figure is not None
    assert overlaps(figure) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_calls_its_function_with_data_and_says_what_is_seen(page: draw.Page) -> None:
    assert f"{page.name}(" in page.code
    assert "pd." in page.code or "data/reference" in page.code
    assert len(page.alt) > 40
    assert f"![{page.alt}]({page.picture.name})" in page.path.read_text(encoding="utf-8")


def test_the_index_leads_to_every_page() -> None:
    assert (draw.HERE / "README.md").read_text(encoding="utf-8") == draw.index(PAGES)

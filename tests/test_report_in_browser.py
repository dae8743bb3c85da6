"""The report in a real browser: nothing leaves it, it is accessible, and it fits phone, dark screen and paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chaoslab import report
from chaoslab.batch import page as summary
from chaoslab.batch.plan import Job
from chaoslab.batch.result import Result
from tests.browsers import complaints, watched
from tests.campaigns import make_campaign
from tests.test_report import make, make_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LIGHT, DARK = "light", "dark"
SETTLED = "document.readyState === 'complete' && [...document.images].every((image) => image.complete)"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a campaign with an outage, a hostile name and a baseline."""
    folder = tmp_path_factory.mktemp("browser")
    earlier = [make_run("Database Brief Outage", n, type="database_outage", down=[(5.0, 7.0)], seed=n) for n in (1, 2)]
    make_campaign(folder / "earlier", earlier, campaign="earlier")
    make(folder / "campaign")
    return report.render(folder / "campaign", parameters={"baseline": "../earlier"}).as_uri()


Open = Callable[..., "Page"]


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Open]:
    """Opens the report, and in the end holds against it every request that left, and every word on the console."""
    with watched(browser) as (open_address, seen):

        def opened(**options: Any) -> Page:
            page = open_address(address, **options)
            if options.get("java_script_enabled", True):
                page.wait_for_function(SETTLED)
            return page

        yield opened
    assert address in seen
    assert [said for said in seen if said != address and not said.startswith("data:image/svg+xml;base64,")] == []


def outage(page: Page) -> Any:
    return page.locator("figure[data-detail]").nth(1)


def test_nothing_leaves_the_page_and_the_console_stays_empty(opened: Open) -> None:
    page = opened()
    assert page.title() == "Resilience report · test"
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")


def test_even_a_script_that_got_into_the_page_could_not_run_or_send_anything(browser: Browser, address: str) -> None:
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(address)
    page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
        " document.body.append(script); const image = new Image(); image.src = 'http://127.0.0.1:9/'; }"
    )
    page.wait_for_function(SETTLED)
    assert page.evaluate("window.ran === undefined")
    assert any("script-src" in line for line in refused)
    assert any("img-src" in line for line in refused)
    page.close()


@pytest.mark.parametrize(("scheme", "width"), [(LIGHT, 1280), (DARK, 390)])
def test_axe_finds_nothing_to_complain_about(opened: Open, scheme: str, width: int) -> None:
    page = opened(scheme=scheme, width=width)
    outage(page).get_by_role("button", name="Zoom in").click()
    for details in page.locator("details").all():
        details.evaluate("(element) => { element.open = true; }")
    assert complaints(page) == []


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The page of trends over the reference's history, and the summary of a batch."""
    folder = tmp_path_factory.mktemp("others")
    history = Path(__file__).parents[1] / "data" / "reference" / "history"
    report.write_trends(folder / "trends.html", {"campaigns": [str(history)]})
    job = Job(number=1, notebook=Path("03_resilience_report.ipynb"), parameters={"campaign": "<b>"}, injects=False)
    (folder / f"{job.slug}.html").touch()
    failed = Result(exit_code=1, strict_exit_code=1, error="the kernel died")
    rows = [(job, Result(exit_code=0, strict_exit_code=1, outcome="fail", says="1 of 5 is missed.")), (job, failed)]
    (folder / "batch.html").write_text(summary.render(rows, folder), encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in ("trends", "batch")}


@pytest.mark.parametrize(("scheme", "width"), [(LIGHT, 1280), (DARK, 390)])
@pytest.mark.parametrize("name", ["trends", "batch"])
def test_the_other_pages_are_accessible_and_fit_the_screen(
    browser: Browser, others: dict[str, str], name: str, scheme: Any, width: int
) -> None:
    with watched(browser) as (open_address, asked):
        shown = open_address(others[name], width=width, scheme=scheme)
        shown.wait_for_function(SETTLED)
        assert complaints(shown) == []
        assert shown.evaluate(WIDER) == 0
    assert [said for said in asked if not said.startswith("data:")] == [others[name]]


def test_the_page_follows_the_readers_scheme(opened: Open) -> None:
    darkness = {
        scheme: opened(scheme=scheme).evaluate("getComputedStyle(document.documentElement).backgroundColor")
        for scheme in (LIGHT, DARK)
    }
    assert darkness == {LIGHT: "rgb(254, 254, 254)", DARK: "rgb(21, 27, 33)"}


def test_a_narrow_page_is_never_wider_than_the_screen(opened: Open) -> None:
    page = opened(width=768)
    outage(page).get_by_role("button", name="Zoom in").click()
    for width in (768, 390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(WIDER) == 0


def test_the_first_stop_of_the_keyboard_skips_to_the_report(opened: Open) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") == 0


def test_pointing_at_a_timeline_reads_it_off(opened: Open) -> None:
    """The service is down from 0 to 11 s of the injection, and up before it with latencies of 20 to 21 ms."""
    page = opened()
    figure = outage(page)
    figure.scroll_into_view_if_needed()
    box = figure.locator("img").bounding_box()
    said = {}
    for share in (0.2, 0.5):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 80)
        said[share] = figure.locator(".said").text_content()
    assert re.match(r"-\d\.\d+ s: median 20\.\d ms \(20.*; 0 of \d probes? failed", said[0.2])
    assert re.match(r"\d\.\d+ s: none succeeded; (\d) of \1 probes? failed", said[0.5])


def test_the_keyboard_reads_off_and_enlarges(opened: Open) -> None:
    page = opened()
    figure = outage(page)
    slider = figure.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    before = slider.get_attribute("aria-valuetext")
    page.keyboard.press("PageUp")
    assert slider.get_attribute("aria-valuetext") not in (None, before)
    page.keyboard.press("+")
    enlarged = figure.get_by_role("img", name=re.compile("enlarged from .* to .* s"))
    assert enlarged.count() == 1
    page.keyboard.press("-")
    assert enlarged.count() == 0


def test_dragging_across_a_timeline_enlarges_that_part(opened: Open) -> None:
    page = opened()
    figure = outage(page)
    figure.scroll_into_view_if_needed()
    box = figure.locator("img").bounding_box()
    left, right = page.evaluate("JSON.parse(document.querySelectorAll('figure[data-detail]')[1].dataset.detail).box")
    places = [box["x"] + box["width"] * (left + share * (right - left)) for share in (0.25, 0.5)]
    page.mouse.move(places[0], box["y"] + 80)
    page.mouse.down()
    page.mouse.move(places[1], box["y"] + 80, steps=5)
    page.mouse.up()
    name = figure.locator(".detail svg").get_attribute("aria-label")
    begin, end = map(float, re.findall(r"-?\d+\.\d+", name.partition("enlarged")[2]))
    assert (begin, end) == pytest.approx((0.0, 5.0), abs=0.1)  # a run is 20 s, and 5 s of it come before the injection
    figure.get_by_role("button", name="Whole run").click()
    assert figure.locator(".detail svg").count() == 0


def test_without_scripts_the_report_is_complete(opened: Open) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator("img").count() == 9  # doses, recovery, the comparison, and two a scenario
    assert page.get_by_role("button").count() == 0


def test_on_paper_everything_is_shown_and_nothing_asks_to_be_clicked(opened: Open, tmp_path: Path) -> None:
    page = opened(width=688)  # what A4 leaves between its margins
    page.emulate_media(media="print")
    outage(page).get_by_role("button", name="Zoom in", include_hidden=True).evaluate("(button) => button.click()")
    for hidden in (".reading", ".detail", ".skip", ".cursor"):
        assert not [one for one in page.locator(hidden).all() if one.is_visible()]
    assert page.locator("details table").first.is_visible()
    assert page.evaluate(WIDER) == 0
    printed = page.pdf(format="A4", prefer_css_page_size=True)
    assert len(re.findall(rb"/Type /Page\b", printed)) >= 4

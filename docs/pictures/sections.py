"""Take the pictures of a report: cut from the report of data/reference/fragile, as Chromium shows it.

python docs/pictures/sections.py
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from chaoslab import report

HERE: Final = Path(__file__).parent
REFERENCE: Final = HERE.parents[1] / "data" / "reference"
_MARGIN: Final = 12
_COLOURS: Final = 160
_CUTS: Final = {
    "report-answer": (".banner", ".chaoslab:has(.banner) table"),
    "report-scenario": ("#scenario-4", "#scenario-4 figure >> nth=1"),
}
"""The first and the last element that each picture shows."""


def take(page: Page, first: str, last: str) -> bytes:
    """Return what the page shows from one element to another, over its whole width, as PNG of few colours."""
    top, bottom = (page.locator(selector).first.bounding_box() for selector in (first, last))
    assert top is not None
    assert bottom is not None
    upper, lower = top["y"] - _MARGIN, bottom["y"] + bottom["height"] + _MARGIN
    width = page.evaluate("document.documentElement.clientWidth")
    shot = page.screenshot(full_page=True, clip={"x": 0, "y": upper, "width": width, "height": lower - upper})
    buffer = io.BytesIO()
    # The usual choice of colours goes by area, and would take that of the small marks of *pass* for another.
    few = Image.open(io.BytesIO(shot)).convert("RGB").quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE)
    few.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def main() -> None:
    """Render the report and write its pictures."""
    program = shutil.which("chromium")
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        campaign = shutil.copytree(REFERENCE / "fragile", Path(folder) / "fragile")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1060, "height": 900}, color_scheme="light")
        page.goto(report.render(campaign).as_uri())
        for name, (first, last) in _CUTS.items():
            (HERE / f"{name}.png").write_bytes(take(page, first, last))
        browser.close()


if __name__ == "__main__":
    main()

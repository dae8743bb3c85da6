"""Take the README's pictures: how the report of a recorded campaign begins in a browser, and a timeline further down.

python docs/pictures/report.py     (needs chromium)
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from chaoslab import report

HERE: Final = Path(__file__).parent
CAMPAIGN: Final = HERE.parents[1] / "data" / "reference" / "fragile"
SCENARIO: Final = "Database Brief Outage"
WIDTH: Final = 1000


def take(folder: Path, *, beginning: Path, timeline: Path) -> None:
    """Render the report of the campaign in `folder`, and write two pictures of it."""
    with tempfile.TemporaryDirectory() as room, sync_playwright() as playwright:
        copy = shutil.copytree(folder, Path(room) / "campaign")
        page = report.render(copy)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": WIDTH}, color_scheme="light")
        tab.goto(page.as_uri())
        tab.wait_for_function("[...document.images].every((image) => image.complete)")
        ends = tab.get_by_role("heading", name="Scenario by scenario").bounding_box()
        assert ends is not None
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": ends["y"] - 48}
        tab.screenshot(path=beginning, full_page=True, clip=clip)  # type: ignore[arg-type]
        tab.locator("section", has=tab.get_by_role("heading", name=SCENARIO)).locator("figure").first.screenshot(
            path=timeline
        )
        browser.close()


if __name__ == "__main__":
    take(CAMPAIGN, beginning=HERE / "report.png", timeline=HERE / "timeline.png")

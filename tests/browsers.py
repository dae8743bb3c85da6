"""The chromium that pages are looked at with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.conftest import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@contextmanager
def chromium() -> Iterator[Browser]:
    """A chromium; skips where there is none."""
    program = shutil.which("chromium")
    if program is None:
        missing("chromium is missing: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is missing: pip install 'chaoslab[dev]'")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield launched
        launched.close()


def complaints(page: Page) -> list[str]:
    """What axe-core finds on a page."""
    from axe_playwright_python.sync_playwright import Axe

    # Its own look into style sheets would be a request, which a page from disk may not make.
    found = Axe().run(page, options={"preload": False}).response["violations"]
    return [f"{one['impact']}: {one['help']}: {one['nodes'][0]['html'][:200]}" for one in found]

"""The chromium that pages are looked at with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

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


@contextmanager
def watched(browser: Browser) -> Iterator[tuple[Callable[..., Page], list[str]]]:
    """What opens a page from its address, and what pages have since asked for, or said on the console."""
    seen: list[str] = []
    with ExitStack() as stack:

        def opened(address: str, *, width: int = 1280, scheme: Any = "light", **options: Any) -> Page:
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.on("request", lambda request: seen.append(request.url))
            page.on("console", lambda message: seen.append(message.text))
            page.on("pageerror", lambda error: seen.append(str(error)))
            page.goto(address)
            return page

        yield opened, seen


def complaints(page: Page) -> list[str]:
    """What axe-core finds on a page."""
    from axe_playwright_python.sync_playwright import Axe

    # Its own look into style sheets would be a request, which a page from disk may not make.
    found = Axe().run(page, options={"preload": False}).response["violations"]
    return [f"{one['impact']}: {one['help']}: {one['nodes'][0]['html'][:200]}" for one in found]

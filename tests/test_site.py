"""The site is built without a warning, from the code as it is, and needs nothing but its own files."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

import chaoslab
from chaoslab import records, scenario_file
from chaoslab.cli import program
from chaoslab.export import schemas
from tests.browsers import complaints, watched
from tests.conftest import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(chaoslab.__file__).parents[1]
LIGHT, DARK = "light", "dark"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
LOOKED_AT = (
    ("docs/index", LIGHT, 1280),
    ("README", DARK, 390),
    ("docs/reference/scenario-file", DARK, 390),
    ("docs/reference/python", LIGHT, 1280),
    ("docs/faults", DARK, 1280),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    if importlib.util.find_spec("sphinx") is None:
        missing("sphinx is missing: pip install 'chaoslab[docs]'")
    folder = tmp_path_factory.mktemp("site")
    flags = ("--fail-on-warning", "--keep-going", "--quiet", "--conf-dir", "docs")
    argv = [sys.executable, "-m", "sphinx", *flags, "--doctree-dir", str(folder / "trees"), ".", str(folder / "html")]
    built = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert (built.returncode, built.stderr) == (0, "")
    return folder / "html"


Open = Callable[..., "Page"]


@pytest.fixture
def opened(browser: Browser, site: Path) -> Iterator[Open]:
    """Opens a page from disk, and in the end holds against it what it asked for elsewhere, and said on the console."""
    with watched(browser) as (open_address, seen):

        def opened(name: str, **looks: Any) -> Page:
            page = open_address((site / f"{name}.html").as_uri(), **looks)
            page.wait_for_load_state("networkidle")
            return page

        yield opened
    assert [said for said in seen if not said.startswith((f"{site.as_uri()}/", "data:image/"))] == []


def text_of(page: Page) -> str:
    return str(page.locator("article").text_content())


def commands(group: click.Group = program, above: str = "chaoslab") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context := click.Context(group)):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above} {name}")


def test_the_reference_has_every_command_with_every_option(opened: Open) -> None:
    said = text_of(opened("docs/reference/commands"))
    there = dict(commands())
    assert len(there) > 17
    for path, command in there.items():
        assert f"{path} [OPTIONS]" in said
        for option in command.params:
            assert isinstance(option, click.Argument) or option.opts[0] in said


def test_the_reference_has_every_key_of_a_scenario_file(opened: Open) -> None:
    page = opened("docs/reference/scenario-file")
    told = set(page.locator("td:first-child code").all_text_contents())
    schema = scenario_file.json_schema()
    parts = [schema, *schema["$defs"].values()]
    assert {key for part in parts for key in part["properties"]} - told == {"parameters"}
    heads = page.locator("h3").all_text_contents()
    assert all(any(f": {kind}" in head for head in heads) for kind in ("cpu_stress", "combined", "http", "postgres"))


def test_every_key_of_a_scenario_file_says_what_it_means() -> None:
    schema = scenario_file.json_schema()
    parts = {"the file": schema, **schema["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part["properties"].items()
        if "description" not in value and key not in ("type", "parameters")
    ]
    assert silent == []


def test_the_reference_has_every_public_name_and_every_column(opened: Open) -> None:
    names = opened("docs/reference/python").locator("dt.sig").evaluate_all("(all) => all.map((one) => one.id)")
    assert {f"chaoslab.{name}" for name in chaoslab.__all__} <= set(names)
    files = text_of(opened("docs/reference/files"))
    assert all(column in files for table in records.TABLES.values() for column in table.names)
    assert all(document in files for document in schemas.NAMES)


def test_the_front_page_leads_everywhere_and_the_top_leads_to_it(opened: Open, site: Path) -> None:
    assert "url=docs/index.html" in (site / "index.html").read_text()
    page = opened("docs/index")
    links = page.locator(".sidebar-tree a").evaluate_all("(all) => all.map((one) => one.href)")
    pages = {path.with_suffix(".html") for path in (ROOT / "docs").rglob("*.md") if "_site" not in path.parts}
    reached = {link.removeprefix(f"{site.as_uri()}/") for link in links}
    assert {str(path.relative_to(ROOT)) for path in pages} - reached == {"docs/index.html"}


@pytest.mark.parametrize(("name", "scheme", "width"), LOOKED_AT)
def test_axe_finds_nothing_to_complain_about_and_no_page_is_wider_than_the_screen(
    opened: Open, name: str, scheme: str, width: int
) -> None:
    page = opened(name, scheme=scheme, width=width)
    assert complaints(page) == []
    assert page.evaluate(WIDER) == 0


def test_the_search_finds_a_page_without_a_server(opened: Open) -> None:
    page = opened("search")
    page.goto(f"{page.url}?q=censored")
    page.locator("#search-results a").first.wait_for(timeout=10_000)
    assert "Statistics" in text_of(page) or "intervals" in text_of(page)

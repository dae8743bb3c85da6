"""Whatever names, answers and messages say, a report shows it as text: in a browser, in Markdown, to Prometheus."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import mistune
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chaoslab import report
from chaoslab.records import RunState
from chaoslab.report.section import TEMPLATE
from tests.campaigns import RunRows, make_campaign, make_dose, make_run

ATTACKS = [
    "<script>document.title='pwned'</script>",
    '"><img src=x onerror="document.title=\'pwned\'">',
    "'><svg onload=document.title='pwned'>",
    "</title></style></pre><iframe srcdoc='<script>1</script>'>",
    "a|b `c` ```\n# d\n- [x](javascript:alert(1)) ![y](http://127.0.0.1:9/z) <javascript:alert(1)>",
    "{{ 7*7 }} {% raw %} $x$ \\frac \x1b[31m \u202e &lt;b&gt; &#60;script&#62;",
]


class Page(HTMLParser):
    """Elements and attributes of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.scripts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        if tag == "script":
            self.scripts.append("")
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1] += data
        self.text += data


def hostile(words: str, number: int) -> list[RunRows]:
    """Two runs of a scenario of that name, of which all words are hostile, and one that could not be undone."""
    dose = replace(make_dose(), quantity=words, how=words, mechanism=words)
    failure = {"reason": words, "command": f"sh -c '{words}'"}
    return [
        make_run(words, 1, down=[(6.0, 9.0)], error=words, doses=[dose], seed=number),  # type: ignore[arg-type]
        make_run(words, 2, down=[(6.0, 9.0)], doses=[dose], seed=number + 50),
        make_run(words, 3, state=RunState.ABORTED, reason=words, undo_failures=[failure]),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = [run for number, words in enumerate(ATTACKS) for run in hostile(words, number)]
    everything = " ".join(ATTACKS)
    path = tmp_path_factory.mktemp("hostile") / "campaign"
    meta = make_campaign(path.with_name("plain"), runs).meta
    make_campaign(
        path,
        runs,
        campaign=everything,
        status="stopped",
        reason=everything,
        target=f"http://127.0.0.1/{everything}",
        target_name=everything,
        target_build=everything,
        environment=everything,
        command_line=everything,
        scenarios=[
            scenario | {"description": scenario["name"], "mechanism": everything} for scenario in meta["scenarios"]
        ],
        host=meta["host"] | {"system": everything},
        versions={everything: everything},
        configuration={"file": everything, "sha256": everything},
    )
    report.render(path)
    return path


def shows_text_alone(page: Page, allowed: tuple[str, ...] = ("#", "data:image/svg+xml;base64,")) -> None:
    assert {script.strip() for script in page.scripts} <= {(TEMPLATE / "page.js").read_text().strip()}
    assert not page.elements & {"iframe", "object", "embed", "base", "link", "form", "svg"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "srcdoc"]
    targets = [value for name, value in page.attributes if name in ("src", "href", "action", "data", "srcset")]
    assert all(target.startswith(allowed) for target in targets)


def test_the_page_holds_no_element_that_a_name_has_made(folder: Path) -> None:
    page = Page((folder / "report.html").read_text())
    shows_text_alone(page)
    for words in ATTACKS[:4]:
        assert words in page.text


def test_a_browser_makes_nothing_of_them_and_runs_nothing(
    folder: Path, tmp_path: Path, need: Callable[[str, str], None]
) -> None:
    need("chromium", "apt-get install chromium")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=2000",
    ]
    page = (folder / "report.html").resolve().as_uri()
    shown = subprocess.run(["chromium", *options, "--dump-dom", page], capture_output=True, text=True, timeout=100)
    dom = Page(shown.stdout)
    assert "How this was measured" in dom.text, shown.stderr[-500:]
    shows_text_alone(dom)
    assert re.search("<title>(.*?)</title>", shown.stdout, re.DOTALL)[1].startswith("Resilience report")  # type: ignore[index]


def test_pictures_hold_no_script(folder: Path) -> None:
    pictures = re.findall(r"svg\+xml;base64,([A-Za-z0-9+/=]+)", (folder / "report.html").read_text())
    assert pictures
    for picture in pictures:
        for element in ElementTree.fromstring(base64.b64decode(picture)).iter():
            assert str(element.tag).rpartition("}")[2] not in ("script", "foreignObject", "image")
            assert not [name for name in element.attrib if name.lower().startswith("on")]


def test_markdown_makes_nothing_of_them(folder: Path) -> None:
    page = Page(str(mistune.create_markdown(plugins=["table"])((folder / "chaos_report.md").read_text())))
    shows_text_alone(page)
    assert not page.elements & {"img", "a", "title", "style"}


def test_prometheus_reads_each_name_as_the_one_label_that_it_is(folder: Path) -> None:
    families = text_string_to_metric_families((folder / "chaos_metrics.prom").read_text())
    labels = {
        sample.labels["scenario"] for family in families for sample in family.samples if "scenario" in sample.labels
    }
    assert labels == set(ATTACKS)

"""The pages show what the code draws, accept what they give as examples, and quote what it says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import chaoslab
from chaoslab.scenario_file import parse
from docs.pictures import draw

PACKAGE = Path(chaoslab.__file__).parent
DOCS = PACKAGE.parent / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (PACKAGE.parent / "README.md", *DOCS.glob("*.md"))}
SHOWN = re.findall(r"!\[([^\]]*)\]\((?:docs/)?(pictures/[^)]+)\)", "\n".join(PAGES.values()))


@pytest.mark.parametrize("name", draw.PICTURES)
def test_a_page_shows_what_is_drawn_today(name: str) -> None:
    assert draw.draw(name) == (draw.HERE / f"{name}.svg").read_text(encoding="utf-8"), "make gallery draws it anew"


def test_every_picture_is_on_a_page_and_told_in_words() -> None:
    assert {file for _, file in SHOWN} == {f"pictures/{path.name}" for path in draw.HERE.glob("*.[sp][vn]g")}
    assert all(len(alt) > 40 for alt, _ in SHOWN)


@pytest.mark.parametrize("page", ["concepts", "migration"])
def test_the_scenarios_on_a_page_are_accepted(page: str) -> None:
    [block] = re.findall(r"^```yaml\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)
    assert parse(block).scenarios


def quoted() -> Iterator[str]:
    """Messages on the page of symptoms: what stands in code in the first column of its tables, but no names of keys."""
    for row in re.findall(r"^\| (`.*?) \| ", PAGES["troubleshooting"], re.MULTILINE):
        yield from (message for message in re.findall(r"`([^`]+)`", row) if " " in message)


@cache
def texts() -> str:
    """Every text in the package's code, with what is put into it left out."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py")))
    constants = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return "\n".join(text for text in constants if isinstance(text, str))


@pytest.mark.parametrize("message", dict.fromkeys(quoted()))
def test_a_message_on_the_page_of_symptoms_is_one_of_ours(message: str) -> None:
    words = message.split()
    length = 3 if len(words) > 7 else 2
    ours = {
        place + step
        for place in range(len(words) - length + 1)
        if " ".join(words[place : place + length]) in texts()
        for step in range(length)
    }
    # What is put into a message, and what other programs say in it, is not.
    assert len(ours) >= len(words) / 4, "it says something else today"

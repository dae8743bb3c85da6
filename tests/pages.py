"""The pages that people read, and the commands and Python on them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import chaoslab

ROOT = Path(chaoslab.__file__).parents[1]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROMPT = "$ "


@dataclass(frozen=True)
class Command:
    """What stands after a prompt, without its comment, or a block of Python; and the lines of output shown beneath."""

    text: str
    shown: tuple[str, ...] = ()
    python: bool = False


@dataclass(frozen=True)
class Page:
    """A page of the documents."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def blocks(self, *languages: str) -> Iterator[tuple[str, str]]:
        """Yield the fenced blocks of some languages, with their language."""
        for found in _FENCE.finditer(self.text):
            if found[1] in languages:
                yield found[1], found[2]

    def commands(self) -> Iterator[Command]:
        """Yield all commands and Python, in the order of the page."""
        for language, block in self.blocks("console", "python"):
            if language == "python":
                yield Command(block, python=True)
            else:
                yield from _commands(block)


def _commands(block: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, *shown = re.sub(r" *\\\n *", " ", part).splitlines()
        yield Command(without_comment(line), tuple(one for one in shown if one.strip()))


def without_comment(line: str) -> str:
    """Return a command without the comment after it."""
    words = shlex.shlex(line, posix=False, punctuation_chars=False)
    words.whitespace_split = True
    return " ".join(words)


def pages() -> list[Page]:
    """Return all pages with commands on them, but the gallery's, whose code draws (`test_gallery`)."""
    written = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").rglob("*.md")]
    chosen = (Page(path) for path in sorted(written) if "gallery" not in path.parts)
    return [page for page in chosen if any(page.commands())]

"""Draw the gallery: run the code on each page, write its picture beside it, and the index of all pages.

python docs/gallery/draw.py
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaoslab import plots

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
_PICTURE: Final = re.compile(r"^!\[(?P<alt>[^\]]+)\]\((?P<file>[a-z_]+\.svg)\)$", re.MULTILINE)
_CODE: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the gallery; its code leaves what it has drawn in `ax`."""

    path: Path

    @property
    def name(self) -> str:
        """The plot function that it is about."""
        return self.path.stem

    @property
    def lead(self) -> str:
        """What the figure is for: the first paragraph."""
        return self.path.read_text(encoding="utf-8").split("\n\n")[1].replace("\n", " ")

    @property
    def alt(self) -> str:
        """The picture in words."""
        return next(_PICTURE.finditer(self.path.read_text(encoding="utf-8")))["alt"]

    @property
    def picture(self) -> Path:
        """The file that the page shows."""
        return self.path.with_suffix(".svg")

    @property
    def code(self) -> str:
        """The code on the page."""
        return "\n".join(_CODE.findall(self.path.read_text(encoding="utf-8")))

    def draw(self) -> str:
        """Run the code from the repository's root, and return the picture."""
        here = Path.cwd()
        names: dict[str, object] = {}
        os.chdir(ROOT)
        try:
            exec(compile(self.code, str(self.path), "exec"), names)
        finally:
            os.chdir(here)
        return plots.picture(names["ax"], alt=self.alt).svg  # type: ignore[arg-type]


def pages() -> list[Page]:
    """Return all pages, by name."""
    return [Page(path) for path in sorted(HERE.glob("*.md")) if path.stem != "README"]


def index(shown: list[Page]) -> str:
    """Return the page that leads to all others."""
    parts = [
        f"## [{page.name}]({page.path.name})\n\n{page.lead}\n\n![{page.alt}]({page.picture.name})" for page in shown
    ]
    head = (
        "# Gallery\n\nEvery plot function, drawn by running the code on its page from the repository's root (`make "
        "gallery`). Each draws a plain\ntable into `ax=` and returns it. Where the campaigns in `data/reference` hold "
        "what a page is about, its table is theirs;\nthe others are made up."
    )
    return "\n\n".join([head, *parts]) + "\n"


def main() -> None:
    """Write every picture and the index."""
    for page in pages():
        page.picture.write_text(page.draw(), encoding="utf-8")
    (HERE / "README.md").write_text(index(pages()), encoding="utf-8")


if __name__ == "__main__":
    main()

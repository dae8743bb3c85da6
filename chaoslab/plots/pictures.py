"""A finished figure as notebooks and pages show it: an SVG that follows the reader's fonts and colour scheme."""

from __future__ import annotations

import base64
import io
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from chaoslab.plots.detail import Detail
from chaoslab.plots.palette import DARK, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A finished figure as notebooks and pages show it: an SVG with its alternative text and caption.

    `detail` is JSON of what the report's script reads off and enlarges, "" for none.
    """

    svg: str
    alt: str
    caption: str = ""
    width: float
    detail: str = ""

    def __html__(self) -> str:
        """Return a `<figure>` that holds everything it needs."""
        data = base64.b64encode(self.svg.encode()).decode()
        return Markup(
            '<figure class="chaoslab-figure"{}><div class="scroll" tabindex="0" role="group" aria-label="figure">'
            '<img src="data:image/svg+xml;base64,{}" alt="{}" width="{:.0f}"></div>{}</figure>'
        ).format(self._detail(), data, self.alt, self.width, self._caption())

    def _detail(self) -> str:
        return Markup(" data-detail='{}'").format(self.detail) if self.detail else ""

    def _caption(self) -> str:
        return Markup("<figcaption>{}</figcaption>").format(self.caption) if self.caption else ""

    def _repr_html_(self) -> str:
        return str(self.__html__())


def picture(drawn: Figure | Axes, *, alt: str, caption: str = "", detail: Detail | None = None) -> Picture:
    """Return the figure (or the figure of the axes) as a display object.

    Equal figures give equal bytes. Text stays text, in the reader's own sans-serif.

    Args:
        drawn: what is shown.
        alt: the same in words.
        caption: what stands beneath.
        detail: what can be read off in an exported page, and enlarged there.
    """
    whole = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    if whole is None:
        raise ValueError("the axes belong to no figure")
    buffer = io.StringIO()
    with mpl.rc_context(_SVG), warnings.catch_warnings():
        # Names may hold characters that matplotlib's own font lacks; the reader's browser picks the font.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from", category=UserWarning)
        whole.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, facecolor=PAPER)
    width = whole.get_size_inches()[0] * 96
    data = detail.json() if detail else ""  # the axes have their place only now
    return Picture(svg=_adaptive(buffer.getvalue()), alt=alt, caption=caption, width=width, detail=data)


_SVG: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "chaoslab",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "path.simplify": False,
}


_ATTRIBUTE: Final = re.compile(r' (d|style|x|y|transform)="([^"]*)"')
_UPRIGHT: Final = re.compile(r"M ([-\d.]+) ([-\d.]+)L \1 ([-\d.]+)")
"""A stroke of which only the height changes, which is what most of a timeline is made of."""
_NO_TURN: Final = re.compile(r"rotate\(-?0 ")


def _adaptive(svg: str) -> str:
    """Let the SVG follow the reader's fonts and colour scheme, and take out what says nothing."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"/>\s*', "", _ATTRIBUTE.sub(_leaner, svg))
    svg = re.sub(r"\n +<", "\n<", re.sub(r'<g id="[^"]*">', "<g>", svg))
    light = "".join(f"{_variable(colour)}:{colour};" for colour in DARK)
    dark = "".join(f"{_variable(colour)}:{other};" for colour, other in DARK.items())
    style = f"svg{{{light}{_FONT}}}@media screen and (prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return svg.replace('<style type="text/css">', f'<style type="text/css">{style}', 1)


_FONT: Final = "font-family:system-ui,-apple-system,Segoe UI,sans-serif"


def _variable(colour: str) -> str:
    return f"--{'abcdefgh'[list(DARK).index(colour)]}"


def _leaner(attribute: re.Match[str]) -> str:
    name, value = attribute.groups()
    if name == "style":
        value = re.sub(r"font-family: [^;]*;? ?", "", value)
        value = re.sub("#[0-9a-f]{6}", lambda hit: f"var({_variable(hit[0])})" if hit[0] in DARK else hit[0], value)
    elif name == "transform" and _NO_TURN.match(value):
        return ""
    else:
        # A tenth of a point is finer than a long path's strokes are wide; short paths are outlines of marks.
        value = re.sub(r"(\.\d)\d+" if len(value) > 1000 else r"(\.\d\d)\d+", r"\1", value)
        value = re.sub(r" ?\n", "", value)
        if name == "d":
            value = _UPRIGHT.sub(r"M\1 \2V\3", value)
            value = re.sub(r"\.0\b", "", re.sub(r"([A-Za-z]) ", r"\1", value))
    return f' {name}="{value}"'

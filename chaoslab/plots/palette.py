"""Colours, sizes of text and marks: one palette for every figure.

The colours are blue, vermilion and green of Okabe and Ito, "Color Universal Design" (2008), the latter two darkened
until text can be set in them. Marks differ by shape and text as well as by colour.
"""

from __future__ import annotations

from typing import Final

INK: Final = "#1c2733"
MUTED: Final = "#5b6773"
RULE: Final = "#d5dbe1"
SHADE: Final = "#eef1f4"
PAPER: Final = "#fefefe"
BLUE: Final = "#0072b2"
ORANGE: Final = "#b85c00"
GREEN: Final = "#00795a"

DARK: Final = {
    INK: "#e4e8ec",
    MUTED: "#a4afba",
    RULE: "#39434d",
    SHADE: "#222b34",
    PAPER: "#151b21",
    BLUE: "#56b4e9",
    ORANGE: "#f0a04b",
    GREEN: "#3cc79b",
}
"""Each colour's counterpart on a dark page."""

SMALL: Final = 8.5
TEXT: Final = 9.5

OUTCOMES: Final = {
    "pass": ("o", GREEN, GREEN, "pass"),
    "fail": ("X", ORANGE, ORANGE, "FAIL"),
    "inconclusive": ("D", PAPER, MUTED, "inconclusive"),
    "": ("o", INK, INK, ""),
}
"""Marker, face, edge and word of each outcome; "" is an estimate that nobody judged."""

"""How values show themselves in a notebook: small tables, in which every word is text and never markup.

Names and reasons come from scenario files, probed services and hosts. Whatever they hold, it is escaped, and secrets
are hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from chaoslab.redaction import redact, redact_document


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str = "") -> str:
    """Return an HTML table with a header row.

    >>> table(["scenario"], [["<b>"]])
    '<table class="chaoslab"><thead><tr><th scope="col">scenario</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """  # noqa: E501
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(header) for header in headers)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(_words(cell)) for cell in row))
        for row in rows
    )
    return str(
        Markup('<table class="chaoslab">{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(
            _caption(caption), head, body
        )
    )


def card(title: str, fields: Mapping[str, Any]) -> str:
    """Return an HTML table of names and values; a field that is None or empty is left out."""
    rows = Markup("").join(
        Markup('<tr><th scope="row">{}</th><td>{}</td></tr>').format(name, _words(value))
        for name, value in fields.items()
        if value is not None and value not in ("", (), {}, [])
    )
    return str(Markup('<table class="chaoslab">{}<tbody>{}</tbody></table>').format(_caption(title), rows))


def pairs(document: Mapping[str, Any]) -> str:
    """Return what a mapping says as text, without what is not set and without secrets.

    >>> pairs({"delay_ms": 50.0, "interface": None, "memory_size": 268435456})
    'delay_ms 50, memory_size 256 MB'
    """
    shown = {name: value for name, value in redact_document(dict(document)).items() if value not in (None, "", (), {})}
    return ", ".join(f"{name} {_amount(name, value)}" for name, value in shown.items())


def _amount(name: str, value: Any) -> str:
    if name.endswith("_size") and isinstance(value, int):
        return f"{value / 2**20:g} MB"
    return _words(value)


def _caption(title: str) -> Markup:
    return Markup("<caption>{}</caption>").format(_words(title)) if title else Markup("")


def _words(value: Any) -> str:
    return redact(f"{value:g}" if isinstance(value, float) else str(value))

"""The keys of a JSON Schema as Markdown: a section for each object, at the first place that a reader meets it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Schema = dict[str, Any]

_BOUNDS: Final = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
_WORDS: Final = {"string": "text", "object": "mapping", "boolean": "true or false", None: "anything"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, without the columns in which nothing stands."""
    rows = list(rows)
    kept = [column for column in range(len(head)) if any(row[column] for row in rows)]
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(_cell(line[column]) for column in kept)} |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("|", r"\|"))


@dataclass(frozen=True)
class Reference:
    """What is said of one schema.

    Attributes:
        anchor: with what the targets of its links begin.
        known: keys that are told elsewhere, and left out where an object has parameters.
        written: whether it is of what we write, where no key is left out and null is a value.
    """

    schema: Schema
    anchor: str
    known: Collection[str] = ()
    written: bool = False
    _told: set[str] = field(default_factory=set)

    def sections(self) -> Iterator[str]:
        """Yield the keys of the whole, then those of each object in it."""
        yield self.keys(self.schema)
        for key, value in self.schema["properties"].items():
            yield from self._below(value, key)

    def keys(self, part: Schema, without: Collection[str] = ()) -> str:
        """Return a table of the keys of one object."""
        required = () if self.written else part.get("required", ())
        rows = [
            (f"`{key}`", self._accepted(value), _default(key, value, required), _plain(value.get("description", "")))
            for key, value in part["properties"].items()
            if key not in without
        ]
        return table(("key", "holds" if self.written else "accepted", "default", "meaning"), rows) if rows else ""

    def _below(self, value: Schema, path: str) -> Iterator[str]:
        for name in _references(value):
            if name in self._told:
                continue
            self._told.add(name)
            part = self.schema["$defs"][name]
            own, *older = _types(part)
            yield f"({self._target(name)})=\n### `{path}`" + (f": `{own}`" if own else "")
            yield _plain(part.get("description", "")) + "".join(f" Older files call it `{one}`." for one in older)
            yield from self._keys_of(part)
            for key, inner in part["properties"].items():
                yield from self._below(inner, f"{path}.{key}")

    def _keys_of(self, part: Schema) -> Iterator[str]:
        if "parameters" not in part["properties"]:
            yield self.keys(part)
            return
        yield self.keys(part, without=self.known)
        name = _reference(part["properties"]["parameters"])
        self._told.add(name)
        yield "Keys of `parameters`:" if (keys := self.keys(self.schema["$defs"][name], without=self.known)) else ""
        yield keys
        for key, inner in self.schema["$defs"][name]["properties"].items():
            yield from self._below(inner, f"scenarios.parameters.{key}")

    def _accepted(self, value: Schema) -> str:
        """Say in words what may stand there."""
        if name := _reference(value):
            part = self.schema["$defs"][name]
            return f"[{_types(part)[0] or _spaced(part.get('title', name))}](#{self._target(name)})"
        if choices := value.get("anyOf", value.get("oneOf")):
            shown = [one for one in choices if self.written or one != {"type": "null"}]
            return " or ".join(dict.fromkeys(map(self._accepted, shown)))
        if "enum" in value or "const" in value:
            return ", ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
        if "items" in value:
            return f"list of {self._accepted(value['items'])}"
        if isinstance(value.get("additionalProperties"), dict):
            return f"mapping of names to {self._accepted(value['additionalProperties'])}"
        # A description without a title is that of one of several types, not of the key.
        words = value["description"] if "title" not in value and "description" in value else None
        bounds = [f"{sign} {value[key]:g}" for key, sign in _BOUNDS.items() if key in value]
        kind = _plain(words or _WORDS.get(value.get("type")) or value["type"])
        return f"{kind} {', '.join(bounds)}".rstrip()

    def _target(self, name: str) -> str:
        return f"{self.anchor}-{name.lower()}"


def _reference(value: Schema) -> str:
    return str(value.get("$ref", "")).removeprefix("#/$defs/")


def _references(value: Schema) -> Iterator[str]:
    """Yield the objects that a value may be made of."""
    if name := _reference(value):
        yield name
    for inner in (
        *value.get("anyOf", ()),
        *value.get("oneOf", ()),
        value.get("items"),
        value.get("additionalProperties"),
    ):
        if isinstance(inner, dict):
            yield from _references(inner)


def _types(part: Schema) -> list[str]:
    """Return what the `type` of an object is called, today's name first; one empty name where it has none."""
    kind = part.get("properties", {}).get("type", {})
    return kind.get("enum") or [kind.get("const", "")]


def _default(key: str, value: Schema, required: Collection[str]) -> str:
    if key in required:
        return "*required*" if "default" not in value else ""
    default = value.get("default")
    return "" if default in (None, "", {}, []) or isinstance(default, dict) else f"`{json.dumps(default)}`"


def _plain(text: str) -> str:
    """Return a description whose braces and stars mean themselves."""
    return re.sub(r"[*_<>](?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\\\g<0>", text)


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().replace("slo", "SLO")

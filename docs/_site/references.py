"""References that are made from the code when the site is built, so that they cannot be stale.

A page says `<!-- made: NAME -->` where one belongs; what stands there is Markdown from the function of that name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import pyarrow as pa
from docutils import nodes
from keys import Reference, table
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import chaoslab
from chaoslab import charts, forest, records
from chaoslab import plots as figures
from chaoslab.export import schemas
from chaoslab.scenario import Parameters, Scenario
from chaoslab.scenario_file import json_schema
from chaoslab.study import picture
from docs.gallery import draw

_MARK: Final = re.compile(r"^<!-- made: (\w+) -->$", re.MULTILINE)
_LEADS: Final = {
    "docs/index": (Path(__file__).parent / "navigation.md").read_text(encoding="utf-8"),
    "docs/gallery/README": "```{toctree}\n:hidden:\n:glob:\n\n[a-z]*\n```\n",
}
_HOMES: Final = {f"{module}.{name}": public for public, (module, name) in vars(chaoslab)["_HOMES"].items()}
_PLOTTING: Final = (figures, charts, forest, picture)
_COLUMN: Final = re.compile(r'^ +pa\.field\("(\w+)",.*  # (.*)$', re.MULTILINE)
_MEMBER: Final = re.compile(r'^ +(\w+) = ".*"  # (.*)$', re.MULTILINE)
_VALUES: Final = (
    "scenario.Scenario",
    "analysis.Excluded",
    "analysis.Residue",
    "comparison.whole.Cell",
    "comparison.changes.Change",
    "comparison.changes.Margin",
    "comparison.effects.Robust",
    "comparison.answers.Judgement",
    "drift.Drift",
    "metrics.RunMetrics",
    "metrics.Outage",
    "metrics.Span",
    "records.RunState",
)


def fill(app: Sphinx, page: str, text: list[str]) -> None:
    """Replace each mark of a page by what it names, and add what the page leads to."""
    text[0] = _MARK.sub(lambda mark: _MADE[mark[1]](), text[0])
    if page in _LEADS:
        text[0] += f"\n{_LEADS[page]}"


def public_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Element) -> nodes.Node | None:
    """Resolve a type that a signature names by its module to where it is documented, under its public name."""
    name = _HOMES.get(node.get("reftarget", ""))
    if name is None or node.get("refdomain") != "py":
        return None
    shown = nodes.literal(text=name)
    python = env.domains.python_domain
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", f"chaoslab.{name}", node, shown)


def scenario_file() -> str:
    """Every key of a scenario file."""
    schema = json_schema()
    common = set(Scenario.model_fields) | set(Parameters.model_fields)
    reference = Reference(schema, "key", known=common)
    whole, *sections = reference.sections()
    each = reference.keys(schema["$defs"]["Control"], without=("type", "parameters"))
    told = "`type` is the failure type. `parameters` hold its dose and what it hits: what stands with it below, and"
    beside = reference.keys(schema["$defs"]["Parameters"])
    parts = ["## The file", whole, "## Keys of every scenario", each, told, beside, "## Keys of each part", *sections]
    return "\n\n".join(parts)


def documents() -> str:
    """Every key of the JSON documents that have a schema."""
    parts = []
    for name in schemas.NAMES:
        reference = Reference(schemas.schema(name), name.partition(".")[0].replace("_", "-"), written=True)
        parts += [f"## {name}", *reference.sections()]
    return "\n\n".join(parts)


def tables() -> str:
    """The columns of the Parquet tables, with the comments that stand beside them in `records`."""
    said = dict(_COLUMN.findall(inspect.getsource(records)))
    parts = []
    for name, schema in records.TABLES.items():
        rows = [(f"`{field.name}`", _arrow(field), said.get(field.name, "")) for field in schema]
        parts += [f"### {name}", table(("column", "type", "holds"), rows)]
    for kind in (records.ErrorKind, records.Event, records.RunState):
        said = dict(_MEMBER.findall(inspect.getsource(kind)))
        rows = [(f"`{member.value}`", said.get(member.name, "")) for member in kind]
        parts += [f"### {kind.__name__}", inspect.getdoc(kind) or "", table(("value", "means"), rows)]
    return "\n\n".join(parts)


def python() -> str:
    """What `import chaoslab` offers."""
    lines = []
    for name in chaoslab.__all__:
        found = getattr(chaoslab, name)
        lines += [f".. auto{'class' if inspect.isclass(found) else 'function'}:: chaoslab.{name}"]
        lines += ["   :members:", ""] if inspect.isclass(found) else [""]
    return _restructured(lines)


def values() -> str:
    """What values that the package offers are made of."""
    return _restructured(f".. autoclass:: chaoslab.{name}\n   :members:\n" for name in _VALUES)


def plots() -> str:
    """The functions of the gallery."""
    functions = [(module, page.name) for page in draw.pages() for module in _PLOTTING if hasattr(module, page.name)]
    return _restructured(f".. autofunction:: {module.__name__}.{name}\n" for module, name in functions)


def _arrow(column: pa.Field) -> str:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return f"{kind}{', or null' if column.nullable else ''}"


def _restructured(lines: Iterable[str]) -> str:
    return "\n".join(["```{eval-rst}", *lines, "```"])


_MADE: Final[dict[str, Callable[[], str]]] = {
    made.__name__: made for made in (scenario_file, documents, tables, python, values, plots)
}

"""Parameters of notebooks: what the tagged cell declares, and whether what was given fits it.

A declaration is a line `name: type = literal  # what it is`, which papermill describes as it stands. papermill itself
would pass on an unknown name with a warning, and a value of any type. Here both are refused: before the notebook is
executed where we execute it, and by its own first cell (`check`) where papermill or JupyterLab do.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chaoslab.errors import UsageError, nearest

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_NAMES: Final[Mapping[str, Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "list": list,
    "dict": dict,
}
_INJECTED: Final = "# Parameters"
"""How papermill begins the cell that it injects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One declared parameter; `type` is as it is written, "" where any value will do. A default of None is accepted."""

    name: str
    type: str
    default: Any
    help: str

    def problem(self, value: Any) -> str:
        """Return why `value` is not accepted, or an empty string.

        >>> Parameter(name="repeats", type="int", default=3, help="runs").problem("five")
        "repeats is 'five'; accepted: int (runs)"
        >>> Parameter(name="seed", type="int", default=None, help="").problem(None)
        ''
        """
        if not self.type or (value is None and self.default is None) or _fits(self.type, value):
            return ""
        hint = f"; with papermill: -y '{self.name}: [...]'" if self.type.startswith("list") else ""
        told = f" ({self.help})" if self.help else ""
        return f"{self.name} is {_short(value)}; accepted: {self.type}{told}{hint}"


def declared(source: str) -> dict[str, Parameter]:
    """Return the parameters that the source of a parameters cell declares, by name.

    >>> declared('repeats: int = 3  # runs of each scenario')["repeats"].help
    'runs of each scenario'

    Raises:
        UsageError: a line that is no assignment of a literal to a name, or a type that nobody knows.
    """
    comments = _comments(source)
    found = {}
    for statement in _statements(source):
        name, annotation, value = _assignment(statement)
        found[name] = Parameter(
            name=name,
            type=ast.unparse(annotation) if annotation is not None else "",
            default=value,
            help=comments.get(statement.end_lineno or 0, ""),
        )
        if annotation is not None:
            _type(annotation)
    return found


def require(accepted: Mapping[str, Parameter], given: Mapping[str, Any], *, source: str) -> None:
    """See that every given parameter is declared and of its type.

    Raises:
        UsageError: one is not; all of them are named.
    """
    problems = [
        accepted[name].problem(value)
        if name in accepted
        else f"there is no parameter {name!r}{nearest(name, accepted)}; accepted: {', '.join(accepted) or 'none'}"
        for name, value in given.items()
    ]
    if wrong := [problem for problem in problems if problem]:
        raise UsageError("\n".join(f"{source}: {problem}" for problem in wrong))


def check() -> None:
    """See, from a notebook's own cell, that the parameters which were given are declared and of their types.

    Stands first in the cell after the parameters; what papermill injected between them is looked at as well.

    Raises:
        UsageError: one is not, or no parameters cell has been executed.
    """
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    if shell is None:
        raise UsageError("check_parameters() is for a notebook's cell; there is no notebook here")
    accepted, injected = _executed(shell.history_manager.input_hist_raw)
    given = {name: shell.user_ns[name] for name in {**accepted, **injected} if name in shell.user_ns}
    require(accepted, given, source="this notebook")


def _executed(cells: Sequence[str]) -> tuple[dict[str, Parameter], dict[str, None]]:
    """Return what the last parameters cell among the executed cells declares, and the names injected after it."""
    injected: dict[str, None] = {}
    for source in reversed(cells):
        if source.startswith(_INJECTED):
            injected |= dict.fromkeys(_assigned(source))
        elif _declares(source):
            return declared(source), injected
    raise UsageError("no parameters cell was executed: run the notebook from its top")


def _declares(source: str) -> bool:
    try:
        return any(isinstance(one, ast.AnnAssign) for one in _statements(source)) and bool(declared(source))
    except UsageError:
        return False


def _assigned(source: str) -> Iterator[str]:
    for statement in _statements(source):
        if isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError as error:
        raise UsageError(f"a parameters cell holds what is not Python: {error.msg} in line {error.lineno}") from error


def _assignment(statement: ast.stmt) -> tuple[str, ast.expr | None, Any]:
    annotation: ast.expr | None = None
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
            pass
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            pass
        case _:
            raise UsageError(f"a parameters cell holds `{ast.unparse(statement)}`; accepted: name: type = literal")
    try:
        return name, annotation, ast.literal_eval(value)
    except ValueError as error:
        raise UsageError(f"the parameter {name} is no literal: `{ast.unparse(value)}`") from error


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {one.start[0]: one.string.lstrip("# ") for one in tokens if one.type == tokenize.COMMENT}


def _fits(written: str, value: Any) -> bool:
    from pydantic import ValidationError

    try:
        _adapter(written).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _adapter(written: str) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(_type(ast.parse(written, mode="eval").body))


def _type(annotation: ast.expr) -> Any:
    """Return the type that an annotation of a few known words names; nothing is evaluated.

    Raises:
        UsageError: other words.
    """
    match annotation:
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return list[_type(inner)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, inner])):
            return dict[_type(key), _type(inner)]  # type: ignore[misc]
    known = ", ".join([*_NAMES, "list[...]", "dict[..., ...]"])
    raise UsageError(f"the type {ast.unparse(annotation)!r} of a parameter is not known; accepted: {known}")


def _short(value: Any, width: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"

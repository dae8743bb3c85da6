"""Reading a scenario file: strict YAML into the values of `scenario`.

Whatever is not known is an error that names file and line, what was found, what is accepted, and the nearest match.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Union

import yaml
from pydantic import Field, ValidationError, create_model

from chaoslab import share, trust
from chaoslab.errors import ScenarioFileError, UsageError, nearest
from chaoslab.faults import failure_types
from chaoslab.looks import check_headers, check_proxy, host_and_port
from chaoslab.monitoring import VARIABLE
from chaoslab.redaction import learn, redact
from chaoslab.scenario import HEALTH, Combined, HttpProbe, HttpRequest, ScenarioFile, TcpProbe

LONGEST: Final = 256 * 1024
"""Characters that a scenario file may have."""

_DEEPEST: Final = 50
_MOST_NODES: Final = 50_000
_LONGEST_NUMBER: Final = 100
_MOST_PROBLEMS: Final = 100
_PROBE_TYPES: Final = ("http", "tcp", "postgres", "command")
_TAGS: Final = {"auth": ("basic", "bearer", "digest")}
_TOO_DEEP: Final = f"nested more than {_DEEPEST} levels deep"


def load(path: Path | str | None = None) -> ScenarioFile:
    """Read the scenario file at `path`; the shipped one by default.

    Raises:
        ScenarioFileError: as for `load_with_digest`.
    """
    return load_with_digest(share.scenario_file() if path is None else Path(path))[0]


def load_with_digest(path: Path) -> tuple[ScenarioFile, str]:
    """Read the scenario file at `path`, and what its bytes are known by in `trust`.

    Raises:
        ScenarioFileError: the file cannot be read, is not YAML, or holds something that is not accepted; the
            message has a line for each fault: file, line, what was found, what is accepted.
    """
    try:
        if path.exists() and not path.is_file():
            raise ScenarioFileError(f"{path}: cannot be read: it is not a file")
        content = path.read_bytes()
        text = content.decode()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ScenarioFileError(f"{path}:{line}: not text in UTF-8: {error.reason}") from error
    except OSError as error:
        raise ScenarioFileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return parse(text, source=str(path)), trust.digest(content)


def parse(text: str, *, source: str = "<text>") -> ScenarioFile:
    """Read a scenario file from `text`; `source` names it in messages.

    Raises:
        ScenarioFileError: as for `load`.
    """
    if len(text) > LONGEST:
        raise ScenarioFileError(f"{source}: {len(text)} characters long; accepted: up to {LONGEST}")
    root, document = _compose(text, source)
    if not isinstance(document, dict) or root is None:
        found = "nothing" if document is None else type(document).__name__
        accepted = ", ".join(ScenarioFile.model_fields)
        raise ScenarioFileError(
            f"{source}:1: a mapping is expected at the top, found {found}; accepted keys: {accepted}"
        )
    learn(document)
    problems, untold = _duplicates(root), 0
    if not problems:
        try:
            file = _model().model_validate(document)
        except ValidationError as error:
            faults = error.errors()
            problems = [_explain(fault, root) for fault in faults[:_MOST_PROBLEMS]]
            untold = len(faults) - len(problems)
        else:
            problems = _undefined_names(file, root)
    if problems:
        lines = [f"{source}:{line}: {text}" for line, text in sorted(set(problems))]
        untold += len(lines[_MOST_PROBLEMS:])
        more = [f"{source}: and {untold} more"] if untold else []
        raise ScenarioFileError("\n".join(lines[:_MOST_PROBLEMS] + more))
    return file


def _compose(text: str, source: str) -> tuple[yaml.Node | None, Any]:
    """Return the YAML document that `text` is, as nodes with their lines and as values; None for an empty one."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None, None
        if excess := _excess(root):
            raise ScenarioFileError(f"{source}:{excess[0]}: {excess[1]}")
        # Making values of them rewrites nodes that merge others (`<<`), and their lines with it.
        return root, loader.construct_document(copy.deepcopy(root))
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ScenarioFileError(f"{source}:{line}: not valid YAML: {error.reason}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise ScenarioFileError(f"{source}:{mark.line + 1 if mark else 1}: not valid YAML: {problem}") from error
    except RecursionError as error:
        raise ScenarioFileError(f"{source}:{loader.line + 1}: {_TOO_DEEP}") from error


@cache
def _model() -> type[ScenarioFile]:
    """Return the model of a file whose scenarios are of the failure types that there are."""
    singles = tuple(fault.scenario for fault in failure_types().values())
    one = Annotated[Union[singles], Field(discriminator="type")]  # type: ignore[valid-type]  # noqa: UP007
    faults = (tuple[one, ...], Combined.model_fields["faults"])
    combined = create_model("Combined", __base__=Combined, __doc__=Combined.__doc__, faults=faults)
    any_ = Annotated[Union[(*singles, combined)], Field(discriminator="type")]  # type: ignore[valid-type]
    scenarios = (tuple[any_, ...], ScenarioFile.model_fields["scenarios"])
    return create_model("ScenarioFile", __base__=ScenarioFile, __doc__=ScenarioFile.__doc__, scenarios=scenarios)


@cache
def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the scenario file, for editors."""
    schema = _model().model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "chaoslab scenario file",
    } | schema


# What follows turns a validation error into file:line, what was found and what is accepted.

_Problem = tuple[int, str]


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _Loader(yaml.SafeLoader):
    """Safe YAML; a value that Python refuses (a month 13) is an error with its line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


def _excess(root: yaml.Node) -> _Problem | None:
    """Return what would not stay bounded once aliases are followed: depth, size, numbers; or what no text may hold."""
    sizes: dict[int, int] = {}
    path: dict[int, None] = {}

    def visit(node: yaml.Node) -> _Problem | None:
        if id(node) in path:
            return _line(node), "an alias that leads back to what it stands in"
        if id(node) in sizes:
            return None
        if len(path) > _DEEPEST:
            return _line(node), _TOO_DEEP
        if isinstance(node, yaml.ScalarNode):
            sizes[id(node)] = 1
            return _scalar_excess(node)
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        path[id(node)] = None
        for part in inner:
            if found := visit(part):
                return found
        del path[id(node)]
        sizes[id(node)] = 1 + sum(sizes[id(part)] for part in inner)
        if sizes[id(node)] > _MOST_NODES:
            return _line(node), f"with its aliases followed this holds more than {_MOST_NODES} values"
        return None

    return visit(root)


def _scalar_excess(node: yaml.ScalarNode) -> _Problem | None:
    if "\0" in node.value:
        return _line(node), "a text with a NUL character, which no program can be given"
    if node.tag.rpartition(":")[2] in ("int", "float") and len(node.value) > _LONGEST_NUMBER:
        return _line(node), f"a number of {len(node.value)} characters; accepted: up to {_LONGEST_NUMBER}"
    return None


def _duplicates(node: yaml.Node) -> list[_Problem]:
    """Keys given twice in one mapping: YAML keeps the last one in silence."""
    problems: list[_Problem] = []
    stack, visited = [node], set()
    while stack:
        current = stack.pop()
        if id(current) in visited:
            continue
        visited.add(id(current))
        if isinstance(current, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in current.value:
                if key.value in seen and isinstance(key, yaml.ScalarNode):
                    problems.append((_line(key), f"key {key.value!r} stands here and in line {seen[key.value]}"))
                elif isinstance(key, yaml.ScalarNode):
                    seen[key.value] = _line(key)
                stack.append(value)
        elif isinstance(current, yaml.SequenceNode):
            stack.extend(current.value)
    return problems


def _find(root: yaml.Node, location: Iterable[int | str]) -> tuple[yaml.Node, list[str]]:
    """Return the node at `location`, or the nearest one above it, and the path that was walked."""
    node, path = root, []
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    # An unknown or misspelt key is best shown where the key stands, not where its value does.
                    node = value if isinstance(value, (yaml.MappingNode, yaml.SequenceNode)) else key
                    path.append(str(part))
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            path.append(f"[{part}]")
    return node, path


def _accepted_keys(location: Sequence[int | str]) -> list[str]:
    """Return the keys that the JSON Schema accepts at `location`."""
    schema = json_schema()
    definitions = schema["$defs"]

    def resolve(part: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in part:
            part = definitions[part["$ref"].rsplit("/", 1)[-1]]
        for option in part.get("anyOf", ()):
            if "$ref" in option:
                return resolve(option)
            if "discriminator" in option:
                part = option
        return part

    current = resolve(schema)
    for part in location:
        if isinstance(part, int):
            current = resolve(current.get("items", {}))
        elif "discriminator" in current:
            current = resolve({"$ref": current["discriminator"]["mapping"][part]})
        elif part in current.get("properties", {}):
            current = resolve(current["properties"][part])
        else:
            current = resolve(current.get("additionalProperties") or {})
    return list(current.get("properties", {}))


def _explain(fault: Any, root: yaml.Node) -> _Problem:
    location, kind, context = fault["loc"], fault["type"], fault.get("ctx", {})
    node, path = _find(root, location)
    where = ".".join(path).replace(".[", "[") or "the file"
    if kind == "extra_forbidden":
        found, accepted = str(location[-1]), _accepted_keys(location[:-1])
        parent = where.rpartition(".")[0] or "the file"
        if path and path[-1] != found:
            parent = where
        return _key_line(root, location), (
            f"unknown key {found!r} in {parent}{nearest(found, accepted)}; accepted: {', '.join(accepted)}"
        )
    if kind == "union_tag_invalid":
        found = str(context["tag"])
        accepted = re.findall(r"'([^']+)'", context["expected_tags"])
        return _key_line(root, (*location, "type")), (
            f"unknown type {found!r}{nearest(found, accepted)}; accepted: {', '.join(accepted)}"
        )
    if kind == "union_tag_not_found":
        accepted = list(_TAGS.get(str(location[-1]), _PROBE_TYPES)) if location[0] == "monitoring" else _types()
        return _line(node), f"{where} has no key 'type'; accepted: {', '.join(accepted)}"
    if kind == "missing":
        return _line(node), f"{where} lacks the key {str(location[-1])!r}"
    found = fault["input"]
    message = fault["msg"][0].lower() + fault["msg"][1:]
    if kind == "literal_error":
        accepted = re.findall(r"'([^']+)'", context["expected"])
        message = f"accepted: {', '.join(accepted)}{nearest(str(found), accepted)}"
    return _key_line(root, location), f"{where} is {_shown(found)}: {message.removeprefix('value error, ')}"


def _key_line(root: yaml.Node, location: Sequence[int | str]) -> int:
    """Return the line of the last key of `location`, or of the nearest node above it."""
    parent, _ = _find(root, location[:-1])
    if isinstance(parent, yaml.MappingNode) and location:
        for key, _value in parent.value:
            if key.value == str(location[-1]):
                return _line(key)
    return _line(_find(root, location)[0])


def _shown(value: object) -> str:
    text = redact(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _types() -> list[str]:
    return [*(name for fault in failure_types().values() for name in fault.scenario.type_names()), "combined"]


def _undefined_names(file: ScenarioFile, root: yaml.Node) -> list[_Problem]:
    """Scenarios that a suite or an environment names and nobody defines, and names given twice."""
    names = [scenario.name for scenario in file.scenarios]
    lists: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        (("scenario_groups", suite, "scenarios"), group.scenarios) for suite, group in file.scenario_groups.items()
    ]
    lists += [
        (("environments", name, "allowed_scenarios"), environment.allowed_scenarios or ())
        for name, environment in file.environments.items()
    ]
    known = {name.lower() for name in names}
    problems: list[_Problem] = [
        (
            _line(_find(root, (*where, index))[0]),
            f"{'.'.join(where[:2])} names the scenario {name!r}, which is not defined{nearest(name, names)}; "
            f"defined: {', '.join(names)}",
        )
        for where, members in lists
        for index, name in enumerate(members)
        if name.lower() not in known
    ]
    problems += [
        (
            _key_line(root, ("scenarios", index, "offset")),
            f"scenarios[{index}].offset is {scenario.offset:g}: accepted only among the faults of a combined scenario",
        )
        for index, scenario in enumerate(file.scenarios)
        if scenario.offset
    ]
    problems += list(_probe_problems(file, root))
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name.lower() in seen:
            where = _line(_find(root, ("scenarios", index))[0])
            problems.append((where, f"a second scenario is called {name!r}; names must differ"))
        seen.add(name.lower())
    return problems


def _probe_problems(file: ScenarioFile, root: yaml.Node) -> Iterator[_Problem]:
    """What makes a probe of `monitoring` impossible that no single key does: names, addresses, headers."""
    seen = {HEALTH}
    for index, probe in enumerate(file.monitoring.probes):
        where = ("monitoring", "probes", index)
        if probe.name in seen:
            used = "the health check" if probe.name == HEALTH else "another probe"
            problem = f"monitoring.probes[{index}].name is {probe.name!r}, as is {used}'s; names must differ"
            yield _key_line(root, (*where, "name")), problem
        seen.add(probe.name)
        if isinstance(probe, TcpProbe):
            yield from _refused(root, (*where, "address"), host_and_port, probe.address)
        if isinstance(probe, HttpProbe):
            yield from _request_problems(probe, root, where)
    yield from _request_problems(file.monitoring.health_check, root, ("monitoring", "health_check"))


def _request_problems(request: HttpRequest, root: yaml.Node, where: tuple[int | str, ...]) -> Iterator[_Problem]:
    yield from _refused(root, (*where, "headers"), check_headers, tuple(request.headers.items()))
    if request.proxy is not None:
        # What a variable holds is looked at when it is filled in; a number can stand for a host, a port or a password.
        yield from _refused(root, (*where, "proxy"), check_proxy, VARIABLE.sub("1", request.proxy))


def _refused(
    root: yaml.Node, location: tuple[int | str, ...], check: Callable[[Any], object], value: object
) -> Iterator[_Problem]:
    try:
        check(value)
    except UsageError as error:
        named = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
        yield _key_line(root, location), f"{named}: {error}"

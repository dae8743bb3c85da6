"""The house keeps its floors: a module imports only from below, and the two sides meet only on disk."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import chaoslab

PACKAGE = Path(chaoslab.__file__).parent

FLOORS = {
    0: {"errors", "redaction"},
    1: {"agent", "scenario", "records", "intervals", "targets", "share", "trust", "wording", "parameters", "display"}
    | {"looks", "stages", "tls"},
    2: {"store", "hosts", "journal", "undo", "guardian", "interrupts", "aborts", "faults", "plan", "metrics", "plots"}
    | {"instruments", "journal_lines", "monitoring", "campaign_file", "drift", "changepoints", "charts", "probe_table"},
    3: {"scenario_file", "delivery", "conformance", "rehearsal", "runner", "verdict", "analysis"}
    | {"comparison", "forest", "design", "trends", "budget", "live"},
    4: {"study", "progress", "description", "experiment", "resume", "deployment", "report", "export", "baselines"}
    | {"foreign"},
    5: {"cli", "demo", "batch", "__main__"},
}
ANALYSIS = {"metrics", "drift", "plots", "verdict", "analysis", "study", "report", "export"}
ANALYSIS |= {
    "comparison",
    "forest",
    "baselines",
    "budget",
    "changepoints",
    "charts",
    "design",
    "trends",
    "live",
    "probe_table",
}
EXPERIMENT = ({"agent"} | FLOORS[2] | FLOORS[3] | FLOORS[4]) - ANALYSIS - {"store", "campaign_file"}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "chaoslab"


def imports(path: Path) -> set[str]:
    """Rooms of the package that the file at `path` imports when it runs; imports for types alone do not count."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "chaoslab":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chaoslab."):
            found.add(room(node.module or ""))
        elif isinstance(node, ast.Import):
            found |= {room(alias.name) for alias in node.names if alias.name.startswith("chaoslab.")}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))
FLOOR_OF = {name: floor for floor, rooms in FLOORS.items() for name in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_floor_or_below(path: Path) -> None:
    here = room_of(path)
    if here == "__init__":
        return
    assert here in FLOOR_OF, f"{here} stands on no floor: name it in FLOORS"
    too_high = {name for name in imports(path) if FLOOR_OF.get(name, 5) > FLOOR_OF[here]}
    assert not too_high


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_experiment_side_and_the_analysis_side_never_import_each_other(path: Path) -> None:
    other = {"experiment": ANALYSIS, "analysis": EXPERIMENT}
    here = room_of(path)
    side = "experiment" if here in EXPERIMENT else "analysis" if here in ANALYSIS else None
    assert side is None or not imports(path) & other[side]


def test_nothing_heavy_is_imported_with_the_package() -> None:
    heavy = "('pandas', 'numpy', 'scipy', 'matplotlib', 'pyarrow')"
    code = f"import sys, chaoslab; print([module for module in {heavy} if module in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


AGENT = sorted(path.stem for path in (PACKAGE / "agent").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", AGENT)
def test_a_command_of_the_agent_starts_with_the_standard_library_alone(name: str) -> None:
    known = "set(sys.stdlib_module_names) | {'chaoslab', '__main__', 'sitecustomize'}"
    code = (
        f"import sys; before = set(sys.modules); import chaoslab.agent.{name}; "
        f"print(sorted({{module.partition('.')[0] for module in set(sys.modules) - before}} - ({known})))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"

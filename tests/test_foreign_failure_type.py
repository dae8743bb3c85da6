"""A failure type that another package brings: the one of docs/failure-types.md, installed as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import chaoslab

PAGE = Path(chaoslab.__file__).parents[1] / "docs" / "failure-types.md"
TRIAL = """
import json, os, sys
from pathlib import Path
from chaoslab.conformance import Trial, conform
from chaoslab.faults import Surroundings, failure_types
from chaoslab.hosts import LocalHost
from chaoslab.scenario_file import load

asked = load(Path(sys.argv[1])).scenarios[0]
where = Surroundings(host=LocalHost(), url="http://127.0.0.1:1", target=None, hits_target=True)
(mechanism,) = failure_types()["missing_file"].mechanisms
folder = Path(asked.parameters.path).parent
conform(Trial(mechanism=mechanism, asked=asked, where=where, seconds=0.3, state=lambda: sorted(os.listdir(folder))))
"""


class Package:
    """A folder on the path that holds an installed package."""

    def __init__(self, folder: Path, code: str, entry_point: str) -> None:
        self.folder = folder
        information = folder / "chaoslab_missing_file-1.0.dist-info"
        information.mkdir(parents=True)
        (folder / "chaoslab_missing_file.py").write_text(code)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: chaoslab-missing-file\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[chaoslab.faults]\nmissing_file = {entry_point}\n")

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": f"{self.folder}:{os.environ.get('PYTHONPATH', '')}"}
        return subprocess.run([sys.executable, *argv], env=environment, capture_output=True, text=True)

    def chaoslab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "chaoslab", *arguments)


def block(language: str) -> str:
    """The first block of that language on the page."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture
def package(tmp_path: Path) -> Package:
    (entry_point,) = re.findall(r'^missing_file = "(.+)"$', block("toml"), re.MULTILINE)
    return Package(tmp_path / "site", block("python"), entry_point)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    lost = tmp_path / "shop" / "shop.toml"
    lost.parent.mkdir()
    lost.write_text("name = 'shop'\n")
    file = tmp_path / "scenarios.yml"
    file.write_text(block("yaml").replace("/etc/shop/shop.toml", str(lost)))
    return file


def test_it_keeps_what_every_mechanism_must_keep(package: Package, config: Path) -> None:
    ended = package.run("-c", TRIAL, str(config))
    assert ended.returncode == 0, ended.stderr


def test_its_scenarios_are_read_as_strictly_as_ours(package: Package, config: Path) -> None:
    assert "valid" in package.chaoslab("scenarios", "--check", str(config)).stdout
    config.write_text(config.read_text().replace("path:", "paht:"))
    refused = package.chaoslab("scenarios", "--check", str(config))
    assert refused.returncode == 2
    assert "unknown key 'paht'" in refused.stderr
    assert "did you mean 'path'" in refused.stderr


def test_the_doctor_and_the_schema_know_it(package: Package) -> None:
    rows = json.loads(package.chaoslab("doctor", "--json").stdout)
    assert {"type": "missing_file", "mechanism": "rename", "usable": True, "reason": "", "remedy": ""} in rows
    assert "missing_file" in package.chaoslab("scenarios", "--schema").stdout


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nothing_of_that_name", "cannot be loaded: No module named 'nothing_of_that_name'"),
        ("FAULT = 7", "is int; accepted: chaoslab.faults.FailureType"),
        (
            "from chaoslab.faults.cpu_stress import FAULT",
            "brings the failure type 'cpu_exhaust', which there is already",
        ),
    ],
)
def test_a_package_that_is_broken_is_named_in_one_sentence(tmp_path: Path, code: str, words: str) -> None:
    ended = Package(tmp_path / "site", code, "chaoslab_missing_file:FAULT").chaoslab("scenarios")
    assert ended.returncode == 2
    (sentence,) = ended.stderr.splitlines()
    assert "missing_file of chaoslab-missing-file" in sentence
    assert words in sentence

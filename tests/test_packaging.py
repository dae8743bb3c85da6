"""What is built from the sources is whole and nothing more, and works where nothing of the sources is.

Nothing is downloaded: the clean environment sees, through links, those distributions of the environment of the tests
that an installation without extras brings.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from chaoslab import targets, trust

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(400)  # a demo, and pages of notebooks, with other tests beside them

LEFT_ABOUT = (
    "chaoslab/__pycache__/old.cpython-311.pyc",
    "notebooks/.ipynb_checkpoints/00_quickstart-checkpoint.ipynb",
    "notebooks/campaigns/secret/campaign.json",
    "campaigns/secret/campaign.json",
    "data/baselines/v1.0/campaign.json",
    "data/reference/fragile/report.html",
)
"""What work in a checkout leaves there, and nobody else may get."""


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.split("\n")[:-1]


def build(sources: Path, out: Path, *targets: str) -> None:
    argv = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run([*argv, *(word for target in targets for word in ("-t", target))], cwd=sources, check=True)


@dataclass(frozen=True)
class Built:
    """Folders of what was built from the sources, and of what was built from their own sdist."""

    first: Path
    again: Path

    @property
    def wheel(self) -> Path:
        [found] = self.first.glob("*.whl")
        return found

    @property
    def sdist(self) -> Path:
        [found] = self.first.glob("*.tar.gz")
        return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    sources = folder / "sources"
    for name in tracked():
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, sources / name)
    for name in LEFT_ABOUT:
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text("{}")
    found = Built(folder / "first", folder / "again")
    build(sources, found.first, "sdist", "wheel")
    with tarfile.open(found.sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    build(unpacked, found.again, "wheel")
    return found


def test_the_sdist_holds_what_git_has(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held == {*tracked(), "PKG-INFO"}


def test_the_wheel_holds_the_package_and_what_its_notebooks_need(built: Built) -> None:
    wanted = {name for name in tracked() if name.startswith("chaoslab/")}
    for name in tracked():
        shared = re.fullmatch(r"notebooks/\w+\.ipynb|data/(scenarios\.yml|coverage/.*|reference/[^.]\S*)", name)
        if shared and not name.endswith(".py"):
            wanted.add(f"chaoslab/_share/{name}")
    held = set(zipfile.ZipFile(built.wheel).namelist())
    assert {name for name in held if ".dist-info/" not in name} == wanted
    assert "chaoslab/py.typed" in held
    assert "chaoslab/_share/data/reference/fragile/campaign.json" in held


def test_a_wheel_from_the_sdist_is_the_same_to_the_byte(built: Built) -> None:
    [again] = built.again.iterdir()
    assert again.name == built.wheel.name
    assert again.read_bytes() == built.wheel.read_bytes()


def test_the_wheel_says_what_it_needs_and_offers(built: Built) -> None:
    archive = zipfile.ZipFile(built.wheel)
    [metadata] = (name for name in archive.namelist() if name.endswith("/METADATA"))
    text = archive.read(metadata).decode()
    assert set(re.findall(r"(?m)^Provides-Extra: (.*)$", text)) == {
        "dev",
        "dns",
        "docker",
        "docs",
        "lab",
        "otel",
        "ssh",
    }
    core = [line for line in re.findall(r"(?m)^Requires-Dist: (.*)$", text) if "extra ==" not in line]
    assert len(core) > 20
    assert not [line for line in core if re.match(r"docker|dnspython|opentelemetry|jupyterlab", line)]


# In an environment of its own


@dataclass(frozen=True)
class Clean:
    """An environment with the wheel in it and nothing that an extra brings, and an empty folder elsewhere."""

    prefix: Path
    folder: Path

    @property
    def python(self) -> str:
        return str(self.prefix / "bin" / "python")

    def run(self, *words: str, accepted: tuple[int, ...] = (0,)) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        environment |= {
            "PATH": f"{self.prefix / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
            targets.STATE_VARIABLE: str(self.folder / "state"),
            trust.CONFIG_VARIABLE: str(self.folder / "configuration"),
        }
        ended = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=280)
        assert ended.returncode in accepted, ended.stdout + ended.stderr
        return ended.stdout


def needed_by(name: str, found: dict[str, Distribution], extras: frozenset[str] = frozenset()) -> None:
    """Add to `found` what the distribution `name` needs, itself and all that they need in turn."""
    for text in distribution(name).requires or ():
        wanted = Requirement(text)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        known = wanted.name.lower() in found
        found[wanted.name.lower()] = distribution(wanted.name)
        if not known or wanted.extras:
            needed_by(wanted.name, found, frozenset(wanted.extras))


@pytest.fixture(scope="module")
def clean(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Clean:
    prefix = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    [site] = (prefix / "lib").glob("python*/site-packages")
    needed: dict[str, Distribution] = {}
    needed_by("chaoslab", needed)
    for one in needed.values():
        for top in {file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(one.locate_file(top))))
    (prefix / "share").symlink_to(Path(sys.prefix) / "share")  # the templates of nbconvert are there
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(built.wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python"), *install], check=True)
    return Clean(prefix, tmp_path_factory.mktemp("elsewhere"))


def test_it_runs_where_nothing_of_the_sources_is(clean: Clean) -> None:
    where = clean.run(clean.python, "-c", "import chaoslab; print(chaoslab.__file__)")
    assert where.startswith(str(clean.prefix))
    assert "Break a running service" in clean.run("chaoslab", "--help")
    assert "Light CPU Stress" in clean.run("chaoslab", "scenarios")
    rows = json.loads(clean.run("chaoslab", "doctor", "--json"))
    helps = {row["mechanism"]: row["remedy"] for row in rows if row["type"] == "container_crash"}
    assert helps["docker"] == "pip install 'chaoslab[docker]'"


def test_its_notebooks_are_found_and_open_on_the_recordings(clean: Clean) -> None:
    clean.run("chaoslab", "notebooks", "lab")
    (clean.folder / "lab" / "notebooks" / "mine.yml").write_text("notebooks: [{notebook: 01_design_experiment.ipynb}]")
    clean.run("chaoslab", "batch", "lab/notebooks/mine.yml", "--output", "pages")
    assert (clean.folder / "pages" / "index.html").is_file()
    found = "import chaoslab; print(chaoslab.analyse(chaoslab.Campaign.open('lab/data/reference/fragile')).outcome)"
    assert clean.run(clean.python, "-c", found) == "fail\n"


def test_the_demo_runs_there_and_renders_its_report(clean: Clean) -> None:
    """With the other tests beside it a dose may not arrive, which is 4; the report says so."""
    clean.run("chaoslab", "demo", "--repeats", "1", "--output", "demo", accepted=(0, 4))
    page = (clean.folder / "demo" / "report.html").read_text()
    assert "Database Brief Outage" in page
    assert json.loads((clean.folder / "demo" / "campaign.json").read_text())["status"] == "finished"


def test_a_type_checker_sees_its_types(clean: Clean) -> None:
    file = clean.folder / "uses.py"
    file.write_text("from chaoslab.errors import ChaoslabError\nreveal_type(ChaoslabError('x').exit_code)\n")
    said = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", clean.python, "--cache-dir", os.devnull, file.name],
        cwd=clean.folder,
        capture_output=True,
        text=True,
    ).stdout
    assert 'Revealed type is "int"' in said or 'Revealed type is "builtins.int"' in said
    assert "py.typed" not in said

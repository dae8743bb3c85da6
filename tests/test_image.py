"""The Dockerfile and the devcontainer open the lab: their parts are there, and Docker itself takes them together."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import make_image

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()
NAME = f"chaoslab-test-lab-{os.getpid()}"


def tracked(*paths: str) -> list[str]:
    """Return the files that git has below the paths."""
    listed = subprocess.run(["git", "ls-files", "--", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.split("\n")[:-1]


def test_what_is_copied_is_in_git() -> None:
    copied = [line.split()[1:-1] for line in INSTRUCTIONS if line.startswith("COPY") and "--from" not in line]
    sources = [word for words in copied for word in words if not word.startswith("--")]
    assert sources
    assert not [source for source in sources if not tracked(source)]


def test_the_lab_is_not_root_s_and_listens() -> None:
    users = [line.split()[1] for line in INSTRUCTIONS if line.startswith("USER")]
    assert users == ["1000:1000"]
    assert any(re.search("useradd .*--uid 1000 .*chaos", line) for line in INSTRUCTIONS)
    [command] = [json.loads(line.removeprefix("CMD")) for line in INSTRUCTIONS if line.startswith("CMD")]
    assert command[:2] == ["jupyter", "lab"]
    assert not [word for word in command if re.search("token|password|allow", word)]


def test_the_devcontainer_builds_a_stage_that_there_is_and_runs_what_the_makefile_has() -> None:
    document = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    build = document["build"]
    assert (ROOT / ".devcontainer" / build["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (ROOT / ".devcontainer" / build["context"]).resolve() == ROOT
    stage = DOCKERFILE.partition(f" AS {build['target']}\n")[2].partition("\nFROM")[0]
    assert f" {document['remoteUser']}\n" in stage
    assert " make " in stage
    makefile = (ROOT / "Makefile").read_text()
    variables = dict(re.findall(r"(?m)^(\w+) := (\S+)$", makefile))
    variables |= {name: value.replace("$(VENV)", variables["VENV"]) for name, value in variables.items()}
    targets = {
        re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], name)
        for name in re.findall(r"(?m)^([\w.$()/-]+):", makefile)
    }
    for command in (document["postCreateCommand"], document["postAttachCommand"]):
        assert command.startswith("make ")
        assert command.removeprefix("make ") in targets


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """The image without what its RUN steps do, on a base of nothing but a busybox: there is no registry in a test.

    What is left is the context, what `.dockerignore` lets through, and the settings.
    """
    base = f"{NAME}-base"
    layer = tmp_path / "base"
    with tarfile.open(tmp_path / "passwd.tar", "w") as tar:
        for name, text in {"etc/passwd": "chaos:x:1000:1000::/:\n", "etc/group": "chaos:x:1000:\n"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    layer.mkdir()
    (tmp_path / "passwd.tar").rename(layer / "passwd.tar")
    (layer / "Dockerfile").write_text(f"FROM {make_image()}\nADD passwd.tar /\nCOPY Dockerfile /opt/chaoslab/\n")
    lean = tmp_path / "Dockerfile"
    lean.write_text("\n".join(line for line in INSTRUCTIONS if not line.startswith("RUN")))
    _docker("build", "--tag", base, str(layer))
    build = ("build", "--build-arg", f"BASE={base}", "--file", str(lean))
    _docker(*build, "--target", "build", "--tag", f"{NAME}-build", str(ROOT))
    _docker(*build, "--tag", NAME, str(ROOT))
    yield NAME
    subprocess.run(["docker", "image", "rm", "--force", NAME, f"{NAME}-build", base], capture_output=True, check=False)


def _docker(*words: str) -> str:
    legacy = os.environ | {"DOCKER_BUILDKIT": "0"}  # which needs no plugin
    ended = subprocess.run(["docker", *words], env=legacy, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_wheel_in_it_is_built_from_all_that_a_wheel_holds(image: str) -> None:
    held = _docker("run", "--rm", "--network=none", f"{image}-build", "/bin/busybox", "find", "/src", "-type", "f")
    assert {f"/src/{name}" for name in tracked("chaoslab", "notebooks", "data", "LICENSE")} <= set(held.split("\n"))


def test_docker_builds_it_and_the_lab_holds_what_git_has(image: str) -> None:
    run = ("run", "--rm", "--network=none", image, "/bin/busybox")
    held = _docker(*run, "find", "/lab", "-type", "f").split("\n")[:-1]
    assert sorted(held) == [f"/lab/{name}" for name in sorted(tracked("notebooks", "data"))]
    assert _docker(*run, "id", "-un") == "chaos\n"
    assert _docker(*run, "pwd") == "/lab/notebooks\n"
    assert _docker(*run, "touch", "new.ipynb") == ""

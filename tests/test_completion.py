"""Completion in shells: what is offered, that it arrives as one word, and that it takes no time."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chaoslab import baselines
from chaoslab.cli import completion
from chaoslab.store import CAMPAIGN_FILE
from tests.campaigns import make_campaign, make_run
from tests.test_cli import chaoslab

VARIABLE = "_CHAOSLAB_COMPLETE"
CONFIG = """
scenarios:
  - {name: "It's a \\"light\\" one, $HOME", type: control, duration: 1}
  - {name: "bad\\nname", type: control, duration: 1}
scenario_groups: {nightly: {scenarios: []}}
environments: {canary: {}}
"""


def offered(*words: str) -> list[str]:
    """Return what is offered for the last of `words`."""
    typed = {"COMP_WORDS": "\n".join(shlex.quote(word) for word in ("chaoslab", *words) if word)}
    ended = subprocess.run(
        [sys.executable, "-m", "chaoslab"],
        env=os.environ | typed | {VARIABLE: "bash_complete", "COMP_CWORD": str(len(words))},
        capture_output=True,
        text=True,
    )
    assert not ended.stderr
    return [line.partition(",")[2] for line in ended.stdout.splitlines() if line]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, from which the package is found."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("re",), ["report", "recover"]),
        (("run", "--dur"), ["--duration-scale"]),
        (("run", "--scenario", "light n"), ["Light Network Delay"]),
        (("run", "--suite", "s"), ["smoke_test", "standard_test", "stress_test"]),
        (("validate", "x", "--environment", "p"), ["production"]),
        (("run", "--config", "mine.yml", "--scenario", ""), ['It\'s a "light" one, $HOME']),
        (("run", "--config", "mine.yml", "--suite", ""), ["nightly", "all"]),
        (("run", "--config", "mine.yml", "--environment", ""), ["canary"]),
        (("run", "--config", "missing.yml", "--scenario", ""), []),
        (("run", "--config", "broken.yml", "--scenario", ""), []),
        (("completion", ""), ["bash", "zsh", "fish"]),
    ],
)
def test_names_are_offered_from_where_they_stand(words: tuple[str, ...], wanted: list[str], here: Path) -> None:
    (here / "mine.yml").write_text(CONFIG)
    (here / "broken.yml").write_text("scenarios: [{name: ")
    assert offered(*words) == wanted


def test_campaigns_their_scenarios_and_baselines_are_offered(here: Path) -> None:
    campaign = make_campaign(here / "campaigns" / "one", [make_run("Light CPU Stress")])
    (here / "other" / "deeper").mkdir(parents=True)
    baselines.save(campaign.path, "v1.0")
    assert offered("report", "") == ["campaigns/one"]
    assert offered("report", "campaigns/o") == ["campaigns/one"]
    assert offered("report", "oth") == ["oth"]  # a folder: the shell completes it
    assert offered("baseline", "show", "") == ["v1.0"]
    assert offered("compare", "") == ["v1.0", "campaigns/one"]
    assert offered("plan", "campaigns/one", "--scenario", "") == ["Light CPU Stress"]
    assert (completion._CAMPAIGN, completion._BASELINE) == (CAMPAIGN_FILE, baselines.BASELINE_FILE)


def test_nothing_heavy_is_imported_to_complete_a_scenario_s_name() -> None:
    heavy = ("pandas", "numpy", "pyarrow", "pydantic", "rich")
    code = (
        "import sys; from chaoslab.cli import main\ntry: main()\nexcept SystemExit: "
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    words = {VARIABLE: "bash_complete", "COMP_WORDS": "chaoslab\nrun\n--scenario\nHeavy", "COMP_CWORD": "3"}
    ended = subprocess.run([sys.executable, "-c", code], env=os.environ | words, capture_output=True, text=True)
    assert "plain,Heavy CPU Stress\n" in ended.stdout
    assert ended.stderr == "[]\n"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("run --scenario Light\\ N\t", ["run", "--scenario", "Light Network Delay"]),
        ('run --scenario "Light N\t', ["run", "--scenario", "Light Network Delay"]),
        (
            "run --config mine.yml --scenario It\t",
            ["run", "--config", "mine.yml", "--scenario", 'It\'s a "light" one, $HOME'],
        ),
        ('run --config mine.yml --scenario "It\t"', ["run", "--config", "mine.yml", "--scenario", "It"]),
        ("recov\t", ["recover"]),
    ],
)
def test_a_real_bash_makes_one_word_of_a_name(
    typed: str, words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program is one that completes as ours does, and else prints its arguments."""
    (here / "mine.yml").write_text(CONFIG)
    assert chaoslab("completion", "bash") == 0
    (here / "completion.bash").write_text(capsys.readouterr().out)
    program = here / "chaoslab"
    program.write_text(
        f'#!/bin/sh\n[ -z "${VARIABLE}" ] || exec {sys.executable} -m chaoslab\nprintf "<%s>\\n" "$@" >{here}/said\n'
    )
    program.chmod(0o755)
    bash(f"PATH={here}:$PATH; . ./completion.bash\nchaoslab {typed}\nexit\n")
    assert (here / "said").read_text().splitlines() == [f"<{word}>" for word in words]


def bash(keys: str) -> None:
    """Have an interactive bash read `keys` from a terminal, and wait until it has left."""
    mine, its = pty.openpty()
    argv = ["bash", "--norc", "--noprofile", "-i"]
    environment = {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null", "HISTFILE": ""}
    with subprocess.Popen(argv, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True) as shell:
        os.close(its)
        os.write(mine, keys.encode())
        try:
            while os.read(mine, 4096):
                pass
        except OSError:
            pass  # it has gone
        shell.wait(timeout=30)
    os.close(mine)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_sound(
    shell: str, need: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert chaoslab("completion", shell) == 0
    script = capsys.readouterr().out
    assert VARIABLE in script
    if shell == "bash":
        checked = subprocess.run(
            [f"{Path(sys.executable).parent}/shellcheck", "--shell=bash", "-"],
            input=script,
            text=True,
            capture_output=True,
        )
        assert not checked.stdout + checked.stderr

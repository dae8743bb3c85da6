"""Every command and every piece of Python in the documents is executed, page by page, as it stands there.

A page gets a folder with what the documents take for granted: recorded campaigns, a baseline, recordings of other
tools, a service to start; and the embedded shop runs. What is too slow for a test, or names somebody's machine, is
replaced by `REPLACED`; what ends otherwise than with 0 stands in `ENDS`; what cannot be executed in `ELSEWHERE`, with
its reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from chaoslab import baselines, trust
from tests import monitoring_servers, recordings
from tests.conftest import require
from tests.demo_run import Machine, new_machine
from tests.faults.trials import free_port
from tests.namespaces import may_have_one, own_network
from tests.pages import ROOT, Command, Page, pages
from tests.test_processes import until
from tests.test_pushgateway import answering

SCALE = "0.05"
LONGEST = 300.0
"""Seconds for one command: much, since other tests go first."""
BIN = Path(sys.executable).parent

REPLACED: tuple[tuple[str, str], ...] = (
    # What runs for minutes runs for seconds.
    (r"(chaoslab (?:run|ci)\b.*?) --repeats \d+", r"\1"),
    (r"(chaoslab (?:run|ci)\b.*?) --duration-scale [\d.]+", r"\1"),
    (r"chaoslab (run(?! --resume)|ci)\b", r"chaoslab \1 --repeats 1"),
    (r"(chaoslab (?:run|ci)) (?=.*--config )", rf"\1 --duration-scale {SCALE} "),
    (r"(chaoslab (?:run|ci) (?!.*--(?:config|resume) ))", r"\1--config quick.yml "),
    (r"(papermill \S+02_run.*?) -p repeats \d+", r"\1"),
    (r"(papermill \S+02_run_experiment\.ipynb .*)", r"\1 -p repeats 1 -p duration_scale 1.0 -p config quick.yml"),
    (r"\brepeats=\d+", f"repeats=1, duration_scale={SCALE}"),
    (r"(run_chaos_tests\.sh .* -- )--repeats \d+", r"\1--config quick.yml --repeats 1 --no-page"),
    # What is compared with a recording is recorded alike.
    (
        r"--config quick.yml (.*)--suite standard_test (.*--baseline v1\.0)",
        r'--duration-scale 0.2 --probe-rate 50 \1--scenario "Control (no fault)" \2',
    ),
    (r"\brepeats: \d+", "repeats: 1, duration_scale: 0.2, probe_rate: 50"),
    (r'scenario: \["Heavy CPU Stress"\]', 'scenario: ["Control (no fault)"]'),
    (r"baseline save", "baseline save --force"),
    (r"chaoslab ci ", "chaoslab ci --no-page "),
    # Services: one that `--start` starts must not run already.
    (r"docker compose", "./compose {free}"),
    (r"(--ready http://[^/ ]+)/ready", r"\1/api/health"),
    (r"(--start .*?--port) 8080", r"\1 {free}"),
    (r"127\.0\.0\.1:8080(?=.*--start )", "127.0.0.1:{free}"),
    (r"(--start .*)127\.0\.0\.1:8080", r"\g<1>127.0.0.1:{free}"),
    (r"(demo --serve --port) 8080", r"\1 {free}"),
    (r"http://127\.0\.0\.1:8080|https://staging\.example\.org", "{shop}"),
    (r"http://pushgateway:9091", "{pushgateway}"),
    (r"http://collector:4318", "{collector}"),
    (r"/var/lib/node_exporter/textfile", "textfile"),
    (r"--resume campaigns/\S+", "--resume campaigns/interrupted"),
)
"""What is executed in the place of what stands there: regular expressions, one after the other over the command."""

MADE: tuple[tuple[str, str], ...] = (
    (r"chaoslab (?:run|ci|import) .*--output (\S+)", r"\1"),
    (r"chaoslab batch ", "campaigns/nightly"),
)
"""Campaigns that a command makes. A page that goes on with a recorded one finds it as it was: a short run is compared
with none."""

DECIDES = {0, 1, 3}
INJECTED = {0, 4}
ENDS: tuple[tuple[str, set[int]], ...] = (
    (r"run_chaos_tests\.sh .*--fail-on", {1, 3, 4}),
    (r"demo --serve", {128 + signal.SIGINT}),
    (r"chaoslab (run|ci|batch) .*--dry-run", {0}),
    (r"chaoslab (run|ci|batch) .*--fail-on", {1, 3, 4}),  # one short run decides nothing
    (r"chaoslab (run|ci|batch) ", INJECTED),
    (r"chaoslab validate .*--fail-on-violation", {1}),  # the fragile shop
    (r"chaoslab compare .*--fail-on-regression", DECIDES),
)
"""Exit codes of what does not end with 0. 4 is accepted where a fault is injected: a busy machine may not give it."""

COMES_AND_GOES = r"note|run \d|proxy to|BETTER|SAME|WORSE|INCONCLUSIVE|PASS|FAIL"
"""How lines of output begin that depend on what is measured, or on what the machine allows."""

ELSEWHERE: tuple[tuple[str, str, Callable[[re.Match[str]], object]], ...] = (
    (r"docker (?:build|run) .*", "needs an index of images", lambda _: "docker" in text("tests/test_image.py")),
    (r"bash (\.ci/run)", "is the gate itself", lambda found: text(found[1])),
    (r"make (\w[\w-]*)", "is the build itself", lambda found: f"\n{found[1]}:" in text("Makefile")),
    (r"pip install \.", "needs an index", lambda _: "[project]" in text("pyproject.toml")),
    (
        r"pip install '(?:chaoslab|\.)\[([\w,]+)\]'",
        "needs an index",
        lambda found: {*found[1].split(",")} <= extras(),
    ),
    (r"chaoslab demo", "takes two minutes", lambda _: "DemoUnderWay" in text("tests/test_end_to_end.py")),
    (
        r".*\bcheck_parameters\(\)",
        "is a notebook's cell",
        lambda _: "parameters.check()" in text("tests/test_parameters.py"),
    ),
    (r".*\bRenamed\b.*", "is a package", lambda _: "failure-types.md" in text("tests/test_foreign_failure_type.py")),
)
"""What is not executed: a regular expression for all of a command or a piece of Python, why, and what is looked at
instead."""


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def extras() -> set[str]:
    return set(tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"])


def elsewhere(command: Command) -> bool:
    """Whether a command is not executed here; then what is looked at instead must be there."""
    for pattern, why, look in ELSEWHERE:
        if (found := re.fullmatch(pattern, command.text.strip(), re.DOTALL)) is not None:
            assert look(found), f"{command.text}, which {why}"
            return True
    return False


@dataclass
class Place:
    """Where commands are executed, and the servers that they speak to, each started when a command first asks."""

    machine: Machine
    shop: str
    made: Path
    stack: ExitStack
    folder: Path = Path()
    servers: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        elsewhere = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
        return (
            elsewhere
            | self.machine.environment
            | {
                "HOME": str(self.machine.state),
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                trust.CONFIG_VARIABLE: str(self.machine.state / "configuration"),
            }
        )

    def server(self, name: str) -> str:
        if name not in self.servers:
            self.servers[name] = getattr(self, f"_{name}")()
        return self.servers[name]

    def _pushgateway(self) -> str:
        require("prometheus-pushgateway", "apt-get install prometheus-pushgateway")
        return self.stack.enter_context(monitoring_servers.pushgateway(self.machine.state)).url

    def _collector(self) -> str:
        return self.stack.enter_context(answering(*[200] * 9))

    def executed(self, command: Command) -> str:
        """Return what is executed in the place of a command."""
        found = command.text
        for pattern, instead in REPLACED:
            found = re.sub(pattern, instead, found)
        found = found.replace("{free}", str(free_port())).replace("{shop}", self.shop)
        for name in re.findall(r"\{(pushgateway|collector)\}", found):
            found = found.replace(f"{{{name}}}", self.server(name))
        return found

    def execute(self, command: Command) -> None:
        """Execute a command and hold how it ends, and what it prints, against the page."""
        line = self.executed(command)
        argv = [sys.executable, "-c", line] if command.python else ["bash", "-c", line]
        if "--resume" in line:
            self._interrupt()
        began = time.monotonic()
        with self._room(line):
            code, said = self._until_done(argv, line)
        print(f"{time.monotonic() - began:5.1f} s, ended with {code}: {line}")
        accepted = {0} if command.python else next((codes for form, codes in ENDS if re.search(form, line)), {0})
        assert code in accepted, f"{line}\nended with {code}, not {accepted}:\n{said}"
        if code == 4:
            assert "not delivered" in said or "did not take effect" in said, said
        plain = " ".join(said.split())
        missing = [label for label in map(label_of, command.shown) if label not in plain]
        assert missing == [], f"{line}\ndoes not print what the page shows:\n{said}"

    @contextmanager
    def _room(self, line: str) -> Iterator[None]:
        """Take away the campaigns that a command makes, and put back afterwards those that we had laid there."""
        folders = [found.expand(what) for form, what in MADE if (found := re.search(form, line)) is not None]
        for folder in folders:
            shutil.rmtree(self.folder / folder, ignore_errors=True)
        yield
        for folder in folders:
            if (self.made / folder).exists():
                shutil.rmtree(self.folder / folder, ignore_errors=True)
                shutil.copytree(self.made / folder, self.folder / folder)

    def _until_done(self, argv: list[str], line: str) -> tuple[int, str]:
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(argv, cwd=self.folder, env=self.environment, **options) as process:
            try:
                if (port := re.search(r"demo --serve --port (\d+)", line)) is not None:
                    until(lambda: answers(f"http://127.0.0.1:{port[1]}"), seconds=60)
                    process.send_signal(signal.SIGINT)
                said, _ = process.communicate(timeout=LONGEST)
            except BaseException:
                process.send_signal(signal.SIGINT)
                raise
        return process.returncode, said

    def _interrupt(self) -> None:
        """Leave a campaign that somebody interrupted in its first run."""
        line = f'chaoslab run --target {self.shop} --scenario "Control (no fault)" --repeats 1 --duration-scale {SCALE}'
        argv = ["bash", "-c", f"{line} --output campaigns/interrupted"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(argv, cwd=self.folder, env=self.environment, **quiet) as process:  # type: ignore[call-overload]
            until(lambda: (self.folder / "campaigns" / "interrupted" / "campaign.json").exists(), seconds=60)
            process.send_signal(signal.SIGINT)
        assert process.returncode == 128 + signal.SIGINT


def label_of(shown: str) -> str:
    """Return how a line of output begins, up to what is different each time; nothing where all of it is."""
    cell = re.split(r"  |[\d/…:{\[│┃]|http", shown.strip(), maxsplit=1)[0].strip()
    return "" if re.match(COMES_AND_GOES, shown.strip()) else cell


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


COMPOSE = """case $2 in
    up) setsid chaoslab demo --serve --port "$1" >compose.log 2>&1 & echo $! >compose.pid ;;
    down) while kill "$(cat compose.pid)" 2>/dev/null; do sleep 0.1; done ;;
esac"""
"""A program that leaves a service running elsewhere, called as Docker's."""


def script(path: Path, lines: str) -> None:
    path.write_text(f"#!/bin/bash\n{lines}\n")
    path.chmod(0o755)


def blackbox() -> str:
    """What Prometheus answers about a service that is down for ten seconds."""
    began = datetime(2026, 1, 31, 11, 59, tzinfo=UTC).timestamp()
    instants = [began + number / 2 for number in range(240)]
    up = [[at, "0" if 62 <= at - began < 72 else "1"] for at in instants]
    took = [[at, f"0.0{20 + number % 7}"] for number, at in enumerate(instants)]
    labels = {"instance": "http://shop.test/api/health", "job": "blackbox"}
    series = (("probe_success", up), ("probe_duration_seconds", took))
    result = [{"metric": {"__name__": name, **labels}, "values": values} for name, values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})


def quick(file: dict[str, Any]) -> str:
    """The shipped scenario file in short: seconds in the place of minutes, and a suite is its last scenario."""
    for scenario in file["scenarios"]:
        scenario["duration"] = 1.5
    for suite in file["scenario_groups"].values():
        suite["scenarios"] = suite["scenarios"][-1:]
    file["phases"] = {"baseline_seconds": 1, "recovery_seconds": 1.5}
    file["safety"]["cooldown_seconds"] = 0
    return yaml.safe_dump(file, sort_keys=False)


def prepare(folder: Path) -> None:
    """Lay out what the documents take for granted."""
    reference = ROOT / "data" / "reference"
    for name in ("20260101-120000-campaign", "mine", "release", "baseline", "nightly", "ci"):
        shutil.copytree(reference / "fragile", folder / "campaigns" / name)
    for name in ("20260201-120000-campaign", "today"):
        shutil.copytree(reference / "resilient", folder / "campaigns" / name)
    shutil.copytree(reference, folder / "data" / "reference")
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    (folder / "textfile").mkdir()
    (folder / "results").mkdir()
    baselines.save(reference / "resilient", "v1.0", folder=folder / "data" / "baselines")
    shutil.copy(ROOT / "run_chaos_tests.sh", folder)
    shutil.copy(ROOT / "tests" / "imports" / "chaos_scenarios.yml", folder)
    (folder / "quick.yml").write_text(quick(yaml.safe_load(text("data/scenarios.yml"))))
    script(folder / "serve", 'exec chaoslab demo --serve "$@"')
    script(folder / "compose", COMPOSE)
    for name in ("k6.json", "results.json"):
        recordings.write(folder / name, "k6-json", recordings.hits(seconds=120, down=(62, 70)))
    for number, day in enumerate(("monday", "tuesday", "wednesday")):
        later = number * 200_000
        found = recordings.hits(seconds=120, down=(62, 70), after_ms=later)
        recordings.write(folder / f"{day}.jtl", "jmeter-csv", found)
    (folder / "blackbox.json").write_text(blackbox())
    (folder / "chaos_results.json").write_text(recordings.old_results())
    (folder / "resilience_validation.json").write_text(recordings.old_validation())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The embedded shop, and a folder to copy for each page; in a network of its own where we may change one."""
    machine = new_machine(tmp_path_factory.mktemp("state"))
    made = tmp_path_factory.mktemp("made")
    prepare(made)
    with own_network() if may_have_one() else nullcontext(), ExitStack() as stack:
        port = free_port()
        place = Place(machine, f"http://127.0.0.1:{port}", made, stack)
        argv = [sys.executable, "-m", "chaoslab", "demo", "--serve", "--port", str(port)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(argv, env=place.environment, **quiet) as shop:  # type: ignore[call-overload]
            try:
                until(lambda: answers(place.shop), seconds=60)
                yield place
            finally:
                shop.send_signal(signal.SIGINT)
    for left in machine.temporary.glob("*_kernels"):
        shutil.rmtree(left)  # ipykernel's own, which it leaves after `ipykernel install`
    until(lambda: not machine.traces(), seconds=10, show=machine.traces)
    machine.temporary.rmdir()


@pytest.fixture
def place(world: Place, tmp_path: Path) -> Place:
    folder = tmp_path / "page"
    shutil.copytree(world.made, folder, symlinks=True)
    world.folder = folder
    return world


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_command_on_the_page_does_what_the_page_says(page: Page, place: Place) -> None:
    for _, block in page.blocks("yaml"):
        if block.startswith("notebooks:"):
            (place.folder / "nightly.yml").write_text(place.executed(Command(block)))
    for command in page.commands():
        if not elsewhere(command):
            place.execute(command)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_command_stands_nowhere_but_in_a_console_block(page: Page) -> None:
    prompts = re.findall(r"^ *\$ \S", page.text, re.MULTILINE)
    assert len(prompts) == sum(not command.python for command in page.commands())

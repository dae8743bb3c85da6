"""A secret that is given to a campaign, wherever that may be, is in no file that it leaves and in no line it prints.

A file that is there stands for a database in three commands. Every secret is a word of its own, and the folder, the
tables in it, the pictures in its page and what the commands print are searched for each, byte by byte.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaoslab import targets
from chaoslab.store import Campaign
from tests import servers
from tests.test_processes import until
from tests.test_survival import ours

pytestmark = pytest.mark.timeout(240)

USER, PASSWORD, QUERY, HEADER, STOP, START, CHECK, ABORT, NOTE, VARIABLE, PROXY, DIGEST, BASIC, TOKEN = (
    f"c4nary-{name}-0x9f"
    for name in (
        *("user", "password", "query", "header", "stop", "start", "check", "abort", "note", "variable"),
        *("proxy", "digest", "basic", "token"),
    )
)
BASIC_HEADER = base64.b64encode(f"me:{BASIC}".encode()).decode()
CANARIES = (PASSWORD, QUERY, HEADER, STOP, START, CHECK, ABORT, NOTE, VARIABLE)
CANARIES += (PROXY, DIGEST, BASIC, BASIC_HEADER, TOKEN)

CONFIG = """
scenarios:
  - name: Outage
    type: database_outage
    duration: 1
    description: "as in postgresql://app:{note}@db/shop"
    parameters:
      database: "shop?password={note}"
      stop_command: {stop}
      start_command: {start}
      check_command: ["sh", "-c", "test -e {up}", "--api-key", "{check}"]
  - name: Fault
    type: http_fault
    duration: 1
    parameters: {{status: 503, headers: {{X-Api-Key: "{header}"}}}}
monitoring:
  probes:
    - name: by proxy
      type: http
      endpoint: /ok
      proxy: "http://me:{proxy}@127.0.0.1:1"
      auth: {{type: digest, user: me, password: "{digest}"}}
      weight: 0.2
    - {{name: in, type: http, endpoint: /ok, auth: {{type: basic, user: me, password: "{basic}"}}, weight: 0.2}}
    - {{name: token, type: http, endpoint: /ok, auth: {{type: bearer, token: "${{SHOP_TOKEN}}"}}, weight: 0.2}}
phases: {{baseline_seconds: 2, recovery_seconds: 4}}
safety:
  secrets: [SHOP_LICENCE]
  abort_conditions: {{probe: {{command: {abort}, interval: 0.5}}}}
"""


class Case:
    """A campaign with secrets everywhere, on a part of the machine that is its own, and all that it has printed."""

    def __init__(self, folder: Path, service: servers.Service) -> None:
        self.up, self.repaired, self.folder, self.state = (folder / n for n in ("up", "repaired", "campaign", "state"))
        self.up.touch()
        self.config = folder / "scenarios.yml"
        self.target = f"http://{USER}:{PASSWORD}@127.0.0.1:{service.port}/ok?token={QUERY}"
        self.by_environment = False
        self.printed = ""

    def write(self, *, stop: str = "", start: str = "", abort: str = "exit 0") -> None:
        commands = {
            "stop": ["sh", "-c", stop or f"rm -f {self.up}", "stop", "--password", STOP],
            "start": ["sh", "-c", start or f"touch {self.up}", "start", "--token", START],
            "abort": ["sh", "-c", abort, "abort", f"--password={ABORT}"],
        }
        words = {name: json.dumps(argv) for name, argv in commands.items()}
        places = {"up": self.up, "check": CHECK, "header": HEADER, "note": NOTE}
        places |= {"proxy": PROXY, "digest": DIGEST, "basic": BASIC}
        self.config.write_text(CONFIG.format(**places, **words))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | {
            targets.STATE_VARIABLE: str(self.state),
            "SHOP_LICENCE": VARIABLE,
            "SHOP_TOKEN": TOKEN,
        }
        environment |= {"CHAOSLAB_TARGET": self.target} if self.by_environment else {}
        argv = [sys.executable, "-m", "chaoslab", *arguments]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def campaign(self, *scenarios: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        chosen = [word for name in scenarios for word in ("--scenario", name)]
        target = [] if self.by_environment else ["--target", self.target]
        given = [*target, "--config", str(self.config), "--output", str(self.folder)]
        return self.start("run", *given, *chosen, *options, "--repeats", "1", "--allow-commands", "--verbose")

    def end(self, process: subprocess.Popen[str]) -> int:
        self.printed += "".join(process.communicate(timeout=200))
        return process.returncode

    def __call__(self, *arguments: str) -> int:
        return self.end(self.start(*arguments))

    def found(self) -> list[str]:
        """Return which secrets are in the folder or were printed, and where."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        texts = {str(path): path.read_bytes().decode(errors="replace") for path in files}
        texts |= {"names": " ".join(texts), "printed": self.printed}
        if json.loads((self.folder / "campaign.json").read_text())["dry_run"] is False:
            campaign = Campaign.open(self.folder)
            texts |= {table: getattr(campaign, table).to_csv() for table in ("probes", "resources", "events")}
        pictures = re.findall(r"base64,([A-Za-z0-9+/=]+)", texts.get(str(self.folder / "report.html"), ""))
        texts |= {f"picture {n}": base64.b64decode(data).decode() for n, data in enumerate(pictures)}
        return [f"{canary} in {name}" for canary in CANARIES for name, text in texts.items() if canary in text]


Ended = Callable[[str], tuple[Case, int]]


@pytest.fixture(scope="module")
def under_way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """Campaigns that end in different ways: all under way from the first test on."""
    quotes = 'echo "it is $2 that I use, and $SHOP_LICENCE" >&2'
    commands = {
        "whole": {},
        "inject": {"stop": f"{quotes}; exit 7"},
        "undo": {"start": f"test -e REPAIRED || {{ {quotes}; exit 1; }}; echo $2 > REPAIRED; touch UP"},
        "abort": {"abort": f"test -e UP || {{ {quotes.replace('$2', '$1')}; exit 1; }}"},
    }
    with servers.running() as service:
        cases = {name: Case(tmp_path_factory.mktemp(name), service) for name in commands}
        for name, case in cases.items():
            case.write(**{
                key: text.replace("UP", str(case.up)).replace("REPAIRED", str(case.repaired))
                for key, text in commands[name].items()
            })  # fmt: skip
        running = {
            name: case.campaign("Outage", *(["Fault"] if name == "whole" else [])) for name, case in cases.items()
        }

        def ended(name: str) -> tuple[Case, int]:
            return cases[name], cases[name].end(running[name])

        yield ended
        for process in running.values():
            process.kill()
            process.communicate()


def test_a_campaign_with_its_report(under_way: Ended) -> None:
    case, code = under_way("whole")
    assert code == 4, case.printed  # no request has the header that the HTTP fault asks for
    assert [str(run.state) for run in Campaign.open(case.folder).runs].count("completed") == 1
    assert case("report", str(case.folder)) == 0
    assert case("validate", str(case.folder), "--json") == 4
    written = {file.name for file in case.folder.iterdir()}
    assert {"report.html", "report.ipynb", "journal.jsonl", "chaos_report.md", "chaos_metrics.prom"} <= written
    assert case.found() == []
    meta = json.loads((case.folder / "campaign.json").read_text())
    assert meta["target"] == f"http://127.0.0.1:{case.target.split(':')[-1].split('/')[0]}/ok"
    assert meta["scenarios"][0]["parameters"]["check_command"][-2:] == ["--api-key", "***"]
    assert meta["configuration"]["safety"]["secrets"] == ["SHOP_LICENCE"]
    by_proxy = next(entry for entry in meta["probes"] if entry["name"] == "by proxy")
    assert (by_proxy["client"], by_proxy["proxy"]) == ("httpx", "http://127.0.0.1:1")
    assert by_proxy["needs"] == ["a proxy", "digest authentication"]
    probes = Campaign.open(case.folder).probes
    assert set(probes.loc[probes["probe"] == "by proxy", "error"]) == {"refused"}
    assert probes.loc[probes["probe"].isin(["in", "token"]), "error"].isna().all()


def test_a_step_that_fails_and_quotes_its_secrets(under_way: Ended) -> None:
    case, code = under_way("inject")
    assert code == 4, case.printed
    assert "it is *** that I use, and ***" in case.printed
    assert case.found() == []


def test_an_abort_by_a_probe_that_quotes_its_secrets(under_way: Ended) -> None:
    case, code = under_way("abort")
    assert code == 5, case.printed
    assert "--password=***" in case.printed
    assert case.found() == []


def test_an_undo_that_fails_stays_runnable_in_the_journal_and_nowhere_else(under_way: Ended) -> None:
    case, code = under_way("undo")
    assert code == 6, case.printed
    assert "it is *** that I use, and ***" in case.printed
    assert "--token '***'" in case.printed
    assert "secrets are shown as ***; `chaoslab recover` runs the real commands, from the journal" in case.printed
    (journal,) = (case.state / "journals").glob("*.jsonl")
    assert START in journal.read_text()
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.parent.stat().st_mode) == 0o700
    assert case("report", str(case.folder)) == 0
    assert case("recover", "--list", "--json") == 0
    assert case("recover") == 6
    assert case("run", "--resume", str(case.folder)) == 2
    assert not (case.folder / "journal.jsonl").is_symlink()
    assert case.found() == []
    case.repaired.touch()
    assert case("recover") == 0
    assert case.repaired.read_text() == f"{START}\n"  # the real command ran
    assert not journal.exists()
    assert case.found() == []


def test_a_campaign_whose_processes_were_killed(tmp_path: Path) -> None:
    with servers.running() as service:
        case = Case(tmp_path, service)
        case.write(stop=f"rm -f {case.up}; sleep 0.2")
        case.by_environment = True
        process = case.campaign("Outage")
        until(lambda: not case.up.exists(), seconds=60)
        listed = [" ".join(found.cmdline()) for found in ours(case.state)]  # as every user of the machine can see it
        process.kill()
        case.by_environment = False
        assert len(listed) >= 4  # the campaign, its guardian, the prober, the sampler
        assert not [line for line in listed if PASSWORD in line or QUERY in line]
        case.end(process)
        until(lambda: case.up.exists() and not (case.folder / "journal.jsonl").is_symlink(), seconds=20)
        assert case("run", "--resume", str(case.folder)) == 2
        assert "are not on record: give all of it with --target" in case.printed
        assert case("run", "--resume", str(case.folder), "--target", case.target) == 2  # its commands are not allowed
    assert "chaoslab trust FILE" in case.printed
    assert case.found() == []


def test_a_dry_run(tmp_path: Path) -> None:
    with servers.running() as service:
        case = Case(tmp_path, service)
        case.write()
        assert case.end(case.campaign("Outage", "Fault", options=("--dry-run",))) == 0, case.printed
    assert f"undo      sh -c 'touch {case.up}' start --token '***'" in case.printed
    assert "4/s constant, through httpx for a proxy, digest authentication" in case.printed
    assert case.found() == []

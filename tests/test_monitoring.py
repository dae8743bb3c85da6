"""Probes beside the health check: strict in the file, refused before anything runs, on record, and never judged."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import certifi
import pytest

import chaoslab as chaoslab_package
from chaoslab import experiment, scenario_file
from chaoslab.analysis import analyse
from chaoslab.errors import ScenarioFileError, UsageError
from chaoslab.faults import failure_types
from chaoslab.faults.base import Surroundings
from chaoslab.faults.through_proxy import ThroughProxy
from chaoslab.hosts import LocalHost
from chaoslab.looks import Look
from chaoslab.monitoring import looks_of, variables_of
from chaoslab.scenario_file import parse
from chaoslab.store import Campaign
from chaoslab.tls import Tls
from tests.servers import running
from tests.test_cli import chaoslab

CONTROL = "scenarios:\n  - {name: Control, type: control, duration: 60}\n"
PROBES = """\
monitoring:
  health_check:
    endpoint: /ok
    success: {contains: ok, max_latency: 500ms}
  probes:
    - name: orders
      type: http
      endpoint: /status/503
      method: POST
      headers: {Authorization: "Bearer ${SHOP_TOKEN}"}
      body: '{"item": 1}'
      weight: 0.5
      arrivals: poisson
      success: {statuses: [503]}
    - {name: port, type: tcp, address: "127.0.0.1:1"}
    - {name: script, type: command, command: [sh, -c, "exit 3"], weight: 0.2}
    - {name: db, type: postgres, dsn: "host=127.0.0.1 port=1 password=${SHOP_TOKEN}", weight: 0.2}
"""


def looks(text: str, *, rate_hz: float = 20.0) -> tuple[Look, ...]:
    return looks_of(parse(CONTROL + text).monitoring, target="http://127.0.0.1:8080", rate_hz=rate_hz)


def test_a_file_becomes_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "t0psecret-9")
    health, orders, port, script, database = looks(PROBES)
    assert (health.name, health.address, health.success.within_s) == ("health", "http://127.0.0.1:8080/ok", 0.5)
    assert (orders.method, orders.rate_hz, orders.arrivals) == ("POST", 10.0, "poisson")
    assert orders.headers == (("Authorization", "Bearer t0psecret-9"),)
    assert orders.success.statuses == {503}
    assert (port.kind, port.address) == ("tcp", "127.0.0.1:1")
    assert (script.kind, script.argv, script.limit) == ("command", ("sh", "-c", "exit 3"), 4)
    assert database.address == "host=127.0.0.1 port=1 password=t0psecret-9"


def test_a_file_without_probes_has_its_health_check_alone() -> None:
    [health] = looks("")
    assert (health.name, health.method, health.headers, health.fresh) == ("health", "GET", (), False)


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        ("{name: a, type: htp, endpoint: /}", r":5: unknown type 'htp'.*did you mean 'http'.*accepted: http, tcp"),
        ("{name: a, endpoint: /}", r":5: .*has no key 'type'; accepted: http, tcp, postgres, command"),
        ("{name: a, type: http, endpoint: /, methd: GET}", r":5: unknown key 'methd'.*method"),
        ("{name: a, type: http, endpoint: 'http://other/'}", r":5: .*endpoint is 'http://other/'"),
        ("{name: a, type: http, endpoint: /, method: HED}", r":5: .*'HED': accepted: GET, HEAD.*did you mean 'HEAD'"),
        ("{name: a, type: tcp, address: nowhere}", r":5: .*address.*accepted: HOST:PORT"),
        ("{name: health, type: tcp, address: 'a:1'}", r":5: .*'health', as is the health check's"),
        ("{name: a, type: http, endpoint: /, headers: {'a b': c}}", r":5: .*a header is called 'a b'"),
        ("{name: a, type: http, endpoint: /, headers: {Content-Length: '3'}}", r":5: .*Content-Length cannot be set"),
        ("{name: a, type: tcp, address: 'a:1', weight: 0}", r":5: .*weight is 0: .*greater than 0"),
        ("{name: a, type: command, command: []}", r":5: .*command is \[\]"),
    ],
)
def test_a_probe_that_is_not_accepted_is_refused_with_its_line(probe: str, problem: str) -> None:
    with pytest.raises(ScenarioFileError, match=problem):
        parse(f"{CONTROL}monitoring:\n  probes:\n    - {probe}\n")


FEATURES = """\
monitoring:
  health_check:
    endpoint: /ok
    http2: true
    tls: {ca_file: trusted.pem}
    auth: {type: bearer, token: "${SHOP_TOKEN}"}
  probes:
    - name: as a browser
      type: http
      endpoint: /
      method: HEAD
      follow_redirects: true
      proxy: "http://me:${SHOP_TOKEN}@proxy:3128"
      auth: {type: digest, user: me, password: "${SHOP_TOKEN}"}
    - {name: lean, type: http, endpoint: /, auth: {type: basic, user: me, password: "a:b"}, tls: {verify: false}}
"""


def test_what_a_probe_needs_says_by_which_client_it_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "t0psecret-9")
    trusted = tmp_path / "trusted.pem"
    shutil.copy(certifi.where(), trusted)
    monitoring = parse(CONTROL + FEATURES).monitoring
    health, browser, lean = looks_of(monitoring, target="https://shop", rate_hz=20.0, folder=tmp_path)
    assert (health.client, health.http2, health.tls) == ("httpx", True, Tls(ca_file=str(trusted)))
    assert health.headers == (("Authorization", "Bearer t0psecret-9"),)
    assert health.summary.endswith("20/s constant, through httpx for HTTP/2")
    assert (browser.method, browser.digest, browser.headers) == ("HEAD", ("me", "t0psecret-9"), ())
    assert browser.proxy == "http://me:t0psecret-9@proxy:3128"
    assert browser.features == ("redirects", "a proxy", "digest authentication")
    assert (lean.client, lean.features, lean.tls) == ("http", (), Tls(verify=False))
    assert lean.headers == (("Authorization", "Basic bWU6YTpi"),)
    assert variables_of(monitoring) == {"SHOP_TOKEN"}
    assert [Look.from_dict(json.loads(json.dumps(look.as_dict()))) for look in (health, browser, lean)] == [
        health,
        browser,
        lean,
    ]
    assert "t0psecret" not in repr((health, browser, lean))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("auth: {user: me}", r":5: .*auth has no key 'type'; accepted: basic, bearer, digest"),
        ("auth: {type: basik}", r":5: unknown type 'basik'.*did you mean 'basic'.*accepted: basic, bearer, digest"),
        ("auth: {type: digest, user: me}", r":5: .*auth lacks the key 'password'"),
        ("auth: {type: bearer, tokn: x}", r":5: unknown key 'tokn' in .*auth.*did you mean 'token'"),
        ("auth: {type: bearer, token: x}, headers: {authorization: y}", r":5: .*auth and a header Authorization"),
        ("proxy: 'socks5://me:hunter2@a:1'", r":5: .*proxy is not accepted; accepted: an http or https URL"),
        ("proxy: 'http://me:${NAME}@a:${PORT}/x'", r":5: .*proxy is not accepted"),
        ("tls: {key: a.pem}", r":5: .*key is given without certificate"),
        ("tls: {ca_file: a.pem, verify: false}", r":5: .*trusts anybody: accepted one of them"),
        ("tls: {cafile: a.pem}", r":5: unknown key 'cafile'.*did you mean 'ca_file'"),
        ("method: HEAD, success: {contains: up}", r":5: .*the answer to HEAD has no body"),
    ],
)
def test_what_a_request_cannot_be_is_refused_with_its_line(keys: str, problem: str) -> None:
    text = f"{CONTROL}monitoring:\n  probes:\n    - {{name: a, type: http, endpoint: /, {keys}}}\n"
    with pytest.raises(ScenarioFileError, match=problem) as refusal:
        parse(text)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("http2: true, weight: 6", r"make 120 probes a second by httpx \(a for HTTP/2\); accepted: up to 100"),
        ("http2: true, proxy: 'http://b:1'", r"'a' asks for HTTP/2 through a proxy; accepted: to an https URL"),
        ("tls: {ca_file: nowhere.pem}", r"ca_file /\S+nowhere.pem cannot be used: No such file.*of the probe 'a'"),
        ("auth: {type: bearer, token: '${LINES}'}", r"the header Authorization holds a line break"),
        ("proxy: 'http://me:${LINES}@a:1'", r"the proxy of the probe 'a' holds what no URL may"),
        (
            "auth: {type: digest, user: me, password: '${NONE}'}",
            r"auth of the probe 'a' refers to .* NONE, which is not",
        ),
    ],
)
def test_what_shows_only_with_target_rate_and_variables_is_refused_too(
    keys: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "hunter2\nX: y")
    with pytest.raises(UsageError, match=problem) as refusal:
        looks(f"monitoring:\n  probes:\n    - {{name: a, type: http, endpoint: /, {keys}}}\n")
    assert "hunter2" not in str(refusal.value)


def test_a_fault_that_the_health_check_would_not_come_by_is_not_chosen() -> None:
    target = "http://127.0.0.1:1"
    where = Surroundings(host=LocalHost(), url=target, target=None, hits_target=True)
    delay = next(one for one in scenario_file.load().scenarios if one.name == "Light Network Delay")
    proxy = next(one for one in failure_types()["network_latency"].mechanisms if isinstance(one, ThroughProxy))
    assert proxy.obstacle(delay, replace(where, features=())) is None
    refusal = proxy.obstacle(delay, replace(where, features=("a proxy",)))
    assert "the health check goes through a proxy of yours" in str(refusal)
    fault = parse(f"{CONTROL}  - {{name: F, type: http_fault, duration: 3, parameters: {{status: 503}}}}").scenarios[1]
    reader = failure_types()["http_fault"].mechanisms[0]
    assert reader.obstacle(fault, where) is None
    assert "speaks HTTP/2" in str(reader.obstacle(fault, replace(where, features=("HTTP/2",))))


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_TOKEN", raising=False)
    with pytest.raises(UsageError, match=r"header Authorization of the probe 'orders' .*SHOP_TOKEN, which is not set"):
        looks(PROBES)


def test_more_probes_than_one_prober_takes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"make 5040 probes a second; accepted: up to 5000"):
        looks("monitoring:\n  probes:\n    - {name: a, type: tcp, address: 'a:1', weight: 251}\n")


def test_commands_need_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "t0psecret-9")
    file = tmp_path / "probes.yml"
    file.write_text(CONTROL + PROBES)
    with pytest.raises(UsageError, match=r"monitoring\.probes: script are commands .*--allow-commands"):
        experiment.run(target="http://127.0.0.1:1", config=file, output=tmp_path / "campaign", repeats=1)
    assert not (tmp_path / "campaign").exists()


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    folder = tmp_path_factory.mktemp("monitoring")
    (folder / "probes.yml").write_text(CONTROL + PROBES)
    with pytest.MonkeyPatch.context() as patch, running() as service:
        patch.setenv("SHOP_TOKEN", "t0psecret-9")
        patch.setenv("CHAOSLAB_STATE_DIR", str(folder / "state"))
        yield experiment.run(
            target=service.url(""),
            config=folder / "probes.yml",
            output=folder / "campaign",
            repeats=1,
            duration_scale=0.01,
            allow_commands=True,
        )


def test_every_probe_has_its_rows(campaign: Campaign) -> None:
    found = campaign.probes.groupby("probe", observed=True)["error"].agg(lambda kinds: set(kinds.dropna()))
    assert found.to_dict() == {
        "health": set(),
        "orders": set(),
        "port": {"refused"},
        "script": {"status"},
        "db": {"refused"},
    }


def test_the_health_check_alone_is_judged(campaign: Campaign) -> None:
    [scenario] = analyse(campaign).scenarios
    [run] = scenario.runs
    rows = campaign.probes
    assert run.failed == 0
    assert run.requests <= (rows["probe"] == "health").sum()


def test_the_record_says_what_was_asked_and_keeps_the_secret(campaign: Campaign) -> None:
    told = {entry["name"]: entry for entry in campaign.meta["probes"]}
    assert list(told) == ["health", "orders", "port", "script", "db"]
    assert told["orders"]["headers"] == ["Authorization"]
    assert (told["orders"]["method"], told["orders"]["success"]["statuses"]) == ("POST", "503")
    assert told["script"]["command"] == ["sh", "-c", "exit 3"]
    assert told["db"]["client"] == "psycopg"
    assert campaign.meta["probe"]["name"] == "health"
    json.dumps(campaign.meta["probes"])
    assert all(b"t0psecret" not in file.read_bytes() for file in campaign.path.rglob("*") if file.is_file())


def test_the_prober_says_how_each_probe_fared(campaign: Campaign) -> None:
    [detail] = campaign.events.loc[campaign.events["event"] == "run_finished", "detail"]
    prober = json.loads(detail)["instruments"]["prober"]
    assert set(prober["probes"]) == {"health", "orders", "port", "script", "db"}
    assert prober["probes"]["script"]["failures"] == prober["probes"]["script"]["sent"] > 0
    assert prober["recorded"] == len(campaign.probes)


def test_a_dry_run_shows_them_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "t0psecret-9")
    file = tmp_path / "probes.yml"
    file.write_text(CONTROL + PROBES)
    url = "http://me:t0psecret-7@127.0.0.1:1"
    assert chaoslab("run", "--target", url, "--config", str(file), "--dry-run", "--allow-commands") == 0
    shown = capsys.readouterr().out
    assert "probe orders: POST http://***@127.0.0.1:1/status/503, 10/s poisson" in shown
    assert "probe script: sh -c 'exit 3', 4/s constant" in shown
    assert "t0psecret" not in shown


def test_the_example_of_the_page_is_accepted() -> None:
    page = (Path(chaoslab_package.__file__).parents[1] / "docs" / "probing.md").read_text()
    [example] = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    kinds = {probe.type for probe in parse(CONTROL + example).monitoring.probes}
    assert kinds == {"http", "tcp", "postgres", "command"}

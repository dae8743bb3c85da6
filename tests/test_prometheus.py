"""What is pushed is what Prometheus answers with, and every rule and every query of the dashboard finds it there.

All against Debian's own Prometheus, Pushgateway and node exporter, with the files of `monitoring/` as they are.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaoslab.cli.export import export
from tests.campaigns import RunRows, make_campaign, make_run
from tests.conftest import require
from tests.monitoring_servers import Server, node_exporter, prometheus, pushgateway, until
from tests.test_cli import chaoslab
from tests.test_pushgateway import HOSTILE, Samples, held, labelled, same, samples

MONITORING = Path(__file__).parents[1] / "monitoring"
RULES = MONITORING / "prometheus"
DASHBOARD = json.loads((MONITORING / "grafana" / "chaoslab.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    *((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]),
    *((note["name"], note["expr"]) for note in DASHBOARD["annotations"]["list"]),
]
VARIABLES = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
RECORDED = [
    rule["record"]
    for group in yaml.safe_load((RULES / "recording_rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
KEPT = "chaos_latency_degradation_ms"
"""The one name that `promtool` would choose otherwise: it is the contract's."""


def runs(shift: float) -> list[RunRows]:
    """A violation, an outage without a name that is easy, a control that passes, and one run that cannot be judged."""
    return [
        *(make_run("Outage", n, type="database_outage", down=[(6.0, 11.0 + shift + n / 5)], seed=n) for n in (1, 2, 3)),
        *(make_run(HOSTILE, n, down=[(6.0, 7.0 + n / 5)], seed=n) for n in (1, 2, 3)),
        *(make_run("Control (no fault)", n, type="control", intensity="", seed=n, rate_hz=50) for n in (1, 2, 3)),
        make_run("Light Network Delay", type="network_latency"),
    ]


class Live:
    """A Prometheus that has seen two campaigns since `began`; `text` is the file of the second."""

    def __init__(self, server: Server, began: float, text: str) -> None:
        self.server = server
        self.began = began
        self.text = text


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    for program in ("prometheus", "prometheus-pushgateway"):
        require(program, f"install the package {program}")
    folder, began = tmp_path_factory.mktemp("monitoring"), time.time()
    with pushgateway(folder) as gateway, prometheus(folder, configuration(gateway)) as server:
        for number, finished in enumerate(("2024-05-01T12:10:00+00:00", "2024-05-02T12:10:00+00:00")):
            campaign = make_campaign(folder / str(number), runs(number / 10), finished_at=finished)
            options = ("--pushgateway-url", gateway.url, "--job-name", "nightly", "--grouping", "environment=staging")
            assert chaoslab("export", str(campaign.path), "--push", *options) == 0
            text = (campaign.path / "chaos_metrics.prom").read_text()
            wanted = samples(text)["chaos_campaign_finished_timestamp_seconds", frozenset()]
            server.eventually(f"chaos_campaign_finished_timestamp_seconds == {wanted:.0f}")
        yield Live(server, began, text)


def configuration(gateway: Server) -> dict[str, Any]:
    """The configuration of `monitoring/`, in a hurry and for this gateway."""
    found: dict[str, Any] = yaml.safe_load((RULES / "prometheus.yml").read_text())
    found["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    found["rule_files"] = [str(RULES / name) for name in found["rule_files"]]
    found["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{gateway.port}"]}]
    return found


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    require("promtool", "install the package prometheus")
    return subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, cwd=RULES)


def answered(found: list[dict[str, Any]]) -> Samples:
    return {
        (sample["metric"].pop("__name__"), frozenset(sample["metric"].items())): float(sample["value"][1])
        for sample in found
    }


# Prometheus


def test_what_was_pushed_is_what_prometheus_answers_with(live: Live) -> None:
    group = {"job": "nightly", "environment": "staging"}
    pushed = {
        (name, frozenset((label, value) for label, value in labels if value)): number  # no label is an empty one
        for (name, labels), number in labelled(samples(live.text), **group).items()
    }
    assert any(map(math.isnan, pushed.values()))
    assert any(("scenario", HOSTILE) in labels for _, labels in pushed)
    found = live.server.eventually('{__name__=~"chaos_.*"}', lambda found: len(found) == len(pushed))
    assert same(answered(found), pushed)


def test_a_text_file_collector_takes_the_file_as_it_is(tmp_path: Path) -> None:
    require("prometheus-node-exporter", "install the package prometheus-node-exporter")
    collected = tmp_path / "collected"
    collected.mkdir()
    campaign = make_campaign(tmp_path / "campaign", runs(0)).path
    assert chaoslab("export", str(campaign), "--output", str(collected)) == 0
    with node_exporter(tmp_path, collected) as server:
        assert same(held(server), samples((collected / "chaos_metrics.prom").read_text()))


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_series_is_there(name: str, live: Live) -> None:
    assert live.server.eventually(name)


def test_alerts_fire_for_what_failed_and_what_is_not_known_and_for_nothing_else(live: Live) -> None:
    def firing() -> set[tuple[str, str]]:
        alerts = live.server.get("/api/v1/alerts")["data"]["alerts"]
        return {(one["labels"]["alertname"], one["labels"].get("scenario", "")) for one in alerts}

    expected = {
        ("ChaosSloViolated", "Outage"),
        ("ChaosSloViolated", HOSTILE),
        ("ChaosSloInconclusive", "Light Network Delay"),
        ("ChaosCampaignStale", ""),
    }
    assert until(firing, expected.__eq__, "alerts") == expected


def test_promtool_finds_nothing_but_the_name_that_is_kept(live: Live) -> None:
    checked = promtool("check", "metrics", text=live.text)
    objection = "metric names should not contain abbreviated units"
    assert sorted(checked.stderr.splitlines()) == [
        f"{name} {objection}" for name in (KEPT, f"{KEPT}_ci_high", f"{KEPT}_ci_low")
    ]
    assert checked.returncode == 3
    without = "".join(line for line in live.text.splitlines(keepends=True) if KEPT not in line)
    clean = promtool("check", "metrics", text=without)
    assert (clean.returncode, clean.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "recording_rules.yml", "alerting_rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_rules_and_configuration(arguments: tuple[str, ...]) -> None:
    checked = promtool(*arguments)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_a_test() -> None:
    groups = yaml.safe_load((RULES / "alerting_rules.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    tests = yaml.safe_load((RULES / "rules_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == alerts


# Grafana


def filled(expression: str) -> str:
    """Return a query of the dashboard as Grafana sends it when everything is chosen, and one trend."""
    for name, value in {"$trend": "Outage", "$job": ".*", "$scenario": ".*", "$type": ".*"}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


@pytest.mark.parametrize(("title", "expression"), QUERIES, ids=lambda text: str(text)[:60])
def test_every_query_of_the_dashboard_finds_something(title: str, expression: str, live: Live) -> None:
    assert title
    found = live.server.eventually(filled(expression))
    assert not all(math.isnan(float(sample["value"][1])) for sample in found)


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable["name"])
def test_every_variable_of_the_dashboard_has_values(variable: dict[str, Any], live: Live) -> None:
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert match is not None
    found = live.server.get(f"/api/v1/label/{match[2]}/values", **{"match[]": filled(match[1])})["data"]
    wanted = {"job": ["nightly"], "type": ["control", "cpu_stress", "database_outage", "network_latency"]}
    assert found == wanted.get(match[2], sorted(["Outage", HOSTILE, "Control (no fault)", "Light Network Delay"]))


def test_the_trend_of_a_scenario_has_both_campaigns(live: Live) -> None:
    expression = filled(next(query for title, query in QUERIES if title == "Availability during injection"))
    answer = live.server.get(
        "/api/v1/query_range", query=expression, start=str(live.began), end=str(time.time()), step="0.5"
    )["data"]["result"]
    (series,) = answer
    assert len({value for _, value in series["values"]}) == 2


def test_the_dashboard_can_be_laid_out() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Overview", "SLO compliance", "Recovery", "Impact by failure type", "Trend with intervals"]
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        apart = (one["x"] + one["w"] <= other["x"], other["x"] + other["w"] <= one["x"])
        above = (one["y"] + one["h"] <= other["y"], other["y"] + other["h"] <= one["y"])
        assert any((*apart, *above)), (one, other)
    sources = {json.dumps(part["datasource"]) for panel in PANELS for part in (panel, *panel["targets"])}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}
    assert all(panel["description"] for panel in PANELS)


def test_every_trend_is_shown_with_its_interval() -> None:
    top = next(panel["gridPos"]["y"] for panel in DASHBOARD["panels"] if panel["title"] == "Trend with intervals")
    for panel in (panel for panel in PANELS if panel["gridPos"]["y"] > top):
        names = [target["expr"].partition("{")[0] for target in panel["targets"]]
        assert names == [names[0], f"{names[0]}_ci_low", f"{names[0]}_ci_high"]


# The page


PAGE = (MONITORING.parent / "docs" / "monitoring.md").read_text()


def test_the_page_of_monitoring_has_every_option_of_a_push() -> None:
    options = {
        option for parameter in export.params for option in parameter.opts if "push" in option or "job" in option
    }
    assert len(options) == 8
    assert {name for name in options if f"`{name}" not in PAGE} == set()


def test_the_page_of_monitoring_has_every_metric_and_every_alert() -> None:
    rules = RULES / "alerting_rules.yml"
    alerts = re.findall(r"- alert: (\w+)", rules.read_text())
    metrics = re.findall(r'"(chaos_\w+)"', (MONITORING.parent / "chaoslab" / "export" / "prometheus.py").read_text())
    assert {name for name in (*alerts, *metrics) if f"`{name}`" not in PAGE} == set()

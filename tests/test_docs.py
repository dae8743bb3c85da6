"""The pages under docs/ say what is accepted: every scenario on them is read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import chaoslab
from chaoslab.cli import program
from chaoslab.cli.export import export
from chaoslab.faults import failure_types
from chaoslab.scenario_file import parse

DOCS = Path(chaoslab.__file__).parents[1] / "docs"
PAGE = (DOCS / "faults.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE + (DOCS / "safety.md").read_text(), re.DOTALL | re.MULTILINE)


COMMANDS = re.findall(r"^\$ chaoslab (.*?)(?: +#.*)?$", (DOCS / "ci.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_pipeline_page_is_one(line: str) -> None:
    name, *arguments = shlex.split(line)
    command = program.get_command(click.Context(program), name)
    assert command is not None
    command.make_context(name, arguments)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[1].partition(":")[2].strip())
def test_every_scenario_on_the_pages_is_accepted(block: str) -> None:
    assert parse(block).scenarios


@pytest.mark.parametrize("kind", sorted(set(failure_types()) - {"control"}))
def test_the_page_of_faults_has_every_type(kind: str) -> None:
    assert f"\n| `{kind}` |" in PAGE


MONITORING = (DOCS / "monitoring.md").read_text()


def test_the_page_of_monitoring_has_every_option_of_a_push() -> None:
    options = {
        option for parameter in export.params for option in parameter.opts if "push" in option or "job" in option
    }
    assert len(options) == 8
    assert {name for name in options if f"`{name}" not in MONITORING} == set()


def test_the_page_of_monitoring_has_every_metric_and_every_alert() -> None:
    rules = DOCS.parent / "monitoring" / "prometheus" / "alerting_rules.yml"
    alerts = re.findall(r"- alert: (\w+)", rules.read_text())
    metrics = re.findall(r'"(chaos_\w+)"', (DOCS.parent / "chaoslab" / "export" / "prometheus.py").read_text())
    assert {name for name in (*alerts, *metrics) if f"`{name}`" not in MONITORING} == set()

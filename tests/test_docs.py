"""The pages under docs/ say what is accepted: every scenario on them is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import chaoslab
from chaoslab.faults import failure_types
from chaoslab.scenario_file import parse

DOCS = Path(chaoslab.__file__).parents[1] / "docs"
PAGE = (DOCS / "faults.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE + (DOCS / "safety.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[1].partition(":")[2].strip())
def test_every_scenario_on_the_pages_is_accepted(block: str) -> None:
    assert parse(block).scenarios


@pytest.mark.parametrize("kind", sorted(set(failure_types()) - {"control"}))
def test_the_page_of_faults_has_every_type(kind: str) -> None:
    assert f"\n| `{kind}` |" in PAGE

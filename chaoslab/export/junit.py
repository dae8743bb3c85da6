"""An analysis as JUnit XML: a suite for each scenario, a case for each of its objectives.

A violated blocking objective is a failure, one that only warns is shown as skipped. An inconclusive one is skipped or a
failure, as the caller decides; it never passes. What is still broken, and a fault that was not delivered, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from chaoslab import wording
from chaoslab.redaction import redact

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis, ScenarioResult
    from chaoslab.verdict import Verdict

Shown = Literal["skipped", "failure"]
"""How what is inconclusive is shown."""

_COUNTED: Final = {"failures": "failure", "errors": "error", "skipped": "skipped"}
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(
    analysis: Analysis | None, *, inconclusive: Shown = "skipped", troubles: Sequence[tuple[str, str]] = ()
) -> str:
    """Return the verdicts of `analysis` as JUnit XML, well-formed whatever names and reasons hold; no secrets.

    `troubles` are stages of a pipeline that failed, with the reason; each is an error. Without an analysis there is
    nothing else.
    """
    root = Element("testsuites", name="chaoslab")
    if analysis is not None:
        root.set("name", clean(f"chaoslab {analysis.campaign.get('campaign', '')}"))
        root.extend(_suite(analysis, result, inconclusive) for result in analysis.scenarios)
        root.extend([_residue(analysis)] if analysis.residue else [])
    root.extend([_pipeline(troubles)] if troubles else [])
    for suite in root:
        _count(suite)
    for name in ("tests", *_COUNTED):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def clean(text: str) -> str:
    r"""Return `text` without secrets, and with U+FFFD for each character that XML 1.0 does not have.

    >>> clean("a\x00b\x1b[31m\ud800")
    'a\ufffdb\ufffd[31m\ufffd'
    """
    return _NO_XML.sub("\ufffd", redact(text))


def _suite(analysis: Analysis, result: ScenarioResult, inconclusive: Shown) -> Element:
    seconds = sum(run.window_seconds for run in result.runs)
    started = str(analysis.campaign.get("started_at", "")).partition("+")[0].partition(".")[0]
    suite = Element("testsuite", name=clean(result.name), time=f"{seconds:.3f}", timestamp=clean(started))
    undelivered = next((run.reason for run in result.excluded if run.state == "not_delivered"), "")
    for verdict in result.verdicts:
        _case(suite, result, verdict, inconclusive)
    if undelivered:
        case = SubElement(suite, "testcase", name="fault delivered", classname=_class(result))
        SubElement(case, "error", type="not_delivered", message=clean(undelivered))
    return suite


def _class(result: ScenarioResult) -> str:
    return clean(f"chaoslab.{result.type}.{result.name}")


def _case(suite: Element, result: ScenarioResult, verdict: Verdict, inconclusive: Shown) -> None:
    slo = verdict.slo
    limit = wording.objective(slo.comparison, slo.threshold, slo.unit)
    warns = slo.severity != "blocking"
    name = f"{wording.METRIC_NAMES[slo.metric]} {limit}{' (warning)' if warns else ''}"
    case = SubElement(suite, "testcase", name=clean(name), classname=_class(result))
    reason = clean(verdict.reason)
    if verdict.outcome == "fail":
        _mark(case, "skipped" if warns else "failure", "slo_violation", reason)
    elif verdict.outcome == "inconclusive":
        _mark(case, "skipped" if warns else inconclusive, "inconclusive", f"inconclusive: {reason}")
    estimate = verdict.estimate
    said = f"estimate: {wording.estimate(estimate)}\nmethod: {estimate.method}, n = {estimate.n}\n{verdict.reason}"
    SubElement(case, "system-out").text = clean(said)


def _mark(case: Element, tag: str, kind: str, message: str) -> None:
    if tag == "skipped":
        SubElement(case, tag, message=message)
    else:
        SubElement(case, tag, type=kind, message=message).text = message


def _residue(analysis: Analysis) -> Element:
    suite = Element("testsuite", name="what was reverted")
    for left in analysis.residue:
        where = f"{left.scenario} #{left.repeat}: {left.step}" if left.step else "everything was reverted"
        case = SubElement(suite, "testcase", name=clean(where), classname="chaoslab.reverted")
        found = SubElement(case, "error", type="not_reverted", message=clean(left.reason))
        found.text = clean(f"to undo it: {left.command}")
    return suite


def _pipeline(troubles: Sequence[tuple[str, str]]) -> Element:
    suite = Element("testsuite", name="pipeline")
    for stage, reason in troubles:
        case = SubElement(suite, "testcase", name=clean(stage), classname="chaoslab.pipeline")
        _mark(case, "error", "stage_failed", clean(reason))
    return suite


def _count(suite: Element) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for name, tag in _COUNTED.items():
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))

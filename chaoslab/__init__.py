"""chaoslab: break a running service on purpose, measure it from outside, and say how sure you are.

    import chaoslab

    file = chaoslab.load_scenarios("scenarios.yml")
    campaign = chaoslab.run(target="http://127.0.0.1:8080", scenarios=["Light CPU Stress"], repeats=3)
    analysis = chaoslab.analyse(campaign)
    chaoslab.render_report(campaign.path)

Names are imported when they are first used, so that `import chaoslab` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from chaoslab.analysis import Analysis, ScenarioResult, analyse
    from chaoslab.baselines import find as find_campaign
    from chaoslab.comparison import Comparison, compare
    from chaoslab.demo.stage import shop
    from chaoslab.errors import ChaoslabError
    from chaoslab.experiment import run
    from chaoslab.intervals import Estimate
    from chaoslab.live.notebook import watching
    from chaoslab.parameters import check as check_parameters
    from chaoslab.records import Dose
    from chaoslab.report import render as render_report
    from chaoslab.scenario import ScenarioFile, Slo
    from chaoslab.scenario_file import load as load_scenarios
    from chaoslab.store import Campaign, Run
    from chaoslab.verdict import Verdict

_HOMES: Final = {
    "Analysis": ("chaoslab.analysis", "Analysis"),
    "Campaign": ("chaoslab.store", "Campaign"),
    "ChaoslabError": ("chaoslab.errors", "ChaoslabError"),
    "Comparison": ("chaoslab.comparison", "Comparison"),
    "Dose": ("chaoslab.records", "Dose"),
    "Estimate": ("chaoslab.intervals", "Estimate"),
    "Run": ("chaoslab.store", "Run"),
    "ScenarioFile": ("chaoslab.scenario", "ScenarioFile"),
    "ScenarioResult": ("chaoslab.analysis", "ScenarioResult"),
    "Slo": ("chaoslab.scenario", "Slo"),
    "Verdict": ("chaoslab.verdict", "Verdict"),
    "analyse": ("chaoslab.analysis", "analyse"),
    "check_parameters": ("chaoslab.parameters", "check"),
    "compare": ("chaoslab.comparison", "compare"),
    "find_campaign": ("chaoslab.baselines", "find"),
    "load_scenarios": ("chaoslab.scenario_file", "load"),
    "render_report": ("chaoslab.report", "render"),
    "run": ("chaoslab.experiment", "run"),
    "shop": ("chaoslab.demo.stage", "shop"),
    "watching": ("chaoslab.live.notebook", "watching"),
}

__all__ = [
    "Analysis",
    "Campaign",
    "ChaoslabError",
    "Comparison",
    "Dose",
    "Estimate",
    "Run",
    "ScenarioFile",
    "ScenarioResult",
    "Slo",
    "Verdict",
    "analyse",
    "check_parameters",
    "compare",
    "find_campaign",
    "load_scenarios",
    "render_report",
    "run",
    "shop",
    "watching",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'chaoslab' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

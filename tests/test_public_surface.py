"""What `import chaoslab` offers is decided, not accidental."""

from __future__ import annotations

import chaoslab


def test_the_public_names_are_these() -> None:
    assert chaoslab.__all__ == [
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


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    for name in chaoslab.__all__:
        assert getattr(chaoslab, name).__doc__


def test_tab_completion_shows_the_public_names_and_nothing_else() -> None:
    assert dir(chaoslab) == sorted(chaoslab.__all__)

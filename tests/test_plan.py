"""The plan: order, lengths and limits are decided before the first probe, from what the user gave."""

from __future__ import annotations

import pytest

from chaoslab import share
from chaoslab.errors import UsageError
from chaoslab.plan import make_plan, probe_url, redacted
from chaoslab.scenario import ScenarioFile
from chaoslab.scenario_file import load

FILE = load(share.scenario_file())
FOUR = FILE.scenarios[:4]


def order(seed: int) -> list[tuple[str, int]]:
    plan = make_plan(FILE, FOUR, repeats=5, seed=seed)
    return [(run.scenario.name, run.repeat) for run in plan.runs]


def test_every_scenario_runs_once_in_every_repeat_and_repeats_follow_each_other() -> None:
    runs = order(seed=1)
    assert [repeat for _, repeat in runs] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4
    assert all(len({name for name, n in runs if n == repeat}) == 4 for repeat in range(1, 6))


def test_the_order_within_repeats_is_drawn_from_the_seed_and_only_from_it() -> None:
    assert order(seed=1) == order(seed=1)
    assert order(seed=1) != order(seed=2)
    first, second = order(seed=1)[:4], order(seed=1)[4:8]
    assert [name for name, _ in first] != [name for name, _ in second]


def test_lengths_are_scaled_and_keep_their_floors() -> None:
    tenth = make_plan(FILE, FOUR, repeats=1, seed=1, duration_scale=0.1).runs
    cpu = next(run for run in tenth if run.scenario.name == "Light CPU Stress")
    assert (cpu.baseline, cpu.injection, cpu.recovery) == (2.0, 3.0, 4.0)
    full = make_plan(FILE, FOUR, repeats=1, seed=1).runs
    assert {(run.baseline, run.recovery) for run in full} == {(15.0, 30.0)}


def test_the_planned_length_counts_every_run_and_every_pause() -> None:
    plan = make_plan(FILE, FILE.scenarios[:1], repeats=3, seed=1)
    assert plan.seconds == 3 * (15 + 30 + 30) + 2 * 2


@pytest.mark.parametrize(
    ("options", "named"),
    [({"repeats": 0}, "--repeats"), ({"duration_scale": 0}, "--duration-scale"), ({"duration_scale": 11}, "up to 10")],
)
def test_values_out_of_range_are_refused_with_what_is_accepted(options: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make_plan(FILE, FOUR, **({"repeats": 1, "seed": 1} | options))  # type: ignore[arg-type]


def test_a_campaign_longer_than_the_file_allows_is_refused_before_it_starts() -> None:
    short = ScenarioFile.model_validate(
        {"scenarios": [{"name": "A", "type": "control", "duration": 60}], "safety": {"max_total_duration_seconds": 90}}
    )
    with pytest.raises(UsageError, match="max_total_duration_seconds"):
        make_plan(short, short.scenarios, repeats=1, seed=1)


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://h/", "http://", "http://h:99999", "http://[::1", "http://h:0"])
def test_what_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--target"):
        probe_url(url, "/api/health")


def test_a_url_with_a_path_is_probed_as_it_is() -> None:
    assert probe_url("http://h:1/x/y", "/api/health") == "http://h:1/x/y"
    assert probe_url("http://h:1/", "/api/health") == "http://h:1/api/health"


def test_secrets_in_a_url_are_never_recorded() -> None:
    assert redacted("https://user:pass@host:8443/p?token=s#f") == "https://host:8443/p"

"""The report: one file that needs nothing else, says what the analysis says, and survives what it is fed."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from chaoslab import report, share
from chaoslab.analysis import analyse
from chaoslab.errors import CampaignFolderError, ChaoslabError, UsageError
from chaoslab.metrics import Span
from chaoslab.probe_table import probe_table
from chaoslab.records import RunState
from chaoslab.report import figures, sections
from chaoslab.report import notebook as notebooks
from chaoslab.store import Campaign
from tests.campaigns import make_campaign, make_dose, make_run

HOSTILE = '</style><script>alert("$x$")</script> & \U0001f4a5'


def make(folder: Path) -> Campaign:
    """Write a campaign with a control, an outage, a hostile name and something that was not reverted."""
    failure = {"reason": "the rule is still there", "command": "nft delete table inet chaos"}
    runs = [run for n in (1, 2, 3) for run in (
        make_run("Control (no fault)", n, type="control", seed=n),
        make_run("Database Brief Outage", n, type="database_outage", down=[(5.0, 16 + n / 5)], seed=10 + n),
        make_run(HOSTILE, n, type="packet_loss", seed=20 + n, undo_failures=[failure] if n == 2 else ()),
    )]  # fmt: skip
    return make_campaign(folder, runs, target="http://127.0.0.1/<i>", duration_scale=0.5)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return make(tmp_path_factory.mktemp("report") / "campaign")


@pytest.fixture(scope="module")
def rendered(campaign: Campaign) -> Path:
    """The campaign, rendered where every kernel that is registered is broken and the folder holds traps."""
    for name in ("pandas", "ipykernel_launcher", "chaoslab"):
        (campaign.path / f"{name}.py").write_text("raise SystemExit('imported from the campaign folder')")
    kernels = campaign.path.parent / "jupyter" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(
        json.dumps({"argv": ["false"], "display_name": "broken", "language": "python"})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(kernels.parent.parent))
        report.render(campaign.path)
    return campaign.path


@pytest.fixture(scope="module")
def page(rendered: Path) -> str:
    return (rendered / "report.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """What a page is made of: tags with attributes, headings in order, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


# The page


def test_everything_is_written_into_the_folder(rendered: Path) -> None:
    written = {
        "chaos_results.json",
        "resilience_validation.json",
        "chaos_report.md",
        "chaos_metrics.prom",
        "report.html",
        "report.ipynb",
    }
    assert written <= {file.name for file in rendered.iterdir()}
    assert not list(rendered.glob("*.tmp"))


def test_nothing_in_the_page_leaves_the_file(page: str, outline: Outline) -> None:
    targets = [
        value or ""
        for _, attributes in outline.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href")
    ]
    assert targets
    assert all(target.startswith(("#", "data:image/svg+xml;base64,")) for target in targets)
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in outline.tags}
    assert not re.search(r"@import|url\((?!#)", page)


def test_the_only_script_is_the_pages_own_and_the_policy_knows_no_other(page: str, outline: Outline) -> None:
    script = (sections.TEMPLATE / "page.js").read_text(encoding="utf-8")
    assert outline.all("script") == [{}]
    assert f"<script>{script}</script>" in page
    policy = next(meta["content"] or "" for meta in outline.all("meta") if "http-equiv" in meta)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in policy


def test_nothing_in_a_figure_leaves_the_file(page: str) -> None:
    pictures = [base64.b64decode(data).decode() for data in re.findall(r'base64,([^"]+)"', page)]
    assert len(pictures) == 8  # doses, recovery, and two a scenario
    for svg in pictures:
        assert "<script" not in svg
        assert not re.search(r'(?:href|src)="(?!#)|url\((?!#)', svg)


def test_every_in_page_link_has_its_target(outline: Outline) -> None:
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    links = {(attributes["href"] or "").removeprefix("#") for attributes in outline.all("a")}
    assert links <= set(ids)
    assert len(ids) == len(set(ids))


def test_every_figure_has_alternative_text_that_says_what_it_shows(outline: Outline) -> None:
    alternatives = [image.get("alt") or "" for image in outline.all("img")]
    assert all(len(text) > 40 for text in alternatives)
    assert any("Database Brief Outage: availability" in text or "3 outages" in text for text in alternatives)


def test_headings_are_in_order(outline: Outline) -> None:
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_page_says_its_language_and_title_and_lets_readers_skip(outline: Outline) -> None:
    assert outline.all("html") == [{"lang": "en"}]
    assert "Resilience report · test" in outline.text
    assert outline.all("a")[0]["href"] == "#report"
    assert outline.all("main") == [{"id": "report"}]


def test_every_table_head_says_what_it_heads(outline: Outline) -> None:
    heads = outline.all("th")
    assert heads
    assert all(head.get("scope") in ("row", "col") for head in heads)


def test_the_page_is_in_the_order_of_a_readers_questions(outline: Outline) -> None:
    order = [
        "Failed",
        "Still broken",
        "What is missed",
        "Scenario by scenario",
        "Coming back",
        "Was the fault there?",
        "Against the baseline",
        "How this was measured",
        "What was not measured",
        "Limits of this report",
    ]
    places = [outline.text.index(words) for words in order]
    assert places == sorted(places)


def test_what_is_still_broken_stands_with_the_command_that_undoes_it(outline: Outline) -> None:
    assert "nft delete table inet chaos" in outline.text


def test_the_scaling_of_durations_is_said(outline: Outline) -> None:
    assert "All durations were scaled by 0.5." in outline.text


def test_names_from_outside_are_text(page: str, outline: Outline) -> None:
    assert HOSTILE in outline.text
    assert "http://127.0.0.1/<i>" in outline.text
    assert "alert(" not in re.sub(r"&lt;script&gt;alert\(", "", page)


def test_code_is_hidden(page: str) -> None:
    assert "report.answer(" not in page


def test_code_is_shown_on_request(rendered: Path) -> None:
    executed = nbformat.read(rendered / "report.ipynb", as_version=4)
    page = notebooks.as_page(executed, title="a", show_code=True)
    assert "report.answer(analysis)" in page
    assert page.count("<style>") == 1  # the page's own, not also the notebook's


def test_page_and_notebook_do_not_tell_where_they_were_made(rendered: Path, page: str) -> None:
    for text in (page, (rendered / "report.ipynb").read_text(), (rendered / "chaos_report.md").read_text()):
        assert str(rendered.parent) not in text
        assert str(Path(report.__file__).parents[2]) not in text


# The numbers


def test_the_executed_notebook_shows_the_numbers_of_the_analysis(rendered: Path, campaign: Campaign) -> None:
    executed = nbformat.read(rendered / "report.ipynb", as_version=4)
    shown = {
        cell.source.split("(")[0]: cell.outputs[0].data["text/html"]
        for cell in executed.cells
        if cell.cell_type == "code" and cell.source.startswith("report.") and cell.outputs
    }
    assert list(shown) == [
        f"report.{name}"
        for name in ("answer", "scenarios", "recovery", "doses", "against", "method", "probes", "omissions")
    ]
    results = json.loads((rendered / "chaos_results.json").read_text())
    availability = results["scenarios"][1]["estimates"]["availability_percent"]
    assert f"{availability['value']:.2f} %" in shown["report.answer"]
    assert f"[{availability['low']:.2f}, {availability['high']:.2f}]" in shown["report.answer"]
    assert shown["report.answer"] == sections.answer(analyse(campaign)).html


def test_rendering_twice_gives_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    again = make(tmp_path / "campaign").path
    report.write_all(again)
    names = ("chaos_results.json", "resilience_validation.json", "chaos_report.md", "chaos_metrics.prom")
    assert [(again / name).read_bytes() for name in names] == [(rendered / name).read_bytes() for name in names]


def test_sections_do_not_depend_on_when_they_are_made(campaign: Campaign) -> None:
    analysis = analyse(campaign)
    first, second = (sections.scenarios(analysis, campaign).html for _ in range(2))
    assert first == second


def test_nineteen_scenarios_of_five_runs_would_fit_into_three_megabytes(tmp_path: Path) -> None:
    runs = [
        make_run(repeat=n, type="memory_stress", baseline=15, injection=45, recovery=30, rate_hz=20, jitter_ms=200,
                 down=[(20 + n, 40)], seed=n)
        for n in range(1, 6)
    ]  # fmt: skip
    campaign = make_campaign(tmp_path / "campaign", runs)
    assert 19 * len(sections.scenarios(analyse(campaign), campaign).html) < 2_900_000


def test_a_timeline_carries_what_can_be_read_off_it(page: str, campaign: Campaign) -> None:
    """All probes are in the columns, and the slowest and the fastest success of each scenario."""
    details = [json.loads(html.unescape(found)) for found in re.findall(r"data-detail='([^']*)'", page)]
    assert [detail["name"] for detail in details] == [result.name for result in analyse(campaign).scenarios]
    for detail in details:
        rows = campaign.probes[campaign.probes["scenario"] == detail["name"]]
        good = rows.loc[rows["outcome"] == "success", "latency_us"] / 1e3
        assert sum(column[1] for column in detail["columns"]) == len(rows)
        assert sum(column[2] for column in detail["columns"]) == len(rows) - len(good)
        lows, highs = ([c[place] for c in detail["columns"] if c[3] is not None] for place in (3, 5))
        assert (min(lows), max(highs)) == pytest.approx((good.min(), good.max()), rel=0.005)


def test_probes_that_were_sent_late_are_marked_in_the_figure_and_counted_where_it_is_read_off(tmp_path: Path) -> None:
    run = make_run()
    sent = [12_000 if seq in (40, 41, 120) else 50 for seq in run.probes["seq"]]
    campaign = make_campaign(tmp_path / "late", [replace(run, probes={**run.probes, "sent_us": sent})])
    found = sections.scenarios(analyse(campaign), campaign).html
    [detail] = [json.loads(html.unescape(one)) for one in re.findall(r"data-detail='([^']*)'", found)]
    assert sum(column[6] for column in detail["columns"] if len(column) > 6) == 3
    drawn = base64.b64decode(re.findall(r"svg\+xml;base64,([^\"]*)", found)[0]).decode()
    assert "sent late" in drawn
    on_time = make_campaign(tmp_path / "on-time", [run])
    drawn = base64.b64decode(
        re.findall(r"svg\+xml;base64,([^\"]*)", sections.scenarios(analyse(on_time), on_time).html)[0]
    ).decode()
    assert "sent late" not in drawn


def test_each_of_several_probes_has_a_row_that_says_whether_it_is_judged(tmp_path: Path) -> None:
    run = make_run(down=[(6.0, 8.0)])
    count = len(run.probes["seq"])
    both = {name: [*values, *values] for name, values in run.probes.items()}
    both["probe"] = ["health"] * count + ["port <b>"] * count
    both["error"] = [
        *run.probes["error"],
        *["unsent" if at % 50 == 0 else kind for at, kind in enumerate(run.probes["error"])],
    ]
    both["outcome"] = ["success" if kind is None else "failure" for kind in both["error"]]
    told = [{"name": "port <b>", "type": "tcp"}, {"name": "health", "type": "http"}]
    campaign = make_campaign(tmp_path / "campaign", [replace(run, probes=both)], probes=told)
    health, port = probe_table(campaign).to_dict("records")
    assert (health["probe"], health["judged"], health["sent"], health["failed"]) == ("health", True, 200, 20)
    assert (port["type"], port["judged"], port["sent"], port["failed"], port["unsent"]) == ("tcp", False, 196, 20, 4)
    assert 20 <= port["p50_ms"] < port["p95_ms"] < port["p99_ms"] < 21
    page = Outline(sections.probes(campaign).html)
    assert "port <b>" in page.text
    assert page.text.count("recorded, not judged") == 1


def test_a_campaign_with_one_probe_says_so(campaign: Campaign) -> None:
    assert "The health check was the only probe" in sections.probes(campaign).html


def test_the_report_holds_the_campaign_against_a_baseline(campaign: Campaign, tmp_path: Path) -> None:
    runs = [
        make_run("Database Brief Outage", n, type="database_outage", down=[(5.0, 7.0)], seed=n) for n in range(1, 9)
    ]
    earlier = make_campaign(tmp_path / "earlier", runs, campaign="earlier")
    found = sections.against(campaign, str(earlier.path)).html
    assert "The gate" in found
    assert "<img" in found


def test_without_a_baseline_the_report_says_how_to_name_one(campaign: Campaign) -> None:
    assert "chaoslab report FOLDER --baseline NAME" in sections.against(campaign, "").html


def test_a_baseline_that_cannot_be_compared_is_a_sentence_and_one_that_is_not_there_an_error(
    campaign: Campaign,
) -> None:
    assert "both are the campaign test" in sections.against(campaign, str(campaign.path)).html
    with pytest.raises(UsageError, match="no baseline 'v1'"):
        sections.against(campaign, "v1")


# What can go wrong


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_that_is_no_campaign_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CampaignFolderError, match="is not a campaign folder") as refusal:
        report.render(tmp_path / name)
    assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "empty").iterdir())


def test_an_unknown_parameter_is_refused_before_execution(tmp_path: Path) -> None:
    make_campaign(tmp_path / "campaign", [make_run()])
    with pytest.raises(UsageError, match=r"no parameter 'latency_axes' \(did you mean 'latency_axis'\?\)"):
        report.render(tmp_path / "campaign", parameters={"latency_axes": "log"})


def test_a_notebook_that_fails_is_one_sentence_and_the_rest_is_there(tmp_path: Path) -> None:
    folder = make_campaign(tmp_path / "campaign", [make_run()]).path
    (folder / "report.html").write_text("an old page")
    with pytest.raises(ChaoslabError, match=r"failed in cell \d+ \(report.scenarios.*accepted: log, linear") as failure:
        report.render(folder, parameters={"latency_axis": "cubic"})
    assert "\n" not in str(failure.value)
    assert {"chaos_report.md", "chaos_results.json", "report.ipynb"} <= {file.name for file in folder.iterdir()}
    assert not (folder / "report.html").exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    folder = make_campaign(tmp_path / "campaign", [make_run()]).path
    (folder / "chaos_report.md").mkdir()
    with pytest.raises(CampaignFolderError, match="cannot be written"):
        report.write_all(folder)


def test_scenarios_of_which_nothing_counts_are_reported_as_such(tmp_path: Path) -> None:
    runs = [make_run(repeat=n, doses=[make_dose(delivered=None)]) for n in (1, 2)]
    campaign = make_campaign(tmp_path / "campaign", runs, order=[["Light CPU Stress", n] for n in (1, 2, 3)])
    analysis = analyse(campaign)
    assert "no run counts, so nothing is concluded" in sections.answer(analysis).html
    assert "none of which counts" in sections.scenarios(analysis, campaign).html
    assert "no curve to draw" in sections.recovery(analysis).html


def test_a_campaign_that_never_started_has_a_report(tmp_path: Path) -> None:
    planned = make_run()
    campaign = make_campaign(tmp_path / "full", [planned])
    folder = tmp_path / "campaign"
    folder.mkdir()
    (folder / "campaign.json").write_text(json.dumps(campaign.meta))
    analysis = report.write_all(folder)
    assert "never started" in sections.answer(analysis).html
    assert "<img" not in sections.scenarios(analysis, Campaign.open(folder)).html


def sections_of(campaign: Campaign) -> str:
    """All sections of the report but the style, as the notebook makes them."""
    analysis = analyse(campaign)
    made = [sections.answer(analysis), sections.scenarios(analysis, campaign), sections.recovery(analysis)]
    made += [sections.doses(analysis), sections.against(campaign, "")]
    made += [sections.method(analysis), sections.omissions(analysis)]
    return "".join(section.html for section in made)


def test_a_single_run_has_a_report_without_intervals_that_says_why(tmp_path: Path) -> None:
    text = sections_of(make_campaign(tmp_path / "campaign", [make_run()]))
    assert "an interval over runs needs at least 3" in text
    assert "load of the host, 1 run." in text


def test_a_campaign_whose_runs_were_all_aborted_says_that_nothing_is_concluded(tmp_path: Path) -> None:
    reason = "error rate 80 % is above 50 %"
    runs = [make_run(repeat=n, state=RunState.ABORTED, reason=reason) for n in (1, 2, 3)]
    text = sections_of(make_campaign(tmp_path / "campaign", runs, status="aborted", reason=reason))
    assert "The campaign did not run to its end (aborted): error rate 80 % is above 50 %." in text
    assert "no run counts, so nothing is concluded" in text
    assert "no curve to draw" in text


def test_a_service_that_never_came_back_has_no_recovery_time_but_a_bound(tmp_path: Path) -> None:
    runs = [make_run(repeat=n, down=[(6.0, 99.0)], seed=n) for n in (1, 2, 3)]
    text = sections_of(make_campaign(tmp_path / "campaign", runs))
    assert "3 of them still open when the recording ended" in text
    assert "Full operation took more than 5.00 s" in text
    assert "0 of 3 runs recovered" in text


@pytest.mark.parametrize("lacking", ["probes", "resources"])
def test_a_table_without_rows_is_an_empty_figure(tmp_path: Path, lacking: str) -> None:
    runs = [replace(make_run(repeat=n, seed=n), **{lacking: {}}) for n in (1, 2, 3)]
    text = sections_of(make_campaign(tmp_path / "campaign", runs))
    assert ("no probe was sent during the injection" in text) == (lacking == "probes")


def test_a_report_needs_no_scenario_file(tmp_path: Path) -> None:
    runs = [make_run(repeat=n, seed=n) for n in (1, 2, 3)]
    campaign = make_campaign(tmp_path / "campaign", runs, configuration={"file": "gone.yml", "sha256": "0" * 64})
    assert "gone.yml" in sections_of(campaign)


def test_a_scenario_that_the_plan_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CampaignFolderError, match="Light CPU Stress"):
        analyse(make_campaign(tmp_path / "campaign", [make_run()], scenarios=[]))


def test_the_page_of_a_dry_run_says_that_nothing_was_measured_and_what_would_be_done(tmp_path: Path) -> None:
    step = {"name": "stress", "do": ["stress-ng", HOSTILE], "undo": ["kill"], "evidence": None}
    planned = [{"run": 0, "scenario": "Light CPU Stress", "steps": [step]}, "damaged"]
    folder = make_campaign(tmp_path / "full", [make_run()]).path
    meta = json.loads((folder / "campaign.json").read_text()) | {"dry_run": True, "rehearsal": planned}
    (tmp_path / "dry").mkdir()
    (tmp_path / "dry" / "campaign.json").write_text(json.dumps(meta))
    outline = Outline(report.render(tmp_path / "dry").read_text(encoding="utf-8"))
    assert "Nothing was measured" in outline.text
    assert "stress-ng " + HOSTILE in outline.text
    assert len(outline.all("h1")) == 1
    assert {file.name for file in (tmp_path / "dry").iterdir()} == {"campaign.json", "report.html"}


# Parts


def test_the_kaplan_meier_curve_is_that_of_the_textbook() -> None:
    """Three of four recover, one is censored between the second and the third: 1/4, 1/2, then half of the rest."""
    spans = [Span(seconds=s, at_least=s, censored=c) for s, c in ((1, False), (2, False), (3, True), (4, False))]
    curve = figures.kaplan_meier(spans)
    assert curve["recovered"].tolist() == pytest.approx([0.25, 0.5, 1.0])
    assert curve["seconds"].tolist() == [1, 2, 4]
    assert (curve["low"].iloc[:2] < curve["recovered"].iloc[:2]).all()


def test_a_curve_of_runs_that_never_recovered_is_flat() -> None:
    assert figures.kaplan_meier([Span(seconds=5, at_least=5, censored=True)] * 3).empty


def test_sections_show_themselves_in_a_notebook() -> None:
    assert sections.style()._repr_html_().startswith("<style>")
    assert "html" not in repr(sections.style())


# The notebooks themselves

NOTEBOOKS = sorted(share.notebook("03_resilience_report.ipynb").parent.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
class TestNotebooks:
    def cells(self, path: Path) -> list[nbformat.NotebookNode]:
        return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]

    def test_it_is_committed_without_outputs(self, path: Path) -> None:
        assert all(not cell.outputs and cell.execution_count is None for cell in self.cells(path))

    def test_it_defines_nothing_and_loops_over_nothing(self, path: Path) -> None:
        code = "\n".join(cell.source for cell in self.cells(path))
        assert not re.search(r"^\s*(async\s+def|def|class|for|while)\b", code, flags=re.MULTILINE)

    def test_it_has_one_parameters_cell_of_typed_commented_literals(self, path: Path) -> None:
        import ast

        tagged = [cell for cell in self.cells(path) if "parameters" in cell.metadata.get("tags", ())]
        assert len(tagged) == 1
        lines = tagged[0].source.splitlines()
        assert all("  # " in line for line in lines)
        for statement in ast.parse(tagged[0].source).body:
            assert isinstance(statement, ast.AnnAssign), "papermill describes it with its type"
            assert statement.value is not None
            ast.literal_eval(statement.value)

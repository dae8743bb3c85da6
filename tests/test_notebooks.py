"""Notebooks that inject, and batches of notebooks: executed as users execute them, and the values inside checked."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from chaoslab import share, store
from chaoslab.batch import Result, exit_code, load
from chaoslab.batch.execute import execute
from chaoslab.errors import UsageError
from chaoslab.journal import leftovers
from chaoslab.report import notebook as notebooks
from tests import servers
from tests.demo_run import UnderWay
from tests.test_cli import chaoslab
from tests.test_processes import until
from tests.test_survival import injecting, ours

STRESS = "Light CPU Stress"
CONTROL = "Control (no fault)"
REPORT = {"notebook": "03_resilience_report.ipynb"}
SCALE = 0.3  # long enough to be interrupted in


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with servers.running() as server:
        yield server.url("/ok")


def outputs(path: Path) -> list[Any]:
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]


def shown(path: Path) -> str:
    return "\n".join(str(output.get("data", {}).get("text/html", "")) for output in outputs(path))


# 00_quickstart


@pytest.fixture(scope="module", autouse=True)
def quickstart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnderWay | None]:
    """The quickstart by papermill's own command, from a folder of the user's."""
    if not any("quickstart" in item.name for item in request.session.items):
        yield None
        return
    given = ["-p", "repeats", "1", "-p", "duration_scale", "0.05", "-p", "output", "c"]
    source = str(share.notebook("00_quickstart.ipynb"))
    under_way = UnderWay(tmp_path_factory.mktemp("quickstart"), "papermill", source, "out.ipynb", *given)
    yield under_way
    under_way.stop()


# 02_run_experiment


@pytest.fixture(scope="module")
def batch(service: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """02 once, then 03 on its campaign, with an axis that there is not, as one batch."""
    place = tmp_path_factory.mktemp("batch")
    document = {
        "notebooks": [
            {
                "notebook": "02_run_experiment.ipynb",
                "parameters": {"target": service, "repeats": 1, "duration_scale": 0.05, "seed": 7, "output": "c"},
                "matrix": {"scenario": [CONTROL]},
            },
            {
                "notebook": "03_resilience_report.ipynb",
                "parameters": {"campaign": "c"},
                "matrix": {"latency_axis": ["<b>"]},
            },
        ]
    }
    (place / "nightly.yml").write_text(json.dumps(document))
    return place, UnderWay(place, "chaoslab", "batch", "nightly.yml", "--output", "out", "--json").ended()


def test_a_batch_runs_the_campaign_first_and_reports_it_then(batch: tuple[Path, Any]) -> None:
    place, ended = batch
    document = json.loads(ended.stdout)
    assert [(one["name"], one["outcome"]) for one in document["executions"]] == [
        ("001-02_run_experiment", "inconclusive"),
        ("002-03_resilience_report", ""),
    ]
    (run,) = store.Campaign.open(place / "c").runs
    assert (run.scenario, run.state) == (CONTROL, "completed")


def test_a_batch_ends_with_the_most_urgent_code_and_the_others_ran(batch: tuple[Path, Any]) -> None:
    _, ended = batch
    assert ended.returncode == 2
    assert "scale is '<b>'; accepted: log, linear" in json.loads(ended.stdout)["executions"][1]["error"]


def test_the_summary_links_what_is_there_and_escapes_what_was_given(batch: tuple[Path, Any]) -> None:
    place, _ = batch
    page = (place / "out" / "index.html").read_text()
    assert "2 executions: 1 inconclusive, 1 failed to run." in page
    assert '<a href="001-02_run_experiment.html">' in page
    assert "002-03_resilience_report.html" not in page
    assert '<a href="002-03_resilience_report.ipynb">' in page, "as far as it came"
    assert "latency_axis = &lt;b&gt;" in page
    assert "<b>" not in page
    assert "http" not in page.replace("http://127.0.0.1", "")


def test_the_executed_experiment_shows_the_campaign_and_what_was_found(batch: tuple[Path, Any]) -> None:
    place, _ = batch
    page = shown(place / "out" / "001-02_run_experiment.ipynb")
    assert "<p>finished, 1 of 1 run</p><figure" in page
    assert "probes so far, 0 of them failed" in page
    assert "Medium Memory Stress" in page  # the file's scenarios
    probes = len(store.Campaign.open(place / "c").probes)
    assert f"{probes} probes so far" in page
    assert store.Campaign.open(place / "c").meta["seed"] == 7


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"scenerio": STRESS}, "there is no parameter 'scenerio' (did you mean 'scenario'?)"),
        ({"repeats": "five"}, "repeats is 'five'; accepted: int"),
    ],
)
def test_bare_papermill_runs_nothing_with_a_parameter_that_is_wrong(
    parameters: dict[str, Any], words: str, service: str, tmp_path: Path
) -> None:
    source, out = share.notebook("02_run_experiment.ipynb"), tmp_path / "out.ipynb"
    with pytest.raises(PapermillExecutionError) as refused:
        papermill.execute_notebook(
            str(source), str(out), {"target": service, **parameters}, cwd=str(tmp_path), progress_bar=False
        )
    assert refused.value.ename == "UsageError"
    assert words in refused.value.evalue
    assert list(tmp_path.iterdir()) == [out]
    (error,) = [output for output in outputs(out) if output.output_type == "error"]
    assert len(error.traceback) == 1, "one line, no traceback"


@pytest.mark.parametrize("name", ["00_quickstart", "01_design_experiment", "02_run_experiment", "05_trends"])
def test_papermill_describes_every_parameter_with_its_type(name: str) -> None:
    found = papermill.inspect_notebook(str(share.notebook(f"{name}.ipynb")))
    assert found
    for parameter in found.values():
        assert parameter["inferred_type_name"] != "None"
        assert parameter["help"]


def test_interrupting_the_kernel_reverts_and_keeps_the_record(service: str, tmp_path: Path, state: Path) -> None:
    """As the stop button of JupyterLab does it: the cell that runs the campaign is interrupted while it injects."""
    folder = tmp_path / "c"
    given = {"target": service, "scenario": STRESS, "repeats": 1, "duration_scale": SCALE, "output": str(folder)}
    cells = notebooks.read(share.notebook("02_run_experiment.ipynb")).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    code.insert(1, "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in given.items()))

    async def interrupted() -> dict[str, Any]:
        manager = notebooks.Kernel(kernel_name="python3")
        await manager.start_kernel(cwd=str(tmp_path))
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=60)
            for source in code[:4]:
                assert (await client.execute_interactive(source, output_hook=lambda _: None))["content"][
                    "status"
                ] == "ok"
            running = asyncio.ensure_future(client.execute_interactive(code[4], output_hook=lambda _: None))
            for _ in range(600):
                await asyncio.sleep(0.1)
                if injecting(folder) or running.done():
                    break
            await manager.interrupt_kernel()
            return dict((await asyncio.wait_for(running, 60))["content"])
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)

    reply = asyncio.run(interrupted())
    assert reply["ename"] == "Interrupted"
    assert reply["evalue"] == "interrupted by SIGINT; everything was reverted"
    (run,) = store.Campaign.open(folder).runs
    assert run.state == "aborted"
    assert "undone" in (folder / "journal.jsonl").read_text()
    until(lambda: not ours(state), seconds=10)
    assert not leftovers()


def test_the_quickstart_breaks_a_shop_and_leaves_nothing(quickstart: UnderWay) -> None:
    ended, out = quickstart.ended(), quickstart.place / "out.ipynb"
    assert ended.returncode == 0, ended.stderr
    (run,) = store.Campaign.open(quickstart.place / "c").runs
    assert (run.scenario, run.state) == ("Database Brief Outage", "completed")
    page = shown(out)
    assert "Database Brief Outage" in page
    assert "<p>finished, 1 of 1 run</p><figure" in page
    assert notebooks.outcome(nbformat.read(out, as_version=4))["outcome"] == "inconclusive"  # type: ignore[index]
    until(lambda: not ours(quickstart.state), seconds=10)
    assert not list((quickstart.state / "journals").glob("*"))


# Batches


def test_a_signal_ends_a_batch_reverted_with_its_own_code(service: str, tmp_path: Path, state: Path) -> None:
    parameters = {"target": service, "scenario": STRESS, "repeats": 1, "duration_scale": SCALE, "output": "c"}
    file = tmp_path / "b.yml"
    jobs = [
        {"notebook": "02_run_experiment.ipynb", "parameters": parameters},
        {"notebook": "03_resilience_report.ipynb", "parameters": {"campaign": "c"}},
    ]
    file.write_text(json.dumps({"notebooks": jobs}))
    argv = [sys.executable, "-m", "chaoslab", "batch", str(file), "--output", str(tmp_path / "out")]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: injecting(tmp_path / "c"), seconds=60)
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "interrupted by SIGTERM; everything was reverted" in complaint
    (run,) = store.Campaign.open(tmp_path / "c").runs
    assert run.state == "aborted"
    assert "2 not executed" in (tmp_path / "out" / "index.html").read_text()
    until(lambda: not ours(state), seconds=10)
    assert not leftovers()


STAND_IN = """
import json, pathlib, sys, time
order, result = map(pathlib.Path, sys.argv[1:])
given = json.loads(order.read_text())
place, name, awaited, code = pathlib.Path(given["cwd"]), *given["parameters"]["latency_axis"].split()
(place / f"{name}.here").touch()
until = time.monotonic() + 60
while not (place / f"{awaited}.here").exists() and time.monotonic() < until and awaited != "nobody":
    time.sleep(0.02)
says = " ".join(sorted(file.stem for file in place.glob("*.here")))
(place / f"{name}.here").unlink() if awaited == "nobody" else None
result.write_text(json.dumps({"exit_code": int(code), "strict_exit_code": int(code), "says": says}))
"""


def stand_ins(folder: Path, *jobs: tuple[bool, str]) -> list[Result]:
    """Execute jobs by a small program: each injects or not, has a name, waits for another one, ends with a code."""
    known = load(write(folder, {"notebooks": [REPORT]}))[0]
    made = [
        replace(known, number=number, injects=injects, parameters={"latency_axis": words})
        for number, (injects, words) in enumerate(jobs, 1)
    ]
    command = [sys.executable, "-c", STAND_IN]
    return execute(made, folder / "out", cwd=folder, parallel=2, command=command)


def test_what_only_reads_runs_side_by_side_and_what_injects_runs_alone(tmp_path: Path) -> None:
    """Each reader waits for the other; those that inject see nobody but themselves."""
    results = stand_ins(
        tmp_path, (True, "x nobody 0"), (True, "y nobody 0"), (False, "a b 0"), (False, "b a 0"), (False, "c a 0")
    )
    assert [result.error for result in results] == [""] * 5
    assert [result.says for result in results[:2]] == ["x", "y"]
    assert all("a b" in result.says for result in results[2:])


def test_after_something_that_could_not_be_reverted_nothing_more_is_injected(tmp_path: Path) -> None:
    results = stand_ins(
        tmp_path, (True, "x nobody 6"), (True, "y nobody 0"), (False, "a nobody 0"), (True, "z nobody 0")
    )
    assert [result.executed for result in results] == [True, False, True, False]
    assert "something is still broken" in results[1].error
    assert exit_code(results, strict=False) == 6
    assert "2 not executed" in (tmp_path / "out" / "index.html").read_text()


def test_a_process_that_dies_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    (result,) = stand_ins(tmp_path, (False, "too few"))
    assert result.exit_code == 2
    assert "its process ended with 1: ValueError: not enough values to unpack" in result.error


def write(folder: Path, document: object) -> Path:
    file = folder / "b.yml"
    file.write_text(json.dumps(document))
    return file


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "holds list; accepted: a mapping"),
        ({"notebook": []}, "no key is called 'notebook' (did you mean 'notebooks'?)"),
        ({"notebooks": []}, "notebooks: Tuple should have at least 1 item"),
        ({"notebooks": [{**REPORT, "matrx": {}}]}, "notebooks.0: no key is called 'matrx' (did you mean 'matrix'?)"),
        ({"notebooks": [{"notebook": "03_report.ipynb"}]}, "there is no notebook '03_report.ipynb' beside it"),
        ({"notebooks": [{**REPORT, "parameters": {"campain": "c"}}]}, "no parameter 'campain'"),
        ({"notebooks": [{**REPORT, "matrix": {"campaign": [1]}}]}, "campaign is 1; accepted: str"),
        ({"notebooks": [{**REPORT, "matrix": {"campaign": []}}]}, "matrix.campaign"),
        (
            {"notebooks": [{**REPORT, "parameters": {"campaign": "a"}, "matrix": {"campaign": ["b"]}}]},
            "campaign stands under parameters and under matrix",
        ),
        (
            {"notebooks": [{"notebook": "02_run_experiment.ipynb", "parameters": {"output": "a"}}] * 2},
            "several executions would write the campaign folder a",
        ),
    ],
)
def test_a_batch_file_that_is_wrong_is_refused_before_anything_runs(
    document: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, document)
    assert chaoslab("batch", str(file), "--output", str(tmp_path / "out")) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert "b.yml" in printed or "03_resilience_report.ipynb" in printed
    assert not (tmp_path / "out").exists()


def test_a_batch_file_that_is_no_yaml_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.yml").write_text("notebooks:\n  - {")
    assert chaoslab("batch", str(tmp_path / "b.yml")) == 2
    assert "b.yml:2 is not YAML" in capsys.readouterr().err


def test_the_batch_on_the_page_of_notebooks_is_accepted(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "notebooks.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "b.yml").write_text(block)
    assert [job.injects for job in load(tmp_path / "b.yml")] == [True, False, False, False]


def test_every_combination_is_executed_once_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {**REPORT, "matrix": {"campaign": ["a", "b"], "latency_axis": ["log", "linear"]}}
    file = write(tmp_path, {"notebooks": [entry]})
    assert [tuple(job.parameters.values()) for job in load(file)] == [
        ("a", "log"),
        ("a", "linear"),
        ("b", "log"),
        ("b", "linear"),
    ]
    assert chaoslab("batch", str(file), "--dry-run") == 0
    assert capsys.readouterr().out.count("\n") == 4
    assert not (tmp_path / "batches").exists()


def test_a_notebook_of_the_users_own_counts_as_injecting_unless_it_says_otherwise(tmp_path: Path) -> None:
    written = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    nbformat.write(written, tmp_path / "own.ipynb")
    written.metadata["chaoslab"] = {"injects": False}
    nbformat.write(written, tmp_path / "reads.ipynb")
    file = write(tmp_path, {"notebooks": [{"notebook": "own.ipynb"}, {"notebook": "reads.ipynb"}, REPORT]})
    assert [job.injects for job in load(file)] == [True, False, False]


def test_a_folder_that_holds_something_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(UsageError, match="holds other files"):
        execute(load(write(tmp_path, {"notebooks": [REPORT]})), tmp_path, cwd=tmp_path)


@pytest.mark.parametrize(
    ("codes", "strict", "code"),
    [
        ([(0, 1), (0, 3)], False, 0),
        ([(0, 1), (0, 3)], True, 1),
        ([(0, 3), (0, 0)], True, 3),
        ([(4, 4), (2, 2), (0, 1)], True, 4),
        ([(6, 6), (130, 130)], False, 6),
        ([(5, 5), (130, 130)], False, 130),
        ([], True, 0),
    ],
)
def test_the_most_urgent_code_wins(codes: list[tuple[int, int]], strict: bool, code: int) -> None:
    results = [Result(exit_code=plain, strict_exit_code=strictly) for plain, strictly in codes]
    assert exit_code(results, strict=strict) == code

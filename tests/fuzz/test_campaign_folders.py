"""A damaged campaign folder is analysed soundly or refused in one sentence, and nothing in it is altered by that."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoslab import report, resume, scenario_file, store
from chaoslab.cli import main
from chaoslab.description import digest
from chaoslab.errors import ChaoslabError
from chaoslab.journal import boot_id
from chaoslab.records import RunState
from tests.campaigns import make_campaign, make_run
from tests.fuzz import EXAMPLES, examples

CONFIG = """
scenarios:
  - {name: Control (no fault), type: control, duration: 10}
"""
WRITTEN = {"chaos_results.json", "resilience_validation.json", "chaos_report.md", "chaos_metrics.prom"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small campaign of a control, of which two runs are finished, one is broken and one never started."""
    root = tmp_path_factory.mktemp("recorded")
    config = root / "scenarios.yml"
    config.write_text(CONFIG)
    states = (RunState.COMPLETED, RunState.COMPLETED, RunState.BROKEN)
    runs = [
        make_run("Control (no fault)", n, type="control", rate_hz=5, seed=n, down=[(6.0, 7.0 + n / 4)], state=state)
        for n, state in enumerate(states, 1)
    ]
    make_campaign(
        root / "campaign",
        runs,
        status="stopped",
        anchor={"monotonic_ns": 0, "wall_ns": 1_714_564_800_000_000_000, "boot_id": boot_id()},
        order=[["Control (no fault)", n] for n in (1, 2, 3, 4)],
        repeats=4,
        configuration={
            "file": config.name,
            "path": str(config),
            "sha256": digest(scenario_file.load(config)),
        },
    )
    (root / "campaign" / "journal.jsonl").write_bytes(b"")
    return root / "campaign"


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    return fresh(recorded, tmp_path)


def fresh(recorded: Path, tmp_path: Path) -> Path:
    shutil.rmtree(tmp_path / "campaign", ignore_errors=True)
    shutil.copytree(recorded, tmp_path / "campaign")
    return tmp_path / "campaign"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
        if path.name not in WRITTEN
    }


def examined(folder: Path) -> list[str]:
    """Let everything that reads a campaign read this one; return what each said that refused it."""
    before = contents(folder)
    refusals = []
    for read in (report.write_all, resume.resume):
        try:
            read(folder)
        except ChaoslabError as error:
            refusals.append(error)
    assert contents(folder) == before
    assert all(str(error) and error.exit_code == 2 for error in refusals)
    return [str(error) for error in refusals]


def validated(folder: Path, *options: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(folder), *options])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_undamaged_folder_is_analysed_and_can_be_resumed(folder: Path) -> None:
    assert examined(folder) == []
    assert validated(folder, "--json") == 0
    left = resume.resume(folder)
    assert [run.repeat for run in left.prepared.plan.runs] == [4, 5]
    assert [again.again for again in left.repetitions] == [5]


# Files


def the_files(recorded: Path) -> list[str]:
    return sorted(str(path.relative_to(recorded)) for path in recorded.rglob("*"))


def removed(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def a_folder(path: Path) -> None:
    removed(path)
    path.mkdir()


def a_pipe(path: Path) -> None:
    removed(path)
    os.mkfifo(path)


def a_loop(path: Path) -> None:
    removed(path)
    path.symlink_to(path.name)


def empty(path: Path) -> None:
    removed(path)
    path.touch()


def text(path: Path) -> None:
    removed(path)
    path.write_text("Dear Sir or Madam\n")


@pytest.mark.parametrize("change", [removed, a_folder, a_pipe, a_loop, empty, text], ids=lambda change: change.__name__)
def test_any_file_may_be_missing_or_something_else(
    recorded: Path, tmp_path: Path, change: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in the_files(recorded):
        folder = fresh(recorded, tmp_path)
        change(folder / name)
        for said in examined(folder):
            assert str(folder) in said or "Control (no fault)" in said, said
    assert validated(folder) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


@examples(40)
@given(data=st.data())
def test_any_file_may_be_cut_or_flipped_anywhere(recorded: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = fresh(recorded, tmp_path)
    name = data.draw(st.sampled_from([name for name in the_files(recorded) if (recorded / name).is_file()]))
    raw = (folder / name).read_bytes()
    if not raw:
        return
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, max(0, len(raw) - 1)))
        raw = raw[:place] + bytes([data.draw(st.integers(0, 255))]) + raw[place + 1 :]
    (folder / name).write_bytes(raw)
    examined(folder)


def test_a_flipped_bit_in_the_rows_is_damage_and_not_another_number(recorded: Path, tmp_path: Path) -> None:
    folder = fresh(recorded, tmp_path)
    file = next((folder / "probes").glob("*.parquet"))
    whole, rows = file.read_bytes(), store.Campaign.open(folder).probes
    group = pq.ParquetFile(file).metadata.row_group(0)
    chunk = next(c for n in range(group.num_columns) if (c := group.column(n)).path_in_schema == "latency_us")
    refused = 0
    for place in range(chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            assert store.Campaign.open(folder).probes.equals(rows)
        except ChaoslabError:
            refused += 1
    assert refused > chunk.total_compressed_size / 2


# campaign.json


def paths(document: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inner:
        yield from paths(value, (*here, key))


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    document = copy.deepcopy(document)
    if not path:
        return value
    at = document
    for key in path[:-1]:
        at = at[key]
    if value is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return document


def some_of(everything: list[Any], start: int) -> list[Any]:
    """The gate takes a sixth, another one for each `start`."""
    return everything if EXAMPLES else everything[start % 6 :: 6]


GONE = object()
DEEP: list[Any] = []
for _ in range(400):
    DEEP = [DEEP]
WRONG = {
    "gone": GONE,
    "null": None,
    "true": True,
    "zero": 0,
    "minus": -1,
    "fraction": 0.5,
    "huge": 10**30,
    "endless": 10**400,
    "largest": 1e308,
    "nan": math.nan,
    "infinity": math.inf,
    "text": "x",
    "no text": "",
    "number in text": "3",
    "half a character": "\ud800",
    "list": [],
    "list of numbers": [1, 2, 3],
    "object": {},
    "deep": DEEP,
}


@pytest.mark.parametrize("name", WRONG)
def test_any_value_of_the_campaigns_file_may_be_wrong(recorded: Path, tmp_path: Path, name: str) -> None:
    wrong = WRONG[name]
    folder = fresh(recorded, tmp_path)
    document = json.loads((recorded / "campaign.json").read_text())
    for path in some_of(list(paths(document)), list(WRONG).index(name)):
        if path or wrong is not GONE:
            (folder / "campaign.json").write_text(json.dumps(put(document, path, wrong)))
            examined(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@examples(20)
@given(data=st.data(), values=st.lists(json_values, min_size=1, max_size=4))
def test_any_values_of_it_may_be_wrong_at_once(
    recorded: Path, tmp_path: Path, data: st.DataObject, values: list[Any]
) -> None:
    folder = fresh(recorded, tmp_path)
    document = json.loads((recorded / "campaign.json").read_text())
    for value in values:
        document = put(document, data.draw(st.sampled_from(list(paths(document)))), value)
    (folder / "campaign.json").write_text(json.dumps(document))
    examined(folder)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("scenarios", 0, "type"), 3, r"scenarios[0].type is 3: input should be a valid string"),
        (("slos", 1, "threshold"), "x", r"slos[1].threshold is 'x': input should be a valid number"),
        (("slos",), GONE, "the key 'slos' is missing"),
        (("order", 0), ["Other", 1], "its order names 'Other', which is not among its scenarios"),
        (("seed",), math.nan, "NaN is not a number in JSON"),
        (("notes",), {"deep": DEEP}, "it is nested more than 50 levels deep"),
    ],
)
def test_what_is_wrong_in_the_campaigns_file_is_said(
    folder: Path, path: tuple[Any, ...], value: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "campaign.json"
    file.write_text(json.dumps(put(json.loads(file.read_text()), path, value)))
    assert validated(folder) == 2
    error = capsys.readouterr().err
    assert said in error
    assert str(file) in error


# Tables


def of_table(name: str) -> Callable[[Callable[[pa.Table], pa.Table]], Callable[[Path], None]]:
    def with_rows(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
        def apply(folder: Path) -> None:
            file = sorted((folder / name).glob("*.parquet"))[0]
            pq.write_table(change(pq.read_table(file)), file)

        return apply

    return with_rows


def retyped(column: str, type_: pa.DataType, values: Callable[[int], Any]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        array = pa.array([values(row) for row in range(table.num_rows)], type=type_)
        return table.set_column(table.column_names.index(column), column, array)

    return change


def shuffled(table: pa.Table) -> pa.Table:
    return table.take(np.random.default_rng(1).permutation(table.num_rows))


def reordered(table: pa.Table) -> pa.Table:
    return table.select(table.column_names[::-1])


def doubled(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table])


def none(table: pa.Table) -> pa.Table:
    return table.slice(0, 0)


KINDS: dict[str, tuple[pa.DataType, Callable[[int], Any]]] = {
    "null": (pa.int64(), lambda _: None),
    "text": (pa.string(), lambda row: f"x{row}"),
    "no JSON": (pa.string(), lambda _: "[[["),
    "no object": (pa.string(), lambda _: "[1]"),
    "wrong object": (pa.string(), lambda _: '{"state": 3, "steady": "no", "fault": [1], "argv": 7}'),
    "deep": (pa.string(), lambda _: '{"a": ' * 400 + "1" + "}" * 400),
    "half a character": (pa.string(), lambda _: '{"reason": "\\ud800"}'),
    "bytes": (pa.binary(), lambda _: b"\xff\xfe"),
    "digits": (pa.string(), lambda row: str(row)),
    "fractions": (pa.float64(), lambda row: row + 0.5),
    "nan": (pa.float64(), lambda _: math.nan),
    "huge": (pa.int64(), lambda _: 2**63 - 1),
    "negative": (pa.int64(), lambda row: -row),
    "least": (pa.int64(), lambda _: -(2**63)),
    "backwards": (pa.int64(), lambda row: 10_000 - row),
    "same": (pa.int64(), lambda _: 5),
    "true": (pa.bool_(), lambda _: True),
    "list": (pa.list_(pa.int64()), lambda row: [row]),
    "object": (pa.struct([("a", pa.int64())]), lambda row: {"a": row}),
    "instant": (pa.timestamp("us"), lambda row: row),
}


@pytest.mark.parametrize("table", ["probes", "events", "resources"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_column_may_hold_something_else(recorded: Path, tmp_path: Path, table: str, kind: str) -> None:
    type_, values = KINDS[kind]
    folder = fresh(recorded, tmp_path)
    file = sorted((folder / table).glob("*.parquet"))[0]
    whole = pq.read_table(file)
    for column in some_of(whole.column_names, list(KINDS).index(kind)):
        pq.write_table(retyped(column, type_, values)(whole), file)
        examined(folder)


@pytest.mark.parametrize("table", ["probes", "events", "resources"])
@pytest.mark.parametrize("change", [shuffled, reordered, doubled, none], ids=lambda change: change.__name__)
def test_rows_may_come_in_any_order_twice_or_not_at_all(
    recorded: Path, tmp_path: Path, table: str, change: Callable[[pa.Table], pa.Table]
) -> None:
    folder = fresh(recorded, tmp_path)
    report.write_all(folder)
    before = (folder / "chaos_results.json").read_bytes()
    of_table(table)(change)(folder)
    said = examined(folder)
    if change in (reordered,) or (change is shuffled and table != "events"):
        assert not said
        assert (folder / "chaos_results.json").read_bytes() == before
    if change is doubled and table != "resources":
        assert said


def test_any_column_may_be_missing(recorded: Path, tmp_path: Path) -> None:
    for table in ("probes", "events", "resources"):
        folder = fresh(recorded, tmp_path)
        file = sorted((folder / table).glob("*.parquet"))[0]
        whole = pq.read_table(file)
        for column in whole.column_names:
            pq.write_table(whole.drop_columns([column]), file)
            assert any(f"lacks the column {column!r}" in said for said in examined(folder))


@examples(20)
@given(data=st.data())
def test_events_may_say_anything(recorded: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = fresh(recorded, tmp_path)
    file = sorted((folder / "events").glob("*.parquet"))[0]
    rows = pq.read_table(file).to_pylist()
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.sampled_from(rows))
        row["event"] = data.draw(st.sampled_from(sorted({other["event"] for other in rows} | {"dose", "undo_failed"})))
        row["at_us"] = data.draw(st.integers(-(10**7), 10**8))
        detail = json.loads(row["detail"]) | data.draw(
            st.dictionaries(st.sampled_from(["state", "steady", "reason", "fault", "asked", "ok"]), json_values)
        )
        row["detail"] = json.dumps(detail)
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(file)), file)
    examined(folder)


# Nothing recorded is lost


def test_a_run_without_events_is_broken_and_its_probes_are_not_written_over(folder: Path) -> None:
    (folder / "events" / "0001-control-no-fault-r2.parquet").unlink()
    assert examined(folder) == []
    states = {(run.repeat, run.state) for run in store.Campaign.open(folder).runs}
    assert (2, RunState.BROKEN) in states
    left = resume.resume(folder)
    assert [(again.repeat, again.again) for again in left.repetitions] == [(2, 5), (3, 6)]


def test_rows_of_a_run_that_is_to_come_are_not_written_over(folder: Path) -> None:
    resources = folder / "resources"
    shutil.copy(resources / "0000-control-no-fault-r1.parquet", resources / "0003-control-no-fault-r4.parquet")
    with pytest.raises(ChaoslabError, match=r"resources/0003-control-no-fault-r4.parquet holds rows of"):
        resume.resume(folder)


def test_a_run_that_was_killed_before_its_first_row_can_be_resumed(folder: Path) -> None:
    for table in ("events", "probes", "resources"):
        (folder / table / "0003-control-no-fault-r4").mkdir()
    assert [run.repeat for run in resume.resume(folder).prepared.plan.runs] == [4, 5]
    key = store.RunKey(campaign="test", scenario="Control (no fault)", repeat=4, index=3)
    store.PartWriter(folder, "events", key)


def test_a_report_that_cannot_be_written_leaves_the_record_alone(folder: Path) -> None:
    (folder / "chaos_results.json").mkdir()
    before = contents(folder)
    with pytest.raises(ChaoslabError, match="cannot be written"):
        report.write_all(folder)
    assert contents(folder) == before

"""A campaign folder survives being cut off, and says in one sentence what is wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chaoslab import store
from chaoslab.errors import CampaignFolderError
from chaoslab.records import SCHEMA_VERSION
from chaoslab.store import Campaign, PartWriter, RunKey

META = {"schema_version": SCHEMA_VERSION, "campaign": "c", "dry_run": False, "scenarios": [], "slos": []}
KEY = RunKey(campaign="c", scenario="Light CPU Stress", repeat=2, index=7)


def probe_rows(first: int, count: int) -> dict[str, list[object]]:
    return {
        "seq": list(range(first, first + count)),
        "probe": ["health"] * count,
        "scheduled_us": [10_000 * (first + n) for n in range(count)],
        "sent_us": [12] * count,
        "latency_us": [900] * count,
        "status": [200] * count,
        "outcome": ["success"] * count,
        "error": [None] * count,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store.create(tmp_path / "c", META)
    return tmp_path / "c"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277, 0o777])
def test_the_folder_is_readable_by_its_owner_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store.create(tmp_path / "c", META)
    finally:
        os.umask(before)
    assert (tmp_path / "c").stat().st_mode & 0o7777 == 0o700


def test_an_empty_folder_that_was_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o1777)
    assert store.is_open(tmp_path / "c")
    store.create(tmp_path / "c", META)
    assert (tmp_path / "c").stat().st_mode & 0o7777 == 0o700
    assert not store.is_open(tmp_path / "c")


def test_rows_can_be_read_while_the_run_lasts_and_are_the_same_when_it_is_over(folder: Path) -> None:
    writer = PartWriter(folder, "probes", KEY)
    writer.write(probe_rows(0, 5))
    writer.write(probe_rows(5, 3))
    during = Campaign.open(folder).probes
    writer.compact()
    after = Campaign.open(folder).probes
    pd.testing.assert_frame_equal(during, after)
    assert list(after["seq"]) == list(range(8))
    assert [path.name for path in (folder / "probes").iterdir()] == [f"{KEY.slug}.parquet"]


def test_the_table_reads_with_pandas_alone(folder: Path) -> None:
    writer = PartWriter(folder, "probes", KEY)
    writer.write(probe_rows(0, 5))
    writer.compact()
    table = pd.read_parquet(folder / "probes")
    assert set(table["scenario"]) == {"Light CPU Stress"}
    assert pq.read_schema(folder / "probes" / f"{KEY.slug}.parquet").metadata[b"chaoslab.schema_version"] == b"1"


def test_parts_left_beside_their_joined_file_are_not_counted_twice(folder: Path) -> None:
    writer = PartWriter(folder, "probes", KEY)
    writer.write(probe_rows(0, 5))
    parts = folder / "probes" / KEY.slug
    saved = {part.name: part.read_bytes() for part in parts.iterdir()}
    writer.compact()
    parts.mkdir()
    for name, data in saved.items():
        (parts / name).write_bytes(data)
    assert len(Campaign.open(folder).probes) == 5


def test_a_part_that_was_being_written_is_passed_over(folder: Path) -> None:
    writer = PartWriter(folder, "probes", KEY)
    writer.write(probe_rows(0, 5))
    (folder / "probes" / KEY.slug / ".part-000001.parquet.tmp").write_bytes(b"PAR1 half")
    assert len(Campaign.open(folder).probes) == len(pd.read_parquet(folder / "probes")) == 5


def test_whatever_is_being_written_has_a_name_that_readers_pass_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    class Noted(pq.ParquetWriter):  # type: ignore[misc]
        def __init__(self, where: Path, *arguments: Any, **options: Any) -> None:
            written.append(where.name)
            super().__init__(where, *arguments, **options)

    monkeypatch.setattr(pq, "ParquetWriter", Noted)
    writer = PartWriter(folder, "probes", KEY)
    writer.write(probe_rows(0, 1))
    writer.compact()
    assert [name.startswith(".") for name in written] == [True, True]


def test_a_long_run_has_few_parts_and_every_row_once(folder: Path) -> None:
    writer = PartWriter(folder, "probes", KEY)
    for first in range(0, 10_000, 50):
        writer.write(probe_rows(first, 50))
    assert len(list((folder / "probes" / KEY.slug).iterdir())) == 10
    assert list(Campaign.open(folder).probes["seq"]) == list(range(10_000))
    writer.compact()
    assert list(Campaign.open(folder).probes["seq"]) == list(range(10_000))


def test_rows_that_could_not_be_written_are_not_written_twice_when_they_can(folder: Path) -> None:
    writer = PartWriter(folder, "probes", KEY)
    writer.write(probe_rows(0, 5))
    parts = folder / "probes" / KEY.slug
    parts.rename(folder / "away")
    with pytest.raises(FileNotFoundError):
        writer.write(probe_rows(5, 3))
    (folder / "away").rename(parts)
    writer.write(probe_rows(5, 3))
    assert list(Campaign.open(folder).probes["seq"]) == list(range(8))


def test_more_rows_than_are_held_in_memory_are_joined_group_by_group(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_GROUP_ROWS", 6000)
    writer = PartWriter(folder, "probes", KEY)
    for first in range(0, 20_000, 2000):
        writer.write(probe_rows(first, 2000))
    writer.compact()
    joined = pq.ParquetFile(folder / "probes" / f"{KEY.slug}.parquet")
    assert [joined.metadata.row_group(group).num_rows for group in range(joined.num_row_groups)] == [
        6000,
        6000,
        6000,
        2000,
    ]
    assert list(Campaign.open(folder).probes["seq"]) == list(range(20_000))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema_version": 1, "camp', "cut off"),
        ("[]", "cut off"),
        (json.dumps(META | {"schema_version": 99}), "upgrade chaoslab"),
        (json.dumps(META | {"dry_run": True}), "is a dry run"),
    ],
)
def test_a_folder_that_cannot_be_analysed_says_why(folder: Path, text: str, words: str) -> None:
    (folder / "campaign.json").write_text(text)
    with pytest.raises(CampaignFolderError, match=words):
        Campaign.open(folder)


def test_a_folder_without_a_campaign_says_so(tmp_path: Path) -> None:
    with pytest.raises(CampaignFolderError, match="is not a campaign folder"):
        Campaign.open(tmp_path)


def test_a_table_that_was_cut_off_is_named(folder: Path) -> None:
    writer = PartWriter(folder, "probes", KEY)
    writer.write(probe_rows(0, 5))
    writer.compact()
    file = folder / "probes" / f"{KEY.slug}.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CampaignFolderError, match=r"probes is cut off or damaged"):
        _ = Campaign.open(folder).probes


def test_a_folder_that_holds_something_is_never_written_into(tmp_path: Path) -> None:
    store.create(tmp_path / "a", META)
    with pytest.raises(CampaignFolderError, match="already holds a campaign"):
        store.create(tmp_path / "a", META)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").touch()
    with pytest.raises(CampaignFolderError, match="already holds other files"):
        store.create(tmp_path / "b", META)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CampaignFolderError, match="cannot be written: Not a directory"):
        store.create(tmp_path / "file" / "c", META)


def recorded(folder: Path) -> pd.DataFrame:
    """Two runs of one scenario, in a file each."""
    for repeat in (1, 2):
        writer = PartWriter(folder, "probes", RunKey(campaign="c", scenario="Stress", repeat=repeat, index=repeat))
        writer.write(probe_rows(100 * repeat, 50))
        writer.compact()
    return Campaign.open(folder).probes


def of_run(folder: Path, repeat: int) -> pd.DataFrame:
    return Campaign.open(folder)._of("probes", "Stress", repeat)


def test_a_run_is_read_from_its_own_file(folder: Path) -> None:
    every = recorded(folder)
    campaign = Campaign.open(folder)
    for repeat in (1, 2):
        wanted = every.loc[every["repeat"] == repeat].reset_index(drop=True)
        found = campaign._of("probes", "Stress", repeat)
        pd.testing.assert_frame_equal(found, wanted, check_categorical=False)
    assert "probes" not in vars(campaign)  # the whole table was never put together


def test_runs_that_somebody_joined_into_one_file_are_told_apart_by_its_rows(folder: Path) -> None:
    every = recorded(folder)
    files = sorted((folder / "probes").glob("*.parquet"))
    pq.write_table(pa.concat_tables(map(pq.read_table, files)).unify_dictionaries(), folder / "probes" / "all.parquet")
    for file in files:
        file.unlink()
    for repeat in (1, 2):
        wanted = every.loc[every["repeat"] == repeat].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_run(folder, repeat), wanted, check_categorical=False)

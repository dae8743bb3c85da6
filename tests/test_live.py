"""A campaign that is watched while it is written: only the parts on disk are read."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from chaoslab import store
from chaoslab.errors import CampaignFolderError
from chaoslab.live import Reader, notebook, terminal
from chaoslab.live.reader import newest
from tests.campaigns import RunRows, make_campaign, make_run
from tests.test_cli import chaoslab
from tests.test_processes import until

HOSTILE = "<script>alert(1)</script>"


def columns(run: RunRows, *, until_us: int) -> dict[str, dict[str, list[object]]]:
    """The rows of a run that are there at an instant."""
    events = [row for row in run.events if row[0] <= until_us]
    there = [at <= until_us for at in run.probes["scheduled_us"]]
    samples = [at <= until_us for at in run.resources["at_us"]]
    return {
        "events": {
            "at_us": [row[0] for row in events],
            "event": [row[1] for row in events],
            "step": [row[2] for row in events],
            "detail": [json.dumps(dict(row[3])) for row in events],
        },
        "probes": {name: [v for v, ok in zip(values, there, strict=True) if ok] for name, values in run.probes.items()},
        "resources": {
            name: [v for v, ok in zip(values, samples, strict=True) if ok] for name, values in run.resources.items()
        },
    }


class UnderWay:
    """A campaign of two runs: one is over, the other has come as far as `grow` says."""

    def __init__(self, folder: Path) -> None:
        first = make_run("Control (no fault)", type="control", seed=1)
        self.second = make_run("Light CPU Stress", down=[(6.0, 7.0)], seed=2)
        wall = time.time_ns() - int(self.second.length_us * 1000)
        make_campaign(
            folder,
            [first, self.second],
            status="running",
            anchor={"monotonic_ns": 0, "wall_ns": wall, "boot_id": "x"},
            cooldown_seconds=1.0,
        )
        for file in folder.glob("*/0001-*"):
            file.unlink()
        self.folder = folder
        key = store.RunKey(campaign="test", scenario="Light CPU Stress", repeat=1, index=1)
        self.writers = {table: store.PartWriter(folder, table, key) for table in ("events", "probes", "resources")}
        self._from = 0

    def grow(self, seconds: float) -> None:
        until_us = int(seconds * 1e6)
        for table, rows in columns(self.second, until_us=until_us).items():
            at = rows["scheduled_us" if table == "probes" else "at_us"]
            kept = [place for place, instant in enumerate(at) if int(str(instant)) >= self._from]
            if kept:
                self.writers[table].write({name: [values[place] for place in kept] for name, values in rows.items()})
        self._from = until_us + 1


@pytest.fixture
def under_way(tmp_path: Path) -> UnderWay:
    return UnderWay(tmp_path / "campaign")


def test_it_says_which_run_and_phase_is_under_way(under_way: UnderWay) -> None:
    reader = Reader(under_way.folder)
    before = reader.look()
    assert (before.number, before.total, before.phase, before.over) == (1, 2, "", True)
    under_way.grow(2.0)
    assert (reader.look().phase, reader.look().number) == ("baseline", 2)
    under_way.grow(8.0)
    standing = reader.look()
    assert standing.phase == "injection"
    assert standing.line() == "run 2/2 · Light CPU Stress · repeat 1 · injection"
    table = standing.by_phase().set_index("phase")
    assert table["probes"].to_dict() == {"baseline": 50, "injection": 31}
    assert table["failed"].to_dict() == {"baseline": 0, "injection": 10}
    under_way.grow(16.0)
    assert reader.look().phase == "recovery"
    assert [state for _, _, state in reader.look().ended] == ["completed"]


def test_only_the_probe_that_the_service_is_judged_by_counts(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    make_campaign(folder, [make_run()], probe={"name": "other", "timeout_seconds": 2.0})
    assert Reader(folder).look().by_phase()["probes"].tolist() == [0, 0, 0]
    store.update(folder, probe={"name": "health", "timeout_seconds": 2.0})
    assert Reader(folder).look().by_phase()["probes"].tolist() == [50, 100, 50]


def test_parts_that_are_full_are_read_once(under_way: UnderWay, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way.grow(8.0)
    reader = Reader(under_way.folder)
    reader.look()
    monkeypatch.setattr("pyarrow.parquet.read_table", lambda *_, **__: pytest.fail("read again"))
    reader.look()


def test_parts_may_be_joined_while_it_looks(under_way: UnderWay) -> None:
    """Whoever reads meets files that are gone a moment later; it never sees a row twice, nor fewer than before."""
    under_way.grow(20.0)
    rows = len(under_way.second.probes["seq"])
    seen: set[int] = set()
    reader = Reader(under_way.folder)

    def join() -> None:
        for writer in under_way.writers.values():
            writer.compact()

    joining = threading.Thread(target=join)
    joining.start()
    while joining.is_alive():
        seen.add(len(reader.look().probes))
    joining.join()
    assert seen | {len(reader.look().probes)} == {rows}


def test_a_campaign_that_was_killed_is_told_from_one_that_waits(under_way: UnderWay) -> None:
    under_way.grow(1.0)
    standing = Reader(under_way.folder).look()
    assert standing.silent_seconds == pytest.approx(19, abs=2)
    assert standing.lost
    assert "was it killed?" in standing.line()
    under_way.grow(20.0)
    assert not Reader(under_way.folder).look().lost


def test_the_figure_shades_the_injection_and_counts_failures(under_way: UnderWay) -> None:
    assert notebook.figure(Reader(under_way.folder).look()) is not None
    under_way.grow(8.0)
    picture = notebook.figure(Reader(under_way.folder).look())
    assert picture is not None
    assert "81 probes so far, 10 of them failed" in picture.alt
    shown = notebook.Sight(Reader(under_way.folder).look())._repr_html_()
    assert shown.startswith("<p>run 2/2")
    assert "<img" in shown


def test_outside_a_notebook_nothing_is_shown(under_way: UnderWay, capsys: pytest.CaptureFixture[str]) -> None:
    with notebook.watching(under_way.folder):
        assert not [thread for thread in threading.enumerate() if thread.name == "chaoslab-live"]
    assert capsys.readouterr() == ("", "")


def test_words_of_the_campaign_are_text_in_the_notebook(tmp_path: Path) -> None:
    make_campaign(tmp_path / "c", [make_run(HOSTILE)], status="stopped", reason=HOSTILE)
    shown = notebook.Sight(Reader(tmp_path / "c").look())._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown


def test_the_terminal_draws_a_column_a_second_and_marks_failures(under_way: UnderWay) -> None:
    under_way.grow(8.0)
    strip = terminal.strip(Reader(under_way.folder).look()).plain
    assert len(strip.splitlines()[0]) == 9
    assert strip.splitlines()[0].count("×") == 1
    assert "× a probe failed" in strip


def test_in_a_terminal_all_of_it_is_drawn_until_the_campaign_is_over(under_way: UnderWay) -> None:
    under_way.grow(16.0)
    store.update(under_way.folder, target="[bold]shop[/bold]")
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    watcher = threading.Thread(target=terminal.follow, args=(Reader(under_way.folder), console))
    watcher.start()
    until(lambda: "recovery" in out.getvalue(), seconds=40)
    store.update(under_way.folder, status="stopped", reason="the service suffers")
    watcher.join(timeout=40)
    assert not watcher.is_alive()
    drawn = out.getvalue()
    for words in ("[bold]shop[/bold]", "injection", "p95", "Control (no fault), repeat 1: completed"):
        assert words in drawn
    assert "stopped, 1 of 2 runs: the service suffers" in drawn


def test_watching_says_each_phase_once_and_ends_with_the_campaign(under_way: UnderWay) -> None:
    under_way.grow(1.0)
    out = io.StringIO()
    watcher = threading.Thread(
        target=terminal.follow, args=(Reader(under_way.folder), Console(file=out, force_terminal=False, width=160))
    )
    watcher.start()
    for seconds, word in ((8.0, "injection"), (16.0, "recovery")):
        under_way.grow(seconds)
        until(lambda: word in out.getvalue(), seconds=40)  # noqa: B023 - called at once
    store.update(under_way.folder, status="finished")
    watcher.join(timeout=40)
    assert not watcher.is_alive()
    lines = out.getvalue().splitlines()
    assert len(lines) == len(set(lines))
    assert lines[-1].startswith("finished, 1 of 2 runs")


def test_the_command_shows_the_newest_campaign_of_a_folder(
    under_way: UnderWay, capsys: pytest.CaptureFixture[str]
) -> None:
    under_way.grow(8.0)
    assert newest(under_way.folder.parent) == under_way.folder
    assert chaoslab("watch", str(under_way.folder.parent), "--once") == 0
    assert "Light CPU Stress · repeat 1 · injection" in capsys.readouterr().out
    assert chaoslab("watch", str(under_way.folder), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["runs"] == {"begun": 2, "over": 1, "total": 2}
    assert document["phase"] == "injection"


def test_who_only_watches_has_nothing_to_revert_when_interrupted(under_way: UnderWay) -> None:
    under_way.grow(8.0)
    argv = [sys.executable, "-m", "chaoslab", "watch", str(under_way.folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()  # it looks, and shall go on to
        watching.send_signal(signal.SIGINT)
        _, complaint = watching.communicate(timeout=60)
    assert (watching.returncode, complaint.strip()) == (130, "chaoslab: interrupted by SIGINT")


def test_a_folder_without_a_campaign_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chaoslab("watch", str(tmp_path)) == 2
    assert "is not a campaign folder, and holds none" in capsys.readouterr().err
    with pytest.raises(CampaignFolderError):
        Reader(tmp_path).look()


def test_a_part_that_is_damaged_is_named(under_way: UnderWay) -> None:
    under_way.grow(8.0)
    part = next((under_way.folder / "probes").glob("*/*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(CampaignFolderError, match=part.name):
        Reader(under_way.folder).look()

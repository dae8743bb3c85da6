"""The journal holds what must be undone, whatever happens to the process that wrote it."""

from __future__ import annotations

import json
import os
import random
import stat
import sys
from pathlib import Path

import pytest

from chaoslab.agent import processes
from chaoslab.errors import ChaoslabError, NotReverted
from chaoslab.hosts import LocalHost
from chaoslab.journal import JOURNAL_FILE, Contents, Journal, Phase, Step, leftovers
from chaoslab.journal_lines import sound
from chaoslab.undo import undo, undo_all
from tests.journals import disown

PYTHON = sys.executable


def touching(path: Path, *, undo_argv: tuple[str, ...] | None = None, **options: object) -> Step:
    """A step that makes a file, and whose undo removes it."""
    return Step(
        name=f"file {path.name}",
        do=(PYTHON, "-c", f"open({str(path)!r}, 'w')"),
        undo=undo_argv or ("rm", "-f", str(path)),
        token=f"none-{path.name}",
        deadline=60.0,
        **options,  # type: ignore[arg-type]
    )


def test_a_step_is_open_from_its_intent_until_it_is_undone(tmp_path: Path) -> None:
    journal = Journal.create("j")
    first, second = touching(tmp_path / "a"), touching(tmp_path / "b")
    journal.intend("r1", first)
    journal.intend("r1", second)
    assert [found.step for found in journal.open_steps()] == [second, first]
    undo(second, run="r1", journal=journal, host=LocalHost())
    assert [found.step for found in journal.open_steps()] == [first]


def test_the_step_survives_the_journal_unchanged(tmp_path: Path) -> None:
    journal = Journal.create("j")
    step = touching(tmp_path / "a", restored=("test", "!", "-e", str(tmp_path / "a")), undo_limit=3.0)
    journal.intend("r1", step)
    assert Journal(journal.path).open_steps()[0].step == step


def test_a_torn_last_line_hides_nothing_that_came_before_or_after(tmp_path: Path) -> None:
    journal = Journal.create("j")
    journal.intend("r1", touching(tmp_path / "a"))
    with journal.path.open("ab") as file:
        file.write(b'{"phase": "undone", "run": "r1", "st')
    assert len(journal.open_steps()) == 1
    journal.intend("r2", touching(tmp_path / "b"))
    assert len(journal.open_steps()) == 2


def test_undoing_tries_every_step_last_first_even_if_one_fails(tmp_path: Path) -> None:
    journal = Journal.create("j")
    (tmp_path / "a").touch()
    (tmp_path / "c").touch()
    journal.intend("r", touching(tmp_path / "a"))
    journal.intend("r", touching(tmp_path / "b", undo_argv=(PYTHON, "-c", "raise SystemExit('it is stuck')")))
    journal.intend("r", touching(tmp_path / "c"))
    with pytest.raises(NotReverted, match="it is stuck") as failure:
        undo_all(journal, LocalHost())
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "c").exists()
    assert len(failure.value.commands) == 1
    assert [found.step.name for found in journal.open_steps()] == ["file b"]


def test_an_undo_that_says_it_worked_is_not_believed_until_the_state_is_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    journal = Journal.create("j")
    step = touching(path, undo_argv=("true",), restored=("test", "!", "-e", str(path)), undo_limit=0.3)
    journal.intend("r", step)
    with pytest.raises(NotReverted, match=r"not back after 0\.3 s"):
        undo(step, run="r", journal=journal, host=LocalHost())


def test_an_undo_that_hangs_is_cut_at_its_limit(tmp_path: Path) -> None:
    journal = Journal.create("j")
    step = touching(tmp_path / "a", undo_argv=("sleep", "60"), undo_limit=0.2)
    journal.intend("r", step)
    with pytest.raises(NotReverted, match="did not end in time"):
        undo(step, run="r", journal=journal, host=LocalHost())


def test_a_do_still_under_way_is_ended_before_its_undo(tmp_path: Path) -> None:
    path = tmp_path / "late"
    code = f"import time; time.sleep(0.4); open({str(path)!r}, 'w')"
    step = Step(name="late", do=(PYTHON, "-c", code), undo=("rm", "-f", str(path)), token="late-do", deadline=9.0)
    journal = Journal.create("j")
    journal.intend("r", step)
    host = LocalHost()
    host.hold(step.do, token=step.token)
    undo(step, run="r", journal=journal, host=host)
    host.run(("true",), timeout=5)
    assert not processes.family(step.token)
    assert not path.exists()


def test_a_closed_journal_lies_in_the_campaigns_folder_and_nowhere_else(tmp_path: Path) -> None:
    journal = Journal.create("j")
    journal.attach(tmp_path)
    assert (tmp_path / JOURNAL_FILE).read_bytes() == journal.path.read_bytes()
    journal.close()
    assert not journal.path.exists()
    assert not (tmp_path / JOURNAL_FILE).is_symlink()
    last = (tmp_path / JOURNAL_FILE).read_text().splitlines()[-1]
    assert json.loads(last)["phase"] == Phase.CLOSED


def test_a_journal_is_its_owners_alone_and_what_is_left_of_it_holds_no_secret(tmp_path: Path, state: Path) -> None:
    (state / "journals").mkdir()
    (state / "journals").chmod(0o777)
    before = os.umask(0)
    try:
        journal = Journal.create("j")
    finally:
        os.umask(before)
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700
    journal.attach(tmp_path)
    step = touching(tmp_path / "a", undo_argv=("rm", "-f", str(tmp_path / "a"), "--password", "hunter22"))
    journal.intend("r1", step)
    journal.append(Phase.UNDO_FAILED, run="r1", step=step.name, reason="hunter22 is wrong")
    assert "hunter22" in journal.path.read_text()
    journal.leave_copy()
    copy = Journal(tmp_path / JOURNAL_FILE)
    assert journal.path.exists()
    assert not copy.path.is_symlink()
    assert "hunter22" not in copy.path.read_text()
    (left,) = copy.open_steps()
    assert (left.step.token, left.step.undo[-2:]) == (step.token, ("--password", "***"))


def test_only_a_dead_owners_journal_is_a_leftover(tmp_path: Path) -> None:
    mine = Journal.create("mine")
    dead = Journal.create("dead")
    disown(dead)
    assert [journal.path.stem for journal in leftovers()] == ["dead"]
    assert mine.owner_alive


def test_what_cannot_be_journalled_is_not_done(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.create("j")
    journal.path.unlink()
    journal.path.mkdir()
    with pytest.raises(ChaoslabError, match="cannot be written: Is a directory"):
        journal.intend("r", touching(state / "a"))
    (state / "file").touch()
    monkeypatch.setenv("CHAOSLAB_STATE_DIR", str(state / "file"))
    with pytest.raises(ChaoslabError, match="set CHAOSLAB_STATE_DIR"):
        Journal.create("j")


def test_a_journal_that_cannot_be_written_keeps_nothing_from_being_undone(tmp_path: Path) -> None:
    journal = Journal.create("j")
    (tmp_path / "a").touch()
    journal.path.unlink()
    journal.path.mkdir()
    undo(touching(tmp_path / "a"), run="r", journal=journal, host=LocalHost())
    assert not (tmp_path / "a").exists()


def test_of_two_that_claim_one_thing_the_earlier_has_it(tmp_path: Path) -> None:
    first, second = Journal.create("first"), Journal.create("second")
    step = touching(tmp_path / "a")
    first.intend("r1", step, claims=["container web"])
    second.intend("r1", step, claims=["container web", "container db"])
    assert first.rival("r1", step) == ""
    assert second.rival("r1", step) == "first has the container web"
    first.append(Phase.UNDONE, run="r1", step=step.name)
    assert second.rival("r1", step) == ""


def test_other_claims_and_the_runs_own_disturb_nobody(tmp_path: Path) -> None:
    first, second = Journal.create("first"), Journal.create("second")
    step, next_step = touching(tmp_path / "a"), touching(tmp_path / "b")
    first.intend("r1", step, claims=["container web"])
    first.intend("r1", next_step, claims=["container web"])
    second.intend("r1", step, claims=["container db"])
    assert first.rival("r1", next_step) == second.rival("r1", step) == ""


def test_what_was_withdrawn_is_not_undone(tmp_path: Path) -> None:
    journal, step = Journal.create("j"), touching(tmp_path / "a", undo_argv=("false",))
    journal.intend("r1", step, claims=["container web"])
    journal.withdraw("r1", step)
    undo_all(journal, LocalHost())
    assert journal.open_steps() == []


def test_only_what_was_added_is_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, taken = Journal.create("j"), []
    monkeypatch.setattr("chaoslab.journal.sound", lambda data: taken.append(len(data)) or sound(data))
    for name in "abc":
        size = journal.path.stat().st_size
        journal.intend("r1", touching(tmp_path / name))
        journal.open_steps()
        assert taken.pop() == journal.path.stat().st_size - (size if name != "a" else 0)
    assert journal.open_steps() == Journal(journal.path).open_steps()
    assert taken[0] == 0


@pytest.mark.parametrize("seed", range(20))
def test_reading_on_gives_what_reading_anew_gives_whatever_becomes_of_the_file(seed: int, tmp_path: Path) -> None:
    draw, journal = random.Random(seed), Journal.create("j")

    def spoil() -> None:
        data = bytearray(journal.path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        journal.path.write_bytes(data)

    def cut() -> None:
        os.truncate(journal.path, draw.randrange(1, journal.path.stat().st_size))

    def undo_one() -> None:
        journal.append(Phase.UNDONE, run="r", step=f"file {draw.randrange(9)}")

    def by_another() -> None:
        Journal(journal.path).intend("r", touching(tmp_path / str(draw.randrange(9))))

    def replaced() -> None:
        journal.path.unlink()
        Journal.create("j")

    for _ in range(40):
        draw.choices([by_another, undo_one, spoil, cut, replaced], weights=[12, 8, 1, 1, 1])[0]()
        assert journal.read() == Contents.of(journal.path.read_bytes())


def test_what_was_read_is_not_changed_by_what_is_read_later(tmp_path: Path) -> None:
    journal = Journal.create("j")
    journal.intend("r1", touching(tmp_path / "a"))
    before = journal.read()
    journal.append(Phase.UNDONE, run="r1", step="file a")
    assert (set(before.open_steps), before.undone) == ({("r1", "file a")}, set())
    assert journal.read().open_steps == {}

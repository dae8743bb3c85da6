"""A damaged journal: no traceback, no changed command, no undo skipped, and what is lost is said."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoslab.cli import main
from chaoslab.delivery import Chosen, Delivery, Room
from chaoslab.errors import ChaoslabError, NotReverted
from chaoslab.faults import Surroundings
from chaoslab.guardian import Guardian
from chaoslab.hosts import LocalHost
from chaoslab.journal import Contents, Journal, OpenStep, Phase, Step, leftovers
from chaoslab.scenario import Scenario
from chaoslab.undo import undo_all
from tests.crash.child import Given, Nowhere
from tests.fuzz import EXAMPLES, examples
from tests.journals import disown, without_checksums
from tests.test_journal import touching
from tests.test_processes import until

Damage = Callable[[bytes, int], bytes]


@dataclass(frozen=True)
class Sample:
    """A journal of three steps, of which the first is undone; `lines` are its lines without their breaks."""

    data: bytes
    folder: Path

    @property
    def lines(self) -> list[bytes]:
        return self.data.splitlines()

    @property
    def open_steps(self) -> dict[tuple[str, str], OpenStep]:
        return Contents.of(self.data).open_steps

    def line_of(self, place: int) -> int | None:
        """The number of the line that holds the byte at `place`; None for a line break."""
        return None if self.data[place] == 10 else self.data[:place].count(b"\n") + 1

    def phase(self, number: int) -> Phase:
        found = re.search(rb'"phase": "(\w+)"', self.lines[number - 1])
        assert found
        return Phase(found[1].decode())

    def key(self, number: int) -> tuple[str, str]:
        found = re.search(rb'"run": "([^"]*)", "step": "([^"]*)"', self.lines[number - 1])
        assert found
        return found[1].decode(), found[2].decode()


def write(journal: Journal, folder: Path) -> None:
    for name in "abc":
        step = touching(folder / name)
        journal.intend(f"run-{name}", step, claims=[f"file {name}"])
        journal.append(Phase.DONE, run=f"run-{name}", step=step.name)
        if name == "a":
            journal.append(Phase.VERIFIED, run=f"run-{name}", step=step.name)
            journal.append(Phase.UNDO_STARTED, run="run-a", step=step.name)
            journal.append(Phase.UNDONE, run="run-a", step=step.name)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    journal = Journal.create("sample")
    (tmp_path / "campaign").mkdir()
    journal.attach(tmp_path / "campaign")
    write(journal, tmp_path)
    data = journal.path.read_bytes()
    journal.path.unlink()
    return Sample(data, tmp_path)


def flipped(bit: int) -> Damage:
    return lambda data, place: data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def replaced(by: bytes) -> Damage:
    return lambda data, place: data[:place] + by + data[place + 1 :]


def inserted(what: bytes) -> Damage:
    return lambda data, place: data[:place] + what + data[place:]


def some_bit(data: bytes, place: int) -> bytes:
    return flipped(place % 8)(data, place)


AT_EVERY_BYTE = {"a flipped bit": some_bit, "zeroed": replaced(b"\0")}
AT_MANY_BYTES = {
    "a digit": replaced(b"7"),
    "a quote": replaced(b'"'),
    "a brace": replaced(b"}"),
    "a line break": replaced(b"\n"),
    "removed": replaced(b""),
    **({f"bit {bit}": flipped(bit) for bit in range(8)} if EXAMPLES else {}),
}
DAMAGES = AT_EVERY_BYTE | AT_MANY_BYTES


def bytes_of(data: bytes, damage: str) -> range:
    """The places to damage: the gate takes some of them for all but the plain cases."""
    return range(0, len(data), 1 if EXAMPLES or damage in AT_EVERY_BYTE else 11)


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_at_any_byte_costs_at_most_its_line_and_a_lost_intent_is_said(sample: Sample, name: str) -> None:
    expected = sample.open_steps
    assert len(expected) == 2
    for place in bytes_of(sample.data, name):
        damaged = DAMAGES[name](sample.data, place)
        if damaged == sample.data:
            continue
        found, number = Contents.of(damaged), sample.line_of(place)
        where = f"byte {place}, line {number}"
        again = ("run-a", "file a")  # its "undone" may be what is damaged
        assert {key: step for key, step in found.open_steps.items() if key != again} == {
            key: step for key, step in expected.items() if key in found.open_steps
        }, f"{where}: another command would run"
        missing = expected.keys() - found.open_steps.keys()
        if number is None:
            assert not missing, where
        for key in missing:
            assert sample.phase(number or 0) is Phase.INTENT, where
            assert sample.key(number or 0) == key, f"{where}: the undo of another line is skipped"
            assert {number, (number or 0) + 1} & set(found.lost), f"{where}: a lost undo is not said"
        assert found.owner_alive, f"{where}: a campaign under way looks dead"


def test_a_damaged_line_that_matters_to_nobody_raises_no_alarm(sample: Sample) -> None:
    for number, line in enumerate(sample.lines, 1):
        matters = sample.phase(number) is Phase.INTENT and sample.key(number) in sample.open_steps
        place = sample.data.index(line) + len(line) // 2 + 20
        assert bool(Contents.of(flipped(0)(sample.data, place)).lost) == matters, line


def test_a_journal_cut_at_any_byte_keeps_what_was_whole(sample: Sample) -> None:
    for cut in range(len(sample.data)):
        found = Contents.of(sample.data[:cut])
        if sample.data[cut - 1 : cut] in (b"\n", b""):
            whole = found
        # An intent whose line is cut short was never followed by its `do`: the line is on disk before `do` runs.
        assert not found.lost
        assert len(found.open_steps.keys() ^ whole.open_steps.keys()) <= (sample.data[cut : cut + 1] == b"\n")


@pytest.mark.parametrize("garbage", [b"garbage\n", b"\n\n", b"\0" * 40, b'{"sequence": ', b'{"a": [[[[', b"[" * 5000])
def test_garbage_between_any_two_bytes_hides_no_other_line(sample: Sample, garbage: bytes) -> None:
    for place in range(0, len(sample.data), 1 if EXAMPLES else 15):
        found = Contents.of(inserted(garbage)(sample.data, place))
        missing = sample.open_steps.keys() - found.open_steps.keys()
        assert all(sample.key(sample.line_of(place) or 0) == key for key in missing)
        assert not missing or found.lost


@pytest.mark.parametrize("name", DAMAGES)
def test_a_journal_from_before_there_were_checksums_is_read_too(sample: Sample, name: str) -> None:
    old = Sample(without_checksums(sample.data), sample.folder)
    assert old.open_steps == sample.open_steps
    for place in range(0, len(old.data), 1 if EXAMPLES else 11):
        found, number = Contents.of(DAMAGES[name](old.data, place)), old.line_of(place)
        safe = {key for key in old.open_steps if number is None or old.key(number) != key}
        assert safe <= found.open_steps.keys(), f"byte {place}, line {number}"


def test_what_is_added_to_such_a_journal_has_a_checksum_and_both_are_read(sample: Sample) -> None:
    journal = Journal.named("old")
    journal.path.write_bytes(without_checksums(sample.data))
    journal.append(Phase.UNDONE, run="run-b", step="file b")
    assert b'"crc": ' in journal.path.read_bytes().splitlines()[-1]
    assert list(journal.read().open_steps) == [("run-c", "file c")]


places = st.integers(min_value=0, max_value=10_000)
single = st.one_of(
    st.integers(0, 7).map(flipped),
    st.binary(min_size=1, max_size=1).map(replaced),
    st.binary(max_size=30).map(inserted),
    st.sampled_from([b"\n", b'{"sequence": 3}', b'{"sequence": ', b'"', b'", "crc": 1}', b"[" * 3000]).map(inserted),
)
damages = st.lists(st.tuples(single, places), min_size=1, max_size=12)


def worn(data: bytes, marks: list[tuple[Damage, int]]) -> bytes:
    for damage, place in marks:
        data = damage(data, place % len(data))
    return data


@examples(100)
@given(marks=damages)
def test_however_much_is_damaged_no_step_is_lost_in_silence(sample: Sample, marks: list[tuple[Damage, int]]) -> None:
    damaged = worn(sample.data, marks)
    found = Contents.of(damaged)
    known = Contents.of(sample.data[: sample.data.index(b'"phase": "undone"')]).open_steps | sample.open_steps
    assert all(known[key] == step for key, step in found.open_steps.items())
    readable = {sample.key(n) for n, line in enumerate(sample.lines, 1) if line in damaged and b'"intent"' in line}
    assert sample.open_steps.keys() & readable <= found.open_steps.keys()
    assert found.lost or sample.open_steps.keys() <= found.open_steps.keys()


@examples(100)
@given(data=st.binary(max_size=300))
def test_whatever_the_bytes_they_are_read(data: bytes) -> None:
    assert not Contents.of(data).open_steps


def recovered() -> int:
    with pytest.raises(SystemExit) as ended:
        main(["recover"])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@examples(8)
@given(marks=damages)
def test_recover_undoes_what_can_be_read_and_never_claims_more(
    tmp_path: Path, state: Path, marks: list[tuple[Damage, int]]
) -> None:
    shutil.rmtree(state / "journals", ignore_errors=True)
    for name in "abc":
        (tmp_path / name).touch()
    journal = Journal.create("dead")
    write(journal, tmp_path)
    (tmp_path / "a").unlink()
    disown(journal)
    journal.path.write_bytes(worn(journal.path.read_bytes(), marks))
    readable = {found.step.name for found in journal.open_steps()}
    code = recovered()
    left = {f"file {name}" for name in "bc" if (tmp_path / name).exists()}
    assert not left & readable
    assert code == (6 if journal.path.exists() else 0)
    assert code == 6 or not left


def dead(name: str, path: Path) -> Journal:
    journal = Journal.create(name)
    journal.intend("r", touching(path))
    journal.append(Phase.DONE, run="r", step=f"file {path.name}")
    disown(journal)
    path.touch()
    return journal


def spoil(journal: Journal, word: bytes) -> None:
    """Damage the byte before the first `word`."""
    data = journal.path.read_bytes()
    journal.path.write_bytes(flipped(0)(data, data.index(word) - 1))


def spoilt_intent(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"rm"', b'"rn"'))


def no_file(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (spoilt_intent, "line 2 of the journal"),
        (lambda path: path.write_bytes(b"\xff" * 4096 + b"\n"), "line 1 of the journal"),
        (no_file, "cannot be read: it is not a file"),
    ],
)
def test_recover_says_what_it_cannot_read_keeps_it_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], said: str
) -> None:
    lost, other = dead("a-lost", tmp_path / "lost"), dead("b-other", tmp_path / "other")
    damage(lost.path)
    for arguments in (["recover", "--list"], ["recover", "--list", "--json"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert said in capsys.readouterr().out
    assert recovered() == 6
    captured = capsys.readouterr()
    assert said in captured.out
    assert said in captured.err
    assert str(lost.path) in captured.err
    assert "nothing is left behind" not in captured.out
    assert lost.path.exists()
    assert not other.path.exists()
    assert not (tmp_path / "other").exists()
    with pytest.raises(SystemExit):
        main(["scenarios"])
    assert said in capsys.readouterr().err  # any other command names it too
    assert lost.path.exists()


def test_a_spoilt_owner_of_a_dead_journal_keeps_nothing_from_being_undone(tmp_path: Path) -> None:
    journal = dead("dead", tmp_path / "file")
    spoil(journal, b'"owner"')
    assert [found.path.stem for found in leftovers()] == ["dead"]
    assert recovered() == 0
    assert not (tmp_path / "file").exists()


def test_a_spoilt_owner_of_a_living_journal_leaves_it_alone(tmp_path: Path) -> None:
    journal = Journal.create("alive")
    journal.intend("r", touching(tmp_path / "file"))
    spoil(journal, b'"owner"')
    assert leftovers() == []


def test_a_living_journal_that_was_empty_and_taken_for_dead_goes_on(tmp_path: Path) -> None:
    journal = Journal.create("who")
    spoil(journal, b'"owner"')
    with pytest.raises(SystemExit):
        main(["scenarios"])
    journal.intend("r", touching(tmp_path / "file"))
    assert leftovers() == []
    assert [found.step.name for found in journal.open_steps()] == ["file file"]


def test_a_damaged_journal_beside_it_claims_nothing_and_a_damaged_own_one_is_an_error(tmp_path: Path) -> None:
    first, second = Journal.create("first"), Journal.create("second")
    step = touching(tmp_path / "a")
    first.intend("r1", step, claims=["container web"])
    second.intend("r2", step, claims=["container web"])
    spoilt_intent(first.path)
    (first.path.parent / "third.jsonl").mkdir()
    assert second.rival("r2", step) == ""
    with pytest.raises(ChaoslabError, match="does not hold that file a was begun"):
        first.rival("r1", step)


def test_what_the_owner_undid_is_not_missed_when_its_intent_is_spoilt(tmp_path: Path) -> None:
    journal = dead("j", tmp_path / "file")
    spoilt_intent(journal.path)
    with pytest.raises(NotReverted, match="line 2 of the journal"):
        undo_all(journal, LocalHost())
    journal.append(Phase.UNDONE, run="r", step="file file")
    undo_all(journal, LocalHost())


def test_a_runner_reverts_what_it_began_though_its_intent_is_spoilt_now(tmp_path: Path) -> None:
    step = Step(name="make", do=("touch", str(tmp_path / "a")), undo=("rm", str(tmp_path / "a")), token="t", deadline=9)
    Given.steps = (step,)
    room = Room(run="r", journal=Journal.create("j"), log=Nowhere(), host=LocalHost(), look=lambda: None)
    where = Surroundings(host=room.host, url="", target=None, hits_target=True)
    chosen = Chosen(fault=Scenario(name="S", type="given", duration=1), mechanism=Given(), where=where)
    delivery = Delivery(chosen, room, offset=0.0, seconds=1.0, token="t")
    delivery.advance(0)
    assert (tmp_path / "a").exists()
    spoilt_intent(room.journal.path)
    assert delivery.revert() == []
    assert not (tmp_path / "a").exists()
    undo_all(room.journal, room.host)  # and nothing is missed


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Guardian, Journal]]:
    """A guardian that has read the intent of a step which makes `tmp_path / "kept"`."""
    journal = Journal.create("guarded")
    guardian = Guardian(journal)
    for name in ("kept", "overdue"):
        (tmp_path / name).touch()
    journal.intend("r", touching(tmp_path / "kept"))
    journal.intend("r", replace(touching(tmp_path / "overdue"), deadline=0.0))
    until(lambda: not (tmp_path / "overdue").exists())
    yield guardian, journal
    with guardian._process as process:
        process.kill()


def orphan(guardian: Guardian) -> int:
    assert guardian._process.stdin is not None
    guardian._process.stdin.close()
    return guardian._process.wait(timeout=10)


def test_a_guardian_undoes_what_it_has_read_though_its_line_is_spoilt_now(
    guarded: tuple[Guardian, Journal], tmp_path: Path
) -> None:
    guardian, journal = guarded
    spoilt_intent(journal.path)
    journal.append(Phase.DONE, run="r", step="file kept")
    assert (tmp_path / "kept").exists()
    assert orphan(guardian) == 0
    assert not (tmp_path / "kept").exists()
    assert not journal.path.exists()


def test_a_guardian_whose_journal_is_gone_undoes_what_it_knows(
    guarded: tuple[Guardian, Journal], tmp_path: Path
) -> None:
    guardian, journal = guarded
    no_file(journal.path)
    assert orphan(guardian) == 6
    assert not (tmp_path / "kept").exists()


def test_a_guardian_that_finds_an_intent_spoilt_undoes_the_rest_and_keeps_the_journal(tmp_path: Path) -> None:
    journal = Journal.create("j")
    for name in ("lost", "other"):
        (tmp_path / name).touch()
        journal.intend("r", touching(tmp_path / name))
    data = journal.path.read_bytes()
    journal.path.write_bytes(data.replace(b'"rm"', b'"rn"', 1))
    argv = [sys.executable, "-m", "chaoslab.guardian", str(journal.path)]
    assert subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True).returncode == 6
    assert (tmp_path / "lost").exists()
    assert not (tmp_path / "other").exists()
    assert journal.path.exists()

"""The journal: what was done to a machine and how each thing is undone, on disk before it is done.

JSON lines, appended and fsynced; data only. While it is open it lies in this user's state folder, so that `chaoslab
recover` finds it from anywhere, and the campaign's folder links to it. Whoever reads it needs no Python object of
ours: an entry holds the argv that undoes it, with the secrets that it takes to run. Hence only this user can read it,
and in the campaign's folder a copy without them takes the link's place when all is undone, or the campaign has ended.

A damaged line hides no other. Where it may have held an intent of which nothing says that it was undone, it is `lost`,
and whoever undoes the rest says so and keeps the journal. A damaged "undone" has its step undone once more.
"""

from __future__ import annotations

import io
import math
import os
import secrets
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, get_args, get_origin, get_type_hints

from chaoslab import targets
from chaoslab.agent import processes
from chaoslab.agent.processes import Identity, boot_id
from chaoslab.errors import ChaoslabError
from chaoslab.journal_lines import AFTER_TORN, line, pieces, sound
from chaoslab.redaction import learn, learn_environment, redact_document

JOURNAL_FILE: Final = "journal.jsonl"
_CHUNK: Final = 65536


class Phase(StrEnum):
    """What an entry says about its step."""

    OPENED = "opened"  # the journal itself, with its owner
    ATTACHED = "attached"  # the campaign's folder, where the journal ends up
    INTENT = "intent"  # about to run `do`
    DONE = "done"
    VERIFIED = "verified"
    UNDO_STARTED = "undo_started"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"
    CLOSED = "closed"  # everything was undone


_NO_INTENT: Final = frozenset(Phase) - {Phase.INTENT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One reversible command.

    `do` runs to its end, or with `holds` lasts as long as the fault. `undo` is idempotent: it exits 0 when the state
    is back, also when it already was, and anything else when it cannot tell. `evidence` reads whether the step is in
    effect; where `restored` is given, it must exit 0 after `undo` before the step counts as undone. `token` marks the
    processes of `do`. Times are seconds; `deadline` counts from `do` and bounds the whole step, and `undo_limit`
    bounds its undo. `touches` says what exactly is touched, by name: plain values, for people and for the undo.
    """

    name: str
    do: tuple[str, ...]
    undo: tuple[str, ...]
    token: str
    deadline: float
    evidence: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    holds: bool = False
    do_limit: float = 30.0
    undo_limit: float = 10.0
    touches: Mapping[str, Any] = field(default_factory=dict)


_Key = tuple[str, str]  # run and name of a step


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step found in a journal that is not undone.

    Instants are monotonic microseconds: `since_us` of its intent, `overdue_us` after which it must be undone. `claims`
    name what no other fault can have while it is open; `prior` is what was read of it before, and `boot` the boot in
    which it was.
    """

    run: str
    step: Step
    overdue_us: int
    since_us: int = 0
    claims: tuple[str, ...] = ()
    prior: Mapping[str, Any] = field(default_factory=dict)
    boot: str = ""


@dataclass(slots=True)
class Contents:
    """What a journal says, as far as it can be read.

    `open_steps` are those not known to be undone, by run and name, in the order of their beginning, and `undone` those
    that are. `lost` are the numbers of lines that may have held the intent of a step which nobody undid. `owner` opened
    it, in the boot `boot`; `writers` are all that appended to it. `home` is the campaign's folder.
    """

    open_steps: dict[_Key, OpenStep] = field(default_factory=dict)
    undone: set[_Key] = field(default_factory=set)
    lost: list[int] = field(default_factory=list)
    owner: Identity | None = None
    writers: set[tuple[str, Identity]] = field(default_factory=set)
    boot: str = ""
    home: Path | None = None

    @property
    def owner_alive(self) -> bool:
        """Whether the process that opened the journal still runs, in this boot.

        Where its name is damaged, anybody who wrote here and still runs passes for it: a campaign under way must not
        look dead, and its guardian is there to undo it.
        """
        if self.owner is not None:
            return self.boot == boot_id() and self.owner.alive
        return any(boot == boot_id() and writer.alive for boot, writer in self.writers)

    @classmethod
    def of(cls, data: bytes) -> Contents:
        """Return what the bytes of a journal say; nothing they hold is an error."""
        contents = cls()
        for piece in pieces(data):
            if not contents.take(piece.entry or {}) and not piece.torn and piece.phase not in _NO_INTENT:
                contents.lost.append(piece.number)
        return contents

    def take(self, entry: Mapping[str, Any]) -> bool:
        """Add one entry; False where it does not hold what it must."""
        try:
            phase, key = Phase(entry["phase"]), (_text(entry["run"]), _text(entry["step"]))
            if phase is Phase.INTENT:
                begun = _open_step(entry)
                self.open_steps.pop(key, None)
                self.open_steps[key] = begun
                self.undone.discard(key)
            elif phase is Phase.UNDONE:
                self._undo(key)
            elif phase is Phase.OPENED and self.owner is None:
                self.owner, self.boot = _identity(entry["owner"]), _text(entry["boot_id"])
            elif phase is Phase.ATTACHED:
                self.home = Path(_text(entry["folder"]))
            elif phase is Phase.CLOSED:
                self.undone |= set(self.open_steps)
                self.open_steps, self.lost = {}, []
            if "writer_start_ticks" in entry:
                writer = {"pid": entry["writer"], "start_ticks": entry["writer_start_ticks"]}
                self.writers.add((_text(entry["boot_id"]), _identity(writer)))
        except (KeyError, TypeError, ValueError, OverflowError):
            return False
        return True

    def copy(self) -> Contents:
        """Return the same, which what is taken later does not change."""
        return replace(self, open_steps=dict(self.open_steps), undone=set(self.undone), writers=set(self.writers))

    def _undo(self, key: _Key) -> None:
        if key not in self.open_steps and key not in self.undone and self.lost:
            self.lost.pop()  # its intent is one of the lines that cannot be read
        self.open_steps.pop(key, None)
        self.undone.add(key)


def now_us() -> int:
    """Return the monotonic clock in microseconds; every process of one boot reads the same."""
    return time.monotonic_ns() // 1000


class Journal:
    """One journal file, appended to by its owner and, when the owner is gone, by its guardian."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sequence = 0
        self._known = _Known()

    @classmethod
    def named(cls, name: str) -> Journal:
        """Return the journal `name` of this user, which need not be there."""
        return cls(targets.folder("journals") / f"{name}.jsonl")

    @classmethod
    def create(cls, name: str) -> Journal:
        """Open a new journal owned by this process.

        Raises:
            ChaoslabError: it cannot be written.
        """
        journal = cls.named(name)
        journal.append(Phase.OPENED, owner=asdict(_myself(os.getpid())) | {"token": f"owner-{secrets.token_hex(8)}"})
        return journal

    def attach(self, folder: Path, *, secrets: Sequence[str] = ()) -> None:
        """Link the journal into a campaign's folder; `secrets` name the environment variables that hold some."""
        self.append(Phase.ATTACHED, folder=str(folder.resolve()), secrets=list(secrets))
        (folder / JOURNAL_FILE).symlink_to(self.path)

    def append(self, phase: Phase, *, run: str = "", step: str = "", **fields: Any) -> None:
        """Add one entry and wait until it is on disk.

        Raises:
            ChaoslabError: it cannot be written; nothing may be done that is not journalled first.
        """
        self._sequence += 1
        writer = _myself(os.getpid())
        entry = {
            "sequence": self._sequence,
            "phase": phase,
            "run": run,
            "step": step,
            "boot_id": boot_id(),
            "wall": datetime.now(UTC).isoformat(),
            "monotonic_us": now_us(),
            "writer": writer.pid,
            "writer_start_ticks": writer.start_ticks,
            **fields,
        }
        # A torn line that a crash left behind must not swallow this one: begin with a line break if need be.
        try:
            with os.fdopen(os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "ab+") as file:
                torn = file.tell() > 0 and _last_byte(self.path) != b"\n"
                file.write(b"\n" + line(entry | {AFTER_TORN: True}) if torn else line(entry))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ChaoslabError(f"the journal {self.path} cannot be written: {error.strerror}") from error

    def intend(
        self, run: str, step: Step, *, claims: Sequence[str] = (), prior: Mapping[str, Any] | None = None
    ) -> None:
        """Record that `step` is about to run, with all it takes to undo it, and what it claims for itself.

        `prior` is what was read of the thing before.
        """
        overdue = now_us() + int(step.deadline * 1e6)
        more = {"overdue_us": overdue, "command": asdict(step), "claims": list(claims), "prior": dict(prior or {})}
        self.append(Phase.INTENT, run=run, step=step.name, **more)

    def withdraw(self, run: str, step: Step) -> None:
        """Record that a step that was intended has not been done, so that nothing is to be undone."""
        self.append(Phase.UNDONE, run=run, step=step.name, reason="never done")

    def rival(self, run: str, step: Step) -> str:
        """Return who claimed what `step` claims before it did, another live journal or another run, or an empty string.

        It must have been intended: of two that claim at once each then sees the other, and the earlier one has it. What
        cannot be read claims nothing.

        Raises:
            ChaoslabError: it was not intended, or its intent cannot be read any more.
        """
        own = self.read().open_steps.get((run, step.name))
        if own is None:
            raise ChaoslabError(f"the journal {self.path} does not hold that {step.name} was begun")
        for path in sorted(self.path.parent.glob("*.jsonl")):
            journal = self if path == self.path else Journal(path)
            for other in _steps_if_readable(journal):
                mine = journal.path == self.path and other.run == run
                shared = set(own.claims) & set(other.claims)
                earlier = other.boot != own.boot or (other.since_us, str(journal.path)) < (own.since_us, str(self.path))
                if shared and earlier and not mine:
                    return f"{journal.path.stem} has the {min(shared)}"
        return ""

    def read(self) -> Contents:
        """Read the journal; one that is not there holds nothing.

        What was read before, and is the same byte for byte, is not taken apart again: a journal grows for as long as a
        campaign lasts, and is read at each step.

        Raises:
            ChaoslabError: there is something that is not a file, or cannot be read at all.
        """
        with self._opened() as file:
            if self._known.crc != _checksum(file, self._known.length):
                self._known = _Known()
                file.seek(0)
            if self._known.extend(file.read()):
                return self._known.contents.copy()
            self._known = _Known()
            file.seek(0)
            return Contents.of(file.read())

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            if self.path.exists() and not self.path.is_file():
                raise ChaoslabError(f"the journal {self.path} cannot be read: it is not a file")
            try:
                file: IO[bytes] = self.path.open("rb")
            except FileNotFoundError:
                file = io.BytesIO()
            with file:
                yield file
        except OSError as error:
            raise ChaoslabError(f"the journal {self.path} cannot be read: {error.strerror}") from error

    def entries(self) -> list[Mapping[str, Any]]:
        """Return the entries that can be read; errors as for `read`."""
        contents = Contents()
        with self._opened() as file:
            return [piece.entry for piece in pieces(file.read()) if piece.entry and contents.take(piece.entry)]

    def open_steps(self) -> list[OpenStep]:
        """Return the steps that are not known to be undone, the last one begun first; errors as for `read`."""
        return list(reversed(self.read().open_steps.values()))

    @property
    def owner_alive(self) -> bool:
        """Whether the process that opened the journal still runs, in this boot; errors as for `read`."""
        return self.read().owner_alive

    def close(self) -> None:
        """Record that all is undone, and leave a copy in the campaign's folder if it has one.

        Raises:
            ChaoslabError: it cannot be read or written, or the copy cannot; it then stays where it is.
        """
        self.append(Phase.CLOSED)
        self.leave_copy()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise ChaoslabError(f"the journal {self.path} cannot be removed: {error.strerror}") from error

    def learn_secrets(self) -> None:
        """Have the secrets of all its commands hidden from here on: one that fails may quote its own, or another's."""
        for entry in self.entries():
            learn(_commands(entry))
            if entry["phase"] == Phase.ATTACHED:
                learn_environment(entry.get("secrets", ()))

    def leave_copy(self) -> None:
        """Put a copy without secrets in the link's place in the campaign's folder, if there is one.

        Raises:
            ChaoslabError: the journal cannot be read, or the copy not be written.
        """
        home = self.read().home
        if home is None or not home.is_dir():
            return
        final = home / JOURNAL_FILE
        temporary = final.with_suffix(".tmp")
        self.learn_secrets()
        try:
            temporary.write_bytes(b"".join(line(_redacted(entry)) for entry in self.entries()))
            temporary.replace(final)
        except OSError as error:
            raise ChaoslabError(f"the journal {self.path} cannot be copied to {final}: {error.strerror}") from error


def _commands(entry: Mapping[str, Any]) -> list[Sequence[str]]:
    return [part for part in entry.get("command", {}).values() if isinstance(part, list)]


def _redacted(entry: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = redact_document(entry)
    # What is ours to know a step or a process by is no secret, whatever it looks like.
    shown |= {key: entry[key] for key in ("phase", "run", "boot_id", "folder", "secrets") if key in entry}
    for part in ("command", "owner"):
        if "token" in entry.get(part, ()):
            shown[part]["token"] = entry[part]["token"]
    return shown


@dataclass(slots=True)
class _Known:
    """The beginning of a journal, without any damage: its length, its CRC-32, and what it says."""

    length: int = 0
    crc: int = 0
    contents: Contents = field(default_factory=Contents)

    def extend(self, data: bytes) -> bool:
        """Add what follows; False where it is not whole and sound, and then this is of no use any more."""
        entries = sound(data)
        if entries is None or not all(map(self.contents.take, entries)):
            return False
        self.length += len(data)
        self.crc = zlib.crc32(data, self.crc)
        return True


def _checksum(file: IO[bytes], length: int) -> int:
    """Return the CRC-32 of the next `length` bytes, or of what there is of them."""
    crc = 0
    while length and (chunk := file.read(min(length, _CHUNK))):
        crc, length = zlib.crc32(chunk, crc), length - len(chunk)
    return crc


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


@cache
def _myself(pid: int) -> Identity:
    owner = processes.identify(pid)
    assert owner is not None  # we run
    return owner


def _steps_if_readable(journal: Journal) -> Iterable[OpenStep]:
    try:
        return journal.open_steps()
    except ChaoslabError:
        return ()


def step_from(fields: Mapping[str, Any]) -> Step:
    """Return the step that a journal's entry holds.

    Raises:
        TypeError, ValueError: they are not the fields of a step.
    """
    values: dict[str, Any] = {name: tuple(part) if isinstance(part, list) else part for name, part in fields.items()}
    step = Step(**values)
    for name, kind in _step_types().items():
        if not _is(getattr(step, name), kind):
            raise ValueError(f"{name} of a step is {getattr(step, name)!r}")
    if not step.undo:
        raise ValueError(f"the step {step.name!r} has no undo")
    return step


@cache
def _step_types() -> dict[str, Any]:
    return get_type_hints(Step)


def _is(value: Any, kind: Any) -> bool:
    """Whether `value` is of the type `kind`, and a command could be run with it."""
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is(part, get_args(kind)[0]) for part in value)
    if kind is str:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, get_origin(kind) or kind)


def _text(value: Any) -> str:
    if not _is(value, str):
        raise ValueError(f"{value!r} is no text")
    return str(value)


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is no object")
    return value


def _identity(fields: Mapping[str, Any]) -> Identity:
    return Identity(pid=_whole(fields["pid"]), start_ticks=_whole(fields["start_ticks"]))


def _open_step(entry: Mapping[str, Any]) -> OpenStep:
    return OpenStep(
        run=_text(entry["run"]),
        step=step_from(entry["command"]),
        overdue_us=_whole(entry["overdue_us"]),
        since_us=_whole(entry["monotonic_us"]),
        claims=tuple(map(_text, entry.get("claims", ()))),
        prior=_mapping(entry.get("prior", {})),
        boot=_text(entry.get("boot_id", "")),
    )


def leftovers() -> list[Journal]:
    """Return the journals of this user whose owner is gone or cannot be told, in the order of their names."""
    found = (Journal(path) for path in sorted(targets.place("journals").glob("*.jsonl")))
    return [journal for journal in found if not _owned(journal)]


def _owned(journal: Journal) -> bool:
    try:
        return journal.owner_alive
    except ChaoslabError:
        return False

"""The journal: what was done to a machine and how each thing is undone, on disk before it is done.

JSON lines, appended and fsynced; data only. While it is open it lies in this user's state folder, so that `chaoslab
recover` finds it from anywhere, and the campaign's folder links to it. Whoever reads it needs no Python object of
ours: an entry holds the argv that undoes it, with the secrets that it takes to run. Hence only this user can read it,
and in the campaign's folder a copy without them takes the link's place when all is undone, or the campaign has ended.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from chaoslab import targets
from chaoslab.agent import processes
from chaoslab.agent.processes import Identity
from chaoslab.errors import ChaoslabError
from chaoslab.redaction import learn, learn_environment, redact_document

JOURNAL_FILE: Final = "journal.jsonl"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One reversible command.

    `do` runs to its end, or with `holds` lasts as long as the fault. `undo` is idempotent: it exits 0 when the state
    is back, also when it already was, and anything else when it cannot tell. `evidence` reads whether the step is in
    effect; where `restored` is given, it must exit 0 after `undo` before the step counts as undone. `token` marks the
    processes of `do`. Times are seconds; `deadline` counts from `do` and bounds the whole step, and `undo_limit`
    bounds its undo.
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


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step found in a journal that is not undone.

    Instants are monotonic microseconds: `since_us` of its intent, `overdue_us` after which it must be undone. `claims`
    name what no other fault can have while it is open.
    """

    run: str
    step: Step
    overdue_us: int
    since_us: int = 0
    claims: tuple[str, ...] = ()


def boot_id() -> str:
    """Return the kernel's identifier of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def now_us() -> int:
    """Return the monotonic clock in microseconds; every process of one boot reads the same."""
    return time.monotonic_ns() // 1000


class Journal:
    """One journal file, appended to by its owner and, when the owner is gone, by its guardian."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sequence = 0

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
        owner = processes.identify(os.getpid())
        assert owner is not None  # we run
        journal.append(Phase.OPENED, owner=asdict(owner), boot_id=boot_id())
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
        entry = {
            "sequence": self._sequence,
            "phase": phase,
            "run": run,
            "step": step,
            "wall": datetime.now(UTC).isoformat(),
            "monotonic_us": now_us(),
            "writer": os.getpid(),
            **fields,
        }
        # A torn line that a crash left behind must not swallow this one: begin with a line break if need be.
        try:
            with os.fdopen(os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "ab+") as file:
                torn = file.tell() > 0 and _last_byte(self.path) != b"\n"
                file.write((b"\n" if torn else b"") + json.dumps(entry).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ChaoslabError(f"the journal {self.path} cannot be written: {error.strerror}") from error

    def intend(self, run: str, step: Step, *, claims: Sequence[str] = ()) -> None:
        """Record that `step` is about to run, with all it takes to undo it, and what it claims for itself."""
        overdue = now_us() + int(step.deadline * 1e6)
        more = {"overdue_us": overdue, "command": asdict(step), "boot_id": boot_id(), "claims": list(claims)}
        self.append(Phase.INTENT, run=run, step=step.name, **more)

    def withdraw(self, run: str, step: Step) -> None:
        """Record that a step that was intended has not been done, so that nothing is to be undone."""
        self.append(Phase.UNDONE, run=run, step=step.name, reason="never done")

    def rival(self, run: str, step: Step) -> str:
        """Return who claimed what `step` claims before it did, another live journal or another run, or an empty string.

        It must have been intended: of two that claim at once each then sees the other, and the earlier one has it.
        """
        (own,) = (found for found in self.open_steps() if (found.run, found.step.name) == (run, step.name))
        for journal in (Journal(path) for path in sorted(self.path.parent.glob("*.jsonl"))):
            for other in journal.open_steps():
                mine = journal.path == self.path and other.run == run
                shared = set(own.claims) & set(other.claims)
                earlier = (other.since_us, str(journal.path)) < (own.since_us, str(self.path))
                if shared and earlier and not mine:
                    return f"{journal.path.stem} has the {min(shared)}"
        return ""

    def entries(self) -> Iterator[Mapping[str, Any]]:
        """Read the entries; a torn line is passed over."""
        if not self.path.exists():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and "phase" in entry:
                yield entry

    def open_steps(self) -> list[OpenStep]:
        """Return the steps that are not known to be undone, the last one begun first."""
        steps: dict[tuple[str, str], OpenStep] = {}
        for entry in self.entries():
            key = (entry["run"], entry["step"])
            if entry["phase"] == Phase.INTENT:
                steps[key] = OpenStep(
                    run=entry["run"],
                    step=step_from(entry["command"]),
                    overdue_us=int(entry["overdue_us"]),
                    since_us=int(entry["monotonic_us"]),
                    claims=tuple(entry.get("claims", ())),
                )
            elif entry["phase"] == Phase.UNDONE:
                steps.pop(key, None)
        return list(reversed(steps.values()))

    @property
    def owner_alive(self) -> bool:
        """Whether the process that opened the journal still runs, in this boot."""
        for entry in self.entries():
            if entry["phase"] == Phase.OPENED:
                return entry["boot_id"] == boot_id() and Identity(**entry["owner"]).alive
        return False

    def close(self) -> None:
        """Record that all is undone, and leave a copy in the campaign's folder if it has one."""
        self.append(Phase.CLOSED)
        self.leave_copy()
        self.path.unlink(missing_ok=True)

    def learn_secrets(self) -> None:
        """Have the secrets of all its commands hidden from here on: one that fails may quote its own, or another's."""
        for entry in self.entries():
            learn(_commands(entry))
            if entry["phase"] == Phase.ATTACHED:
                learn_environment(entry.get("secrets", ()))

    def leave_copy(self) -> None:
        """Put a copy without secrets in the link's place in the campaign's folder, if there is one.

        Raises:
            OSError: it cannot be written.
        """
        entries = list(self.entries())
        attached = next((entry for entry in entries if entry["phase"] == Phase.ATTACHED), None)
        if attached is None or not Path(attached["folder"]).is_dir():
            return
        final = Path(attached["folder"]) / JOURNAL_FILE
        temporary = final.with_suffix(".tmp")
        self.learn_secrets()
        temporary.write_text("".join(json.dumps(_redacted(entry)) + "\n" for entry in entries), encoding="utf-8")
        temporary.replace(final)


def _commands(entry: Mapping[str, Any]) -> list[Sequence[str]]:
    return [part for part in entry.get("command", {}).values() if isinstance(part, list)]


def _redacted(entry: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = redact_document(entry)
    # What is ours to know a step or a process by is no secret, whatever it looks like.
    shown |= {key: entry[key] for key in ("phase", "run", "boot_id", "folder", "secrets") if key in entry}
    if "command" in entry:
        shown["command"]["token"] = entry["command"]["token"]
    return shown


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def step_from(fields: Mapping[str, Any]) -> Step:
    """Return the step that a journal's entry holds."""
    values: dict[str, Any] = {name: tuple(part) if isinstance(part, list) else part for name, part in fields.items()}
    return Step(**values)


def leftovers() -> list[Journal]:
    """Return the journals of this user whose owner is gone, oldest first."""
    found = (Journal(path) for path in sorted(targets.folder("journals").glob("*.jsonl")))
    return [journal for journal in found if not journal.owner_alive]

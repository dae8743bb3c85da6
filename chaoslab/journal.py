"""The journal: what was done to a machine and how each thing is undone, on disk before it is done.

JSON lines, appended and fsynced; data only. While it is open it lies in this user's state folder, so that `chaoslab
recover` finds it from anywhere, and the campaign's folder links to it; when all is undone it moves there. Whoever
reads it needs no Python object of ours: an entry holds the argv that undoes it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from chaoslab import targets
from chaoslab.agent import processes
from chaoslab.agent.processes import Identity, boot_id
from chaoslab.errors import ChaoslabError

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
        journal.append(Phase.OPENED, owner=asdict(owner) | {"token": f"owner-{secrets.token_hex(8)}"})
        return journal

    def attach(self, folder: Path) -> None:
        """Link the journal into a campaign's folder; it moves there when it is closed."""
        self.append(Phase.ATTACHED, folder=str(folder.resolve()))
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
            "boot_id": boot_id(),
            "writer": os.getpid(),
            **fields,
        }
        # A torn line that a crash left behind must not swallow this one: begin with a line break if need be.
        try:
            with self.path.open("ab+") as file:
                torn = file.tell() > 0 and _last_byte(self.path) != b"\n"
                file.write((b"\n" if torn else b"") + json.dumps(entry).encode() + b"\n")
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

        It must have been intended: of two that claim at once each then sees the other, and the earlier one has it.
        """
        (own,) = (found for found in self.open_steps() if (found.run, found.step.name) == (run, step.name))
        for journal in (Journal(path) for path in sorted(self.path.parent.glob("*.jsonl"))):
            for other in journal.open_steps():
                mine = journal.path == self.path and other.run == run
                shared = set(own.claims) & set(other.claims)
                earlier = other.boot != own.boot or (other.since_us, str(journal.path)) < (own.since_us, str(self.path))
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
                    prior=entry.get("prior", {}),
                    boot=entry.get("boot_id", ""),
                )
            elif entry["phase"] == Phase.UNDONE:
                steps.pop(key, None)
        return list(reversed(steps.values()))

    @property
    def owner_alive(self) -> bool:
        """Whether the process that opened the journal still runs, in this boot."""
        for entry in self.entries():
            if entry["phase"] == Phase.OPENED:
                owner = Identity(entry["owner"]["pid"], entry["owner"]["start_ticks"])
                return entry["boot_id"] == boot_id() and owner.alive
        return False

    def close(self) -> None:
        """Record that all is undone, and move the journal to the campaign's folder if it has one."""
        home = next((entry["folder"] for entry in self.entries() if entry["phase"] == Phase.ATTACHED), None)
        self.append(Phase.CLOSED)
        if home is not None and Path(home).is_dir():
            final = Path(home) / JOURNAL_FILE
            temporary = final.with_suffix(".tmp")
            shutil.copyfile(self.path, temporary)
            temporary.replace(final)
        self.path.unlink(missing_ok=True)


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
    found = (Journal(path) for path in sorted(targets.place("journals").glob("*.jsonl")))
    return [journal for journal in found if not journal.owner_alive]

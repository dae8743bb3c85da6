"""Processes that are not ours, as victims: how one is found, what is done to it, and how it is seen to be back.

    python -m chaoslab.agent.victim find   WHICH [--published FILE] [--family]
    python -m chaoslab.agent.victim kill   PID TICKS --boot ID --signal NAME
    python -m chaoslab.agent.victim stop   PID TICKS --boot ID --grace SECONDS
    python -m chaoslab.agent.victim freeze PID TICKS --boot ID --mark TOKEN
    python -m chaoslab.agent.victim thaw   PID TICKS --boot ID --mark TOKEN
    python -m chaoslab.agent.victim look   PID TICKS [WHICH]
    python -m chaoslab.agent.victim back   WHICH --victim PID TICKS --boot ID --patience SECONDS [--start ARGV...]

WHICH is --pid-file FILE, --port NUMBER (who listens there) or --process PATTERN (a regular expression that the command
line holds). A victim is known by PID and TICKS, its start time in clock ticks since the boot ID; a signal goes to that
very process or to none. `find` prints it as JSON, or says why there is none. `stop` sends TERM, after the grace KILL.
`freeze` stops a process and its descendants; `thaw` lets exactly those go on. `look` prints {"alive", "processes",
"frozen", "back"}: how many of its family there are and are frozen, and the pid of another process that is now WHICH.
`back` exits 0 once a living process is WHICH; where none is, it runs ARGV. The victim itself counts when it still lives
after the patience: it may be dying of a signal that it was sent.

After a reboot `kill`, `stop` and `freeze` fail. For `thaw`, and for `back` where nothing is to be started, all is well
then: what they would undo went with the boot.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from chaoslab.agent import freezer, process_table, search
from chaoslab.agent.freezer import NotFrozen
from chaoslab.agent.patience import comes_about
from chaoslab.agent.processes import TOKEN_VARIABLE, Identity, boot_id
from chaoslab.agent.search import Refused, Which

_BACK_LIMIT: Final = 20.0
_STEADY_SECONDS: Final = 0.1
_PAUSE_SECONDS: Final = 0.02


def kill(victim: Identity, signum: int) -> None:
    """Send a signal to that very process.

    Raises:
        Refused: it is gone already.
        PermissionError: it is not ours to signal.
    """
    if not victim.send(signum):
        raise Refused(f"process {victim.pid} is gone already: not ours to claim")


def stop(victim: Identity, grace: float) -> None:
    """Ask a process to end, and end it where it has not after `grace` seconds."""
    kill(victim, signal.SIGTERM)
    if not comes_about(lambda: not victim.alive, seconds=grace):
        victim.send(signal.SIGKILL)


def state(victim: Identity, which: Which | None) -> dict[str, object]:
    """Return how a victim stands: see the top of this file."""
    table = process_table.look()
    family = process_table.family(table, victim.pid) if victim.alive else []
    others = [found for found in search.candidates(table, which) if found.identity != victim] if which else []
    return {
        "alive": bool(family),
        "processes": len(family),
        "frozen": sum(member.state == freezer.STOPPED for member in family),
        "back": others[0].pid if others else None,
    }


@dataclass(frozen=True, slots=True)
class Place:
    """What a victim was: whatever is `which`; the victim itself is believed only after `patience` seconds."""

    which: Which
    victim: Identity
    patience: float

    def is_taken(self) -> bool:
        """Whether a process is there, and stays."""
        found = self._found()
        if not found:
            return False
        time.sleep(_STEADY_SECONDS)
        if (found & self._found()) - {self.victim}:
            return True
        stays = self.victim in found and not comes_about(lambda: not self.victim.alive, seconds=self.patience)
        return stays and self.victim in self._found()

    def _found(self) -> set[Identity]:
        return {found.identity for found in search.candidates(process_table.look(), self.which)}


def bring_back(place: Place, start: Sequence[str]) -> None:
    """Wait until a process is in its place, after running `start` where none is.

    Raises:
        Refused: there is still none in the end.
    """
    if place.is_taken():
        return
    if start:
        _start(place, start)
    elif not comes_about(place.is_taken, seconds=_BACK_LIMIT):
        raise Refused(f"{place.which.named} is not back after {_BACK_LIMIT:g} s")


def _start(place: Place, argv: Sequence[str]) -> None:
    # The service that it starts is nobody's fault: our mark must not stick to it.
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    with tempfile.TemporaryFile() as errors:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": errors}
        try:
            process = subprocess.Popen(argv, env=environment, start_new_session=True, **quiet)  # type: ignore[call-overload]
        except OSError as error:
            raise Refused(f"{argv[0]} cannot be started: {error.strerror}") from error
        deadline = time.monotonic() + _BACK_LIMIT
        while not place.is_taken():
            if process.poll() or time.monotonic() > deadline:
                raise Refused(f"{place.which.named} is not back; {argv[0]} {_last_words(process, errors)}")
            time.sleep(_PAUSE_SECONDS)


def _last_words(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    errors.seek(0)
    words = str(errors.read(), "utf-8", "replace").strip().splitlines()
    ending = "runs" if process.poll() is None else f"ended with {process.poll()}"
    return f"{ending}: {words[-1] if words else 'without a word'}"


def _main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    return _obey(options) if getattr(options, "boot", boot_id()) == boot_id() else _after_reboot(options)


def _obey(options: argparse.Namespace) -> int:
    victim = Identity(options.pid, options.ticks) if "pid" in options else None
    which = Which.of(options)
    try:
        match options.command, victim:
            case "find", None:
                assert which is not None
                print(json.dumps(search.find(which, options.published, whole_family=options.family)))
            case "kill", Identity():
                kill(victim, signal.Signals[f"SIG{options.signal}"])
            case "stop", Identity():
                stop(victim, options.grace)
            case "freeze", Identity():
                freezer.freeze(victim, options.mark)
            case "thaw", Identity():
                freezer.thaw(victim, options.mark)
            case "look", Identity():
                print(json.dumps(state(victim, which)))
            case "back", None:
                assert which is not None
                bring_back(Place(which, Identity(*options.victim), options.patience), options.start)
    except (Refused, NotFrozen) as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"{error.strerror}: run as root, or as the victim's user", file=sys.stderr)
        return 1
    return 0


def _after_reboot(options: argparse.Namespace) -> int:
    """Do what is left to do about a victim of another boot, whose pid is somebody else's now."""
    match options.command:
        case "thaw":
            freezer.forget(options.mark)
            return 0
        case "back" if not options.start:
            return 0
        case "back":
            options.victim = (0, 0)
            return _obey(options)
    print(f"process {options.pid} was of another boot: it is gone", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.victim")
    commands = parser.add_subparsers(dest="command", required=True)
    made = {name: commands.add_parser(name) for name in ("find", "kill", "stop", "freeze", "thaw", "look", "back")}
    for name in ("kill", "stop", "freeze", "thaw", "look"):
        made[name].add_argument("pid", type=int)
        made[name].add_argument("ticks", type=int)
    for name in ("find", "look", "back"):
        which = made[name].add_mutually_exclusive_group(required=name != "look")
        which.add_argument("--pid-file", type=Path)
        which.add_argument("--port", type=int)
        which.add_argument("--process")
    for name in ("kill", "stop", "freeze", "thaw", "back"):
        made[name].add_argument("--boot", required=True)
    for name in ("freeze", "thaw"):
        made[name].add_argument("--mark", required=True, type=freezer.safe_token)
    made["find"].add_argument("--published", type=Path)
    made["find"].add_argument("--family", action="store_true")
    made["kill"].add_argument("--signal", required=True)
    made["stop"].add_argument("--grace", required=True, type=float)
    made["back"].add_argument("--victim", type=int, nargs=2, required=True)
    made["back"].add_argument("--patience", type=float, required=True)
    made["back"].add_argument("--start", nargs=argparse.REMAINDER, default=[])
    return parser


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

"""Runs a command on another machine, over OpenSSH.

    python -m chaoslab.agent.ssh [--config FILE] [--port N] [--mark TOKEN] [USER@]HOST -- ARGV

The user's own configuration, keys and known hosts count; nothing is ever asked. The other machine needs Python 3.11 or
newer as `python3`, and no chaoslab: a command of the agent is sent along with its modules. The command ends with this
process, or soon after the connection has died. Exit as the command does; 255 is ssh's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from chaoslab.agent import bootstrap, processes
from chaoslab.agent.launch import split

_BEAT_SECONDS: Final = bootstrap.SILENCE_SECONDS / 5
_FIRST: Final = "import sys;exec(sys.stdin.buffer.read(int(sys.argv[1])))"
_OPTIONS: Final = {
    "BatchMode": "yes",
    "ConnectTimeout": "5",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "2",
    "LogLevel": "ERROR",
    # What the user's configuration may have set up for a terminal would be in the way of a command.
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "ClearAllForwardings": "yes",
}


def parcel() -> tuple[bytes, bytes]:
    """Return what is sent ahead: the text of the bootstrap, and the agent's modules as compressed JSON."""
    folder = Path(__file__).parent
    texts = {f"chaoslab.agent.{file.stem}": file.read_text(encoding="utf-8") for file in folder.glob("*.py")}
    texts["chaoslab.agent"] = texts.pop("chaoslab.agent.__init__")
    first = texts["chaoslab.agent.bootstrap"].encode()
    return first, zlib.compress(json.dumps({"chaoslab": "", **texts}).encode())


def command(options: argparse.Namespace, sizes: Sequence[str], argv: Sequence[str]) -> tuple[str, ...]:
    """Return the local command that runs `argv` there, as one line for the shell at the other end."""
    token = (f"{processes.TOKEN_VARIABLE}={options.mark}",) if options.mark else ()
    there = ("env", *token, "python3", "-c", _FIRST, *sizes, *argv)
    settings = (word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}"))
    config = ("-F", options.config) if options.config else ()
    port = ("-p", str(options.port)) if options.port else ()
    return ("ssh", *config, *port, *settings, "-a", "-x", "--", options.destination, shlex.join(there))


def _talk(process: subprocess.Popen[bytes], stdin: IO[bytes], parts: Sequence[bytes]) -> int:
    """Send the parts, then a sign of life now and then, until the command ends."""
    with contextlib.suppress(BrokenPipeError):
        for part in parts:
            stdin.write(part)
        stdin.flush()
    while True:
        try:
            return process.wait(timeout=_BEAT_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(b".")
                stdin.flush()


def main(argv: Sequence[str]) -> int:
    """Run the command there; 127 when there is no ssh here."""
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.ssh")
    parser.add_argument("--config")
    parser.add_argument("--port", type=int)
    parser.add_argument("--mark")
    parser.add_argument("destination")
    own, there = split(argv)
    options = parser.parse_args(own)
    if not there:
        parser.error("what is to run stands after --")
    parts = parcel()
    client = command(options, [str(len(part)) for part in parts], there)
    try:
        process = subprocess.Popen(client, stdin=subprocess.PIPE)
    except FileNotFoundError:
        print("ssh is not installed: apt-get install openssh-client", file=sys.stderr)
        return 127
    assert process.stdin is not None
    return _talk(process, process.stdin, parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

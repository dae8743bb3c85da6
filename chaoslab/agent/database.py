"""PostgreSQL as a victim: stopped and started by its own pg_ctl, and asked whether it answers.

    python -m chaoslab.agent.database describe --data DIR [--programs DIR]
    python -m chaoslab.agent.database stop     --data DIR --pg-ctl FILE --mode MODE
    python -m chaoslab.agent.database start    --data DIR --pg-ctl FILE --log FILE
    python -m chaoslab.agent.database ping CONNINFO [--limit SECONDS]

`describe` prints {"pid", "start_ticks", "pg_ctl", "log", "address"}: the server that runs in DIR, the pg_ctl to control
it by, where its output goes, and a conninfo without secrets to reach it by. `start` gives the server the options that
it was last started with; one that runs already is fine. Both act as the owner of DIR where we are root, as whom
PostgreSQL does not run. `ping` asks for no password (PQping): it exits 0 while the server accepts connections, 1 while
it refuses or does not answer in time, 127 where there is no telling.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from chaoslab.agent.processes import TOKEN_VARIABLE, Identity, identify

_PROC: Final = Path("/proc")
_PG_CTL_SECONDS: Final = 25
_PING_SECONDS: Final = 1.0
_ACCEPTS, _REJECTS, _SILENT = 0, 1, 2  # PGPing of libpq-fe.h
_CANNOT_TELL: Final = 127


class Refused(Exception):
    """There is no such server, or it does not do what it was asked."""


def describe(data: Path, programs: Path | None) -> dict[str, Any]:
    """Return what is to be known of the server that runs in `data`; see the top of this file.

    Raises:
        Refused: none runs there, or there is no pg_ctl.
    """
    server = postmaster(data)
    if server is None:
        raise Refused(f"no PostgreSQL runs in {data}, as its postmaster.pid tells it")
    return {
        "pid": server.pid,
        "start_ticks": server.start_ticks,
        "pg_ctl": str(_pg_ctl(server, programs)),
        "log": _output(server),
        "address": _address(data),
    }


def postmaster(data: Path) -> Identity | None:
    """Return the first process of the server that runs in `data`, or None.

    Raises:
        Refused: there is no telling.
    """
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        # A pid left by a crash may be another program's by now; a server works in its data folder.
        works_there = (_PROC / str(pid) / "cwd").readlink() == data.resolve()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except (OSError, ValueError, IndexError) as error:
        raise Refused(f"{data}/postmaster.pid cannot be followed: {error}") from error
    found = identify(pid) if works_there else None
    return found if found is not None and found.alive else None


def _pg_ctl(server: Identity, programs: Path | None) -> Path:
    """Return the pg_ctl that was asked for, else the one beside the running server's program, else that of PATH."""
    beside = (_PROC / str(server.pid) / "exe").readlink().with_name("pg_ctl")
    if programs is None and beside.is_file():
        return beside
    found = shutil.which("pg_ctl", path=str(programs) if programs else None)
    if found is None:
        raise Refused(f"there is no pg_ctl in {programs or 'PATH'} (name its folder in parameters.pg_bin)")
    return Path(found)


def _output(server: Identity) -> str:
    """Return the file that the server writes its messages to, where it is one."""
    target = (_PROC / str(server.pid) / "fd" / "2").readlink()
    return str(target) if target.is_file() else os.devnull


def _address(data: Path) -> str:
    """Return where the server listens: lines 4 to 6 of postmaster.pid are port, socket folder and address."""
    port, folder, listens = ((data / "postmaster.pid").read_text().split("\n") + [""] * 6)[3:6]
    host = folder or {"*": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(listens, listens)
    return f"host='{host}' port={port} dbname=postgres"


def stop(data: Path, pg_ctl: Path, mode: str) -> None:
    """Shut the server down and wait until it is.

    Raises:
        Refused: none runs, or it does not stop.
    """
    if postmaster(data) is None:
        raise Refused(f"no PostgreSQL runs in {data} any more: not ours to claim")
    _control(data, pg_ctl, "stop", "--mode", mode)


def start(data: Path, pg_ctl: Path, log: str) -> None:
    """Start the server as it was last started, and wait until it answers; one that runs is fine.

    Raises:
        Refused: it does not start.
    """
    if postmaster(data) is not None:
        return
    try:
        _control(data, pg_ctl, "start", "--log", log, "--options", shlex.join(_last_options(data)))
    except Refused:
        if postmaster(data) is None:  # else somebody else was faster
            raise


def _last_options(data: Path) -> list[str]:
    """Return the options that the server was last started with, from postmaster.opts, without its data folder."""
    try:
        options = shlex.split((data / "postmaster.opts").read_text())[1:]
    except OSError as error:
        raise Refused(f"{data}/postmaster.opts cannot be read: {error.strerror}") from error
    while "-D" in options:
        place = options.index("-D")
        del options[place : place + 2]
    return options


def _control(data: Path, pg_ctl: Path, action: str, *options: str) -> None:
    argv = [str(pg_ctl), action, "--silent", "--wait", f"--timeout={_PG_CTL_SECONDS}", f"--pgdata={data}", *options]
    # The server that it starts is nobody's fault: our mark must not stick to it.
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    try:
        result = subprocess.run(
            argv, **_as_owner(data), env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError as error:
        raise Refused(f"{pg_ctl} cannot be run: {error.strerror}") from error
    if result.returncode:
        words = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise Refused(f"pg_ctl {action}: {words[0] if words else f'exit code {result.returncode}'}")


def _as_owner(data: Path) -> dict[str, Any]:
    """Return the arguments of subprocess that make a program run as the owner of `data`, where we are root."""
    if os.geteuid() != 0:
        return {}
    place = data.stat()
    try:
        groups = os.getgrouplist(pwd.getpwuid(place.st_uid).pw_name, place.st_gid)
    except KeyError:
        groups = []
    return {"user": place.st_uid, "group": place.st_gid, "extra_groups": groups}


def ping(conninfo: str, limit: float) -> int | None:
    """Return what PQping says of the server (0 accepts, 1 rejects, 2 no response, 3 not tried), None after `limit` s.

    libpq's own time-out is in whole seconds, from 2 on, for each address: here a process of its own is given up.
    """
    from psycopg.pq import PGconn

    child = os.fork()
    if child == 0:
        os._exit(PGconn.ping(conninfo.encode()))
    descriptor = os.pidfd_open(child)
    try:
        answered = bool(select.select([descriptor], [], [], limit)[0])
        if not answered:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(status) if answered else None


def _ping(conninfo: str, limit: float) -> int:
    try:
        said = ping(conninfo, limit)
    except ImportError as error:
        print(f"{error}: pip install 'psycopg[binary]'", file=sys.stderr)
        return _CANNOT_TELL
    words = {_ACCEPTS: "accepts", _REJECTS: "rejects", _SILENT: "no response", None: f"no answer within {limit:g} s"}
    print(json.dumps({"ping": words.get(said, "not tried")}))
    return {_ACCEPTS: 0, _REJECTS: 1, _SILENT: 1, None: 1}.get(said, _CANNOT_TELL)


def _main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    try:
        match options.command:
            case "describe":
                print(json.dumps(describe(options.data, options.programs)))
            case "stop":
                stop(options.data, options.pg_ctl, options.mode)
            case "start":
                start(options.data, options.pg_ctl, options.log)
            case "ping":
                return _ping(options.conninfo, options.limit)
    except (Refused, OSError) as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.database")
    commands = parser.add_subparsers(dest="command", required=True)
    made = {name: commands.add_parser(name) for name in ("describe", "stop", "start", "ping")}
    for name in ("describe", "stop", "start"):
        made[name].add_argument("--data", type=Path, required=True)
    made["describe"].add_argument("--programs", type=Path)
    for name in ("stop", "start"):
        made[name].add_argument("--pg-ctl", type=Path, required=True)
    made["stop"].add_argument("--mode", choices=("smart", "fast", "immediate"), required=True)
    made["start"].add_argument("--log", required=True)
    made["ping"].add_argument("conninfo")
    made["ping"].add_argument("--limit", type=float, default=_PING_SECONDS)
    return parser


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))

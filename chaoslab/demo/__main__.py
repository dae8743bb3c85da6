"""The embedded shop by hand, and as its own undo.

A shop that `serve` runs ends with its stdin, or by INT, TERM or HUP.

Exit codes: 0 done, or nothing to do, or the database answers; 1 something survives, or does not start, or the database
refuses; 2 bad usage; 127 there is no telling whether the database answers.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from chaoslab.agent import processes
from chaoslab.demo import builds, database
from chaoslab.demo.premises import Premises
from chaoslab.errors import ChaoslabError, UsageError

_CANNOT_TELL = 127


def main(argv: Sequence[str]) -> int:
    """Obey one command and return its exit code."""
    options = _parser().parse_args(argv)
    # The folder can be passed through by others where PostgreSQL is another user: what lies in it is ours alone.
    os.umask(0o077)
    try:
        return int(options.obey(Premises.at(options.folder), options))
    except ChaoslabError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        print(f"{options.folder}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chaoslab.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve = commands.add_parser("serve", help="run a shop in the foreground, until stdin ends")
    serve.set_defaults(obey=_serve)
    stop = commands.add_parser("stop", help="end a shop and leave nothing of it, after any crash")
    stop.set_defaults(obey=_stop)
    control = commands.add_parser("database", help="take a shop's PostgreSQL away, bring it back, or look")
    control.set_defaults(obey=_database)
    control.add_argument("action", choices=["stop", "start", "check"])
    service = commands.add_parser("service", help="the service alone; for the supervisor")
    service.set_defaults(obey=_service)
    service.add_argument("--supervisor", type=int, required=True, metavar="PID")
    for command in (serve, service):
        command.add_argument("--build", required=True, help=" or ".join(builds.BUILDS))
        command.add_argument("--port", type=int, default=0, help="port of loopback; 0, the default, takes a free one")
    for command in (serve, stop, control, service):
        command.add_argument("--folder", type=Path, required=True, metavar="DIR", help="the shop's folder")
    return parser


def _serve(shop: Premises, options: argparse.Namespace) -> int:
    from chaoslab.demo import supervisor

    build = builds.find(options.build)
    token = os.environ.get(processes.TOKEN_VARIABLE)
    if not token:
        _begin_again_with_a_token()
    supervisor.serve(shop, build=build, port=options.port, token=token)
    return 0


def _begin_again_with_a_token() -> NoReturn:
    """Replace this process by itself with a token: others read it from the environment that a process began with."""
    marked = {**os.environ, processes.TOKEN_VARIABLE: f"shop-{secrets.token_hex(8)}"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], marked)


def _stop(shop: Premises, options: argparse.Namespace) -> int:
    from chaoslab.demo import teardown

    survivors = teardown.clear(shop)
    for survivor in survivors:
        print(f"{survivor} survives", file=sys.stderr)
    return 1 if survivors else 0


def _database(shop: Premises, options: argparse.Namespace) -> int:
    if options.action == "check":
        return _check(shop)
    if options.action == "stop":
        shop.require()
        database.stop(shop)
        return 0
    return _start(shop)


def _start(shop: Premises) -> int:
    try:
        shop.require()
        database.start(shop)
    except (ChaoslabError, OSError):
        if shop.path.exists():
            raise
        # As an undo it runs after crashes too, beside whatever clears the shop away: then nothing is left to start.
        print(f"there is no shop in {shop.path} any more: nothing to start")
    return 0


def _check(shop: Premises) -> int:
    try:
        shop.require()
        answers = database.answers(shop)
    except (ChaoslabError, OSError) as error:
        # A shop that is not there, or not ours, must not pass for a database that refuses.
        print(error, file=sys.stderr)
        return _CANNOT_TELL
    print(f"PostgreSQL in {shop.data} {'answers' if answers else 'refuses'}")
    return 0 if answers else 1


def _service(shop: Premises, options: argparse.Namespace) -> int:
    processes.die_with_parent()
    if os.getppid() != options.supervisor:
        return 1  # it died before the line above could bind us to it
    from chaoslab.demo import service

    service.run(shop, build=builds.find(options.build), port=options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

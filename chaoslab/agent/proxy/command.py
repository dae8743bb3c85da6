"""A proxy in front of the target, and the toxics in it.

    python -m chaoslab.agent.proxy serve PROXY --listen HOST:PORT --upstream HOST:PORT --seconds S
    python -m chaoslab.agent.proxy stream PROXY TOXIC [--delay-ms D --jitter-ms J] [--loss-percent P] [--black-hole] …
    python -m chaoslab.agent.proxy requests PROXY TOXIC [--percent P] [--path GLOB] [--status S | --reset | --hang] …
    python -m chaoslab.agent.proxy stats PROXY TOXIC [--send URL --to HOST:PORT]
    python -m chaoslab.agent.proxy clear PROXY TOXIC

PROXY and TOXIC are names; several toxics can stand at once. `stream` and `requests` set one, `stats` prints how it is
set, what it counted, and with --send what becomes of a request now. `clear` exits 0 once no such toxic stands, also
where there is no such proxy; the others exit 1 there.

The prober is sent through it for the whole run, baseline and all, so that what the proxy itself adds is on both sides
of every comparison. With no toxic set it hands bytes on as they come.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from chaoslab.agent.proxy.control import NoAnswer, ask

_NOT_SETTINGS = {"command", "proxy", "toxic"}


def _pair(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip().lower(), value.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaoslab.agent.proxy")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("proxy")
    serve.add_argument("--listen", type=_pair, required=True)
    serve.add_argument("--upstream", type=_pair, required=True)
    serve.add_argument("--seconds", type=float, required=True)
    stream, requests, stats, clear = (commands.add_parser(name) for name in ("stream", "requests", "stats", "clear"))
    for one in (stream, requests, stats, clear):
        one.add_argument("proxy")
        one.add_argument("toxic")
    for one in (stream, requests):
        for option in ("--delay-ms", "--jitter-ms", "--bytes-per-second"):
            one.add_argument(option, type=float, default=0.0)
        one.add_argument("--seed", type=int, default=0)
    stream.add_argument("--loss-percent", type=float, default=0.0)
    stream.add_argument("--black-hole", action="store_true")
    _add_matching(requests)
    stats.add_argument("--send", dest="url")
    stats.add_argument("--to", type=_pair)
    return parser


def _add_matching(requests: argparse.ArgumentParser) -> None:
    requests.add_argument("--percent", type=float, default=100.0)
    requests.add_argument("--path")
    requests.add_argument("--method", dest="methods", action="append", default=[])
    requests.add_argument("--header", dest="headers", type=_header, action="append", default=[])
    ending = requests.add_mutually_exclusive_group()
    ending.add_argument("--status", type=int)
    ending.add_argument("--reset", action="store_true")
    ending.add_argument("--hang", action="store_true")


def _set(options: argparse.Namespace) -> dict[str, Any] | None:
    settings = {name: value for name, value in vars(options).items() if name not in _NOT_SETTINGS}
    if "headers" in settings:
        settings["headers"] = dict(settings["headers"])
    return ask(options.proxy, command="set", toxic=options.toxic, kind=options.command, settings=settings)


def _stats(options: argparse.Namespace) -> int:
    passage = None
    if options.url:
        from chaoslab.agent.proxy.passage import pass_through

        passage = pass_through(options.url, options.to)
    state = ask(options.proxy, command="stats", toxic=options.toxic)
    if state is None:
        return _absent(options)
    toxic = state["toxic"] or {}
    print(json.dumps({**toxic, "standing": state["standing"], "unfollowed": state["unfollowed"], "passage": passage}))
    return 0 if toxic else 1


def _absent(options: argparse.Namespace) -> int:
    print(f"there is no proxy {options.proxy}", file=sys.stderr)
    return 1


def main(argv: Sequence[str]) -> int:
    """Run one command."""
    options = _parser().parse_args(argv)
    if options.command == "serve":
        from chaoslab.agent.proxy.server import serve

        serve(options.proxy, listen=options.listen, upstream=options.upstream, seconds=options.seconds)
        return 0
    try:
        if options.command == "stats":
            return _stats(options)
        if options.command == "clear":
            state = ask(options.proxy, command="clear", toxic=options.toxic)
            return 1 if state is not None and options.toxic in state["standing"] else 0
        return 0 if _set(options) is not None else _absent(options)
    except NoAnswer as failure:
        print(failure, file=sys.stderr)
        return 1

"""Running a command in place of this process.

A command of the agent runs in this very interpreter: that saves the start of another one, and it works where the agent
is nowhere on disk (`chaoslab.agent.ssh`). Anything else is a program, and replaces this process.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader
from types import ModuleType
from typing import Final

_AGENT: Final = "chaoslab.agent."


def module_of(argv: Sequence[str]) -> str:
    """Return the module of a command of the agent, whichever interpreter it names; empty for another program.

    >>> module_of(["/usr/bin/python3", "-m", "chaoslab.agent.facts", "--folder", "/tmp"]), module_of(["tc", "qdisc"])
    ('chaoslab.agent.facts', '')
    """
    return argv[2] if len(argv) > 2 and argv[1] == "-m" and argv[2].startswith(_AGENT) else ""


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options before the first "--", and the command after it; argparse would swallow a second "--".

    >>> split(["--port", "80", "--", "within", "--", "ls"])
    (['--port', '80'], ['within', '--', 'ls'])
    """
    end = list(argv).index("--") if "--" in argv else len(argv)
    return list(argv[:end]), list(argv[end + 1 :])


def become(argv: Sequence[str]) -> int:
    """Run `argv` in place of this process; return only to say that it cannot be started (127), or has ended."""
    if module := module_of(argv):
        return _run(module, argv[3:])
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        print(f"{argv[0]} cannot be started: {error.strerror}", file=sys.stderr)
    return 127


def _run(module: str, arguments: Sequence[str]) -> int:
    found = importlib.util.find_spec(module)
    if found is None or not isinstance(found.loader, InspectLoader):
        print(f"there is no command {module}", file=sys.stderr)
        return 127
    code = found.loader.get_code(module)
    assert code is not None
    # As `python -m` does; runpy would complain of a module that this process has imported already.
    main = ModuleType("__main__")
    sys.modules["__main__"], sys.argv = main, [module, *arguments]
    exec(code, main.__dict__)
    return 0

"""One execution in a process of its own: `python -m chaoslab.batch.job ORDER RESULT`, both JSON files."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chaoslab import errors, store
from chaoslab.agent import processes
from chaoslab.batch.result import Result
from chaoslab.errors import ChaoslabError


def main(argv: Sequence[str]) -> int:
    """Execute what the order says, write the result, and return 0."""
    # With us goes the kernel, and then its guardian undoes what was injected.
    processes.die_with_parent()
    order, target = (Path(argument) for argument in argv)
    store.write_json(target, _execute(json.loads(order.read_text(encoding="utf-8"))).as_dict())
    return 0


def _execute(order: dict[str, Any]) -> Result:
    from chaoslab.report import notebook

    source, stem = Path(order["notebook"]), Path(order["stem"])
    began = time.monotonic()
    try:
        executed = notebook.execute(
            source, stem.with_suffix(".ipynb"), order["parameters"], cwd=Path(order["cwd"]), limit=None
        )
        store.write_text(stem.with_suffix(".html"), notebook.as_page(executed, title=order["title"]))
    except ChaoslabError as error:
        code = _code(error)
        return Result(
            exit_code=code, strict_exit_code=code, error=str(error), seconds=round(time.monotonic() - began, 1)
        )
    told = notebook.outcome(executed) or {}
    return Result(
        exit_code=int(told.get("exit_code", 0)),
        strict_exit_code=int(told.get("strict_exit_code", 0)),
        outcome=str(told.get("outcome", "")),
        says=str(told.get("says", "")),
        seconds=round(time.monotonic() - began, 1),
    )


def _code(error: ChaoslabError) -> int:
    """Return the exit code of what was raised in the notebook; it is known by its name alone."""
    name = getattr(error.__cause__, "ename", "")
    if name in (errors.Interrupted.__name__, KeyboardInterrupt.__name__):
        return 128 + signal.SIGINT
    kind = getattr(errors, name, None)
    return kind.exit_code if isinstance(kind, type) and issubclass(kind, ChaoslabError) else error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

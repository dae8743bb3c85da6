"""python -m tests.conform JOBS NAME...: takes mechanisms through the kit, and prints {NAME: problem} as JSON.

A process of its own, so that it can be in a network namespace of its own, and so that others can go on meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from chaoslab.conformance import conform
from chaoslab.errors import ChaoslabError
from tests.faults import kit
from tests.faults.trials import NAMESPACED, TRIALS

IN_A_NAMESPACE = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
_JOBS = 2


def start(names: Iterable[str], *, namespaced: bool) -> subprocess.Popen[str]:
    """Begin to try the mechanisms of those names."""
    # In one namespace each sees what the others do.
    jobs = 1 if namespaced else _JOBS
    argv = [*(IN_A_NAMESPACE if namespaced else ()), sys.executable, "-m", "tests.conform", str(jobs), *names]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def problem(name: str) -> str:
    """Take one mechanism through the kit; return what it does not keep, or an empty string."""
    try:
        with TRIALS[name]() as trial:
            conform(trial)
    except ChaoslabError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    jobs, *asked = sys.argv[1:]
    if set(asked) <= set(NAMESPACED):
        kit.open_tables()
    with ThreadPoolExecutor(int(jobs)) as pool:
        print(json.dumps(dict(zip(asked, pool.map(problem, asked), strict=True))))

"""python -m tests.dry_run NAME...: rehearses mechanisms, and prints {NAME: what that changed} as JSON.

Each is rehearsed twice: by the command line, which chooses the mechanism itself, and by that very mechanism.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaoslab import targets
from chaoslab.cli import main
from chaoslab.conformance import Trial
from chaoslab.delivery import Chosen
from chaoslab.plan import PlannedRun, make_plan
from chaoslab.rehearsal import rehearse
from chaoslab.scenario_file import parse
from tests import servers
from tests.faults import kit
from tests.faults.trials import NAMESPACED, TRIALS
from tests.test_survival import ours

_ATTEMPTS = 4
_OUTPUT = "rehearsal"


def scenario_file(trial: Trial) -> str:
    """A file with the trial's one scenario, as a user would write it."""
    parameters = trial.asked.parameters.model_dump(mode="json", exclude_unset=True)
    entry = {"name": "S", "type": trial.asked.type, "duration": 3, "parameters": parameters}
    return json.dumps({"scenarios": [entry]})


def planned(trial: Trial) -> tuple[PlannedRun, Any]:
    file = parse(scenario_file(trial))
    plan = make_plan(file, file.scenarios, repeats=1, seed=1, duration_scale=1.0)
    return plan.runs[0], plan


def rehearsed(trial: Trial, work: Path) -> str:
    """Rehearse it both ways; return what the command line printed."""
    run, plan = planned(trial)
    where = replace(trial.where, route=None)
    assert trial.mechanism.obstacle(run.scenario, where) is None
    assert rehearse(run, plan, [Chosen(fault=run.scenario, mechanism=trial.mechanism, where=where)]).steps
    printed = io.StringIO()
    options = ["--config", str(work / "f.yml"), "--target", trial.where.url, "--repeats", "1", "--allow-commands"]
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        main(["run", *options, "--dry-run", "--output", str(work / _OUTPUT)])
    assert ended.value.code == 0, printed.getvalue()
    return printed.getvalue()


def picture(trial: Trial, work: Path) -> dict[str, Any]:
    """What there is to be changed: see each line."""
    state = Path(os.environ[targets.STATE_VARIABLE])
    return {
        "victim": repr(trial.state()),
        "our processes": sorted(f"{one.pid} {one.create_time()}" for one in ours(state)),
        "packet filter": kit.rules(),
        "queues": [_said(*enter, "tc", "qdisc", "show") for enter in _networks()],
        "containers": _containers(),
        "control groups": sorted(_groups()),
        "state folder": sorted(_files(state)),
        "working folder": sorted(_files(work)),
        "frozen": sorted(path.name for path in Path("/tmp").glob("chaoslab-frozen-*")),
        "connections to the target": _connections(trial.where.url),
    }


def _networks() -> Iterator[list[str]]:
    """How each network namespace that has a name is entered; first, ours, in which one already is."""
    yield []
    for line in _said("ip", "netns", "list").splitlines():
        yield ["ip", "netns", "exec", line.split()[0]]


def _containers() -> list[str]:
    ids = _said("docker", "ps", "--all", "--quiet", "--no-trunc").split()
    shown = "{{.Name}} {{json .State}} {{.RestartCount}} {{json .HostConfig.RestartPolicy}}"
    return sorted(_said("docker", "inspect", "--format", shown, *ids).splitlines()) if ids else []


def _groups() -> Iterator[str]:
    for folder, _, _ in os.walk("/sys/fs/cgroup"):
        if "/docker" not in folder:
            yield folder


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if _OUTPUT not in path.parts:
            yield f"{path} {path.lstat().st_mtime_ns if path.is_file() else ''}"


def _connections(url: str) -> int:
    """How many connections the service has had; the one that asks is not counted."""
    _connections.asked += 1  # type: ignore[attr-defined]
    with contextlib.suppress(OSError, ValueError):
        import urllib.request

        with urllib.request.urlopen(f"{url.rpartition('/')[0]}/seen", timeout=5) as answer:
            return int(json.load(answer)["connections"]) - int(_connections.asked)  # type: ignore[attr-defined]
    return 0


_connections.asked = 0  # type: ignore[attr-defined]


@contextlib.contextmanager
def _with_quiet_target(trial: Trial) -> Iterator[Trial]:
    """Aim a trial of the proxy, which is asked all along, at a service that nobody else asks."""
    if trial.where.route is None:
        yield trial
        return
    with servers.running() as server:
        yield replace(trial, where=replace(trial.where, url=server.url("/ok")))


def _said(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True).stdout


def changes(name: str, work: Path) -> str:
    """Rehearse the mechanism of that name; return what is different afterwards, or an empty string.

    What other programs of this machine do meanwhile does not come again and again; what a rehearsal changes does.
    """
    (work / "tmp").mkdir(parents=True)
    os.environ["TMPDIR"] = str(work / "tmp")
    with TRIALS[name]() as opened, _with_quiet_target(opened) as trial:
        (work / "f.yml").write_text(scenario_file(trial))
        if trial.where.target is not None:
            targets.publish(trial.where.target)
        for attempt in range(_ATTEMPTS):
            before = picture(trial, work)
            printed = rehearsed(trial, work)
            after = picture(trial, work)
            assert "DRY RUN" in printed
            different = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
            (work / _OUTPUT).rename(work.with_name(f"{work.name}-{attempt}"))
            if not different:
                return ""
    return json.dumps(different)


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    if set(names) <= set(NAMESPACED):
        kit.open_tables()
    print(json.dumps({name: changes(name, Path(folder) / str(number)) for number, name in enumerate(names)}))

"""How a shop begins and ends: whatever happens, nothing of it is left."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from chaoslab import targets
from chaoslab.agent import processes
from chaoslab.agent.processes import TOKEN_VARIABLE
from chaoslab.demo import database, launch, serve_command, stop_command
from chaoslab.demo.commands import database_command
from chaoslab.demo.premises import Premises
from chaoslab.errors import ChaoslabError, UsageError
from tests.conftest import missing
from tests.demo.conftest import Site, until

STOP_LIMIT_SECONDS = 2.0
_INSTANTS = [round((stratum + random.Random(stratum).random()) / 6, 3) for stratum in range(6)]


def stop(site: Site) -> subprocess.CompletedProcess[str]:
    return subprocess.run(stop_command(folder=site.folder), capture_output=True, text=True, timeout=10)


def connects(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.TransportError:
        return False
    return True


def segments(folder: Path) -> list[str]:
    """System V shared memory whose key is the inode of the shop's data folder."""
    key = ctypes.c_int((folder / "data").stat().st_ino).value
    table = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [line for line in table if int(line.split()[0]) == key]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, None], ids=str)
def test_a_shop_served_by_hand_ends_with_its_parent_or_by_a_signal(site: Site, ending: signal.Signals | None) -> None:
    unmarked = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    argv = serve_command(folder=site.folder, build="fragile")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=unmarked) as supervisor:
        assert supervisor.stdin is not None
        assert supervisor.stdout is not None
        url = json.loads(supervisor.stdout.readline())["url"]
        assert connects(url)
        token = site.premises.token
        assert token is not None
        if ending is None:
            supervisor.stdin.close()
        else:
            supervisor.send_signal(ending)
        assert supervisor.wait(timeout=5) == 0
    assert not connects(url)
    assert site.left() == []
    assert processes.family(token) == frozenset()


def test_the_service_dies_with_a_killed_supervisor_and_stop_removes_the_rest(site: Site) -> None:
    shop = site.launch("fragile")
    shop.process.kill()
    shop.process.wait()
    until(lambda: not connects(shop.url), seconds=2.0)
    assert site.left() != []
    before = time.monotonic()
    result = stop(site)
    assert (result.returncode, result.stderr) == (0, "")
    assert time.monotonic() - before < STOP_LIMIT_SECONDS
    assert site.left() == []
    shop.close()


def test_stop_ends_a_shop_that_runs_and_stopping_again_is_fine(site: Site) -> None:
    shop = site.launch("resilient")
    assert [stop(site).returncode for _ in range(2)] == [0, 0]
    assert site.left() == []
    assert not connects(shop.url)
    shop.close()


@pytest.mark.parametrize("instant", _INSTANTS)
def test_a_supervisor_killed_while_it_starts_leaves_nothing_that_stop_does_not_remove(
    site: Site, instant: float
) -> None:
    with processes.spawn(
        serve_command(folder=site.folder, build="fragile"), token=site.token, stdin=subprocess.PIPE
    ) as supervisor:
        started = time.monotonic()
        until(lambda: time.monotonic() - started > instant)
        supervisor.kill()
    result = stop(site)
    assert (result.returncode, result.stderr) == (0, "")
    assert site.left() == []


def test_a_shop_that_is_stopped_while_it_starts_leaves_nothing(site: Site) -> None:
    with processes.spawn(
        serve_command(folder=site.folder, build="fragile"), token=site.token, stdin=subprocess.PIPE
    ) as supervisor:
        until(site.premises.data.exists)
        assert stop(site).returncode == 0
        supervisor.wait(timeout=5)
    assert site.left() == []


def test_a_server_that_was_frozen_or_killed_leaves_no_shared_memory_behind(site: Site) -> None:
    shop = site.launch("fragile")
    assert len(segments(site.folder)) == 1
    for server in database.server_processes(site.premises):
        server.send(signal.SIGKILL)
    until(lambda: not database.server_processes(site.premises))
    assert len(segments(site.folder)) == 1
    database.forget_shared_memory(site.premises)
    assert segments(site.folder) == []
    database.start(site.premises)
    for server in database.server_processes(site.premises):
        server.send(signal.SIGSTOP)
    shop.close()
    assert site.left() == []


def test_a_database_that_another_process_started_belongs_to_the_shop_all_the_same(site: Site) -> None:
    shop = site.launch("fragile")
    database.stop(site.premises)
    foreign = {**os.environ, TOKEN_VARIABLE: "the-token-of-a-fault"}
    subprocess.run(database_command("start", folder=site.folder), env=foreign, check=True)
    assert processes.family("the-token-of-a-fault") == frozenset()
    shop.process.kill()
    assert stop(site).returncode == 0
    assert site.left() == []
    shop.close()


def test_a_publication_that_another_shop_took_over_is_not_withdrawn(site: Site) -> None:
    url = "http://127.0.0.1:1"
    site.premises.occupy(site.token)
    site.premises.url_file.write_text(url)
    successor = targets.Target(url=url, name="another", build="fragile", pid_file="elsewhere")
    targets.publish(successor)
    assert stop(site).returncode == 0
    assert targets.find(url) == successor


def test_a_port_that_is_taken_is_named_in_one_sentence(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        argv = serve_command(folder=site.folder, build="fragile", port=port)
        result = subprocess.run(argv, stdin=subprocess.PIPE, capture_output=True, text=True)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert f"port {port}" in result.stderr
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 cannot be had.*accepted: a free port"):
            site.launch("fragile", port=port)
    assert site.left() == []


def test_an_unknown_build_is_refused_before_anything_is_made(site: Site) -> None:
    nowhere = site.folder / "new"
    with pytest.raises(UsageError, match=r"no build 'fragil' \(did you mean 'fragile'\?\)"):
        launch(folder=nowhere, build="fragil", token=site.token)
    argv = serve_command(folder=nowhere, build="sturdy")
    result = subprocess.run(argv, stdin=subprocess.PIPE, capture_output=True, text=True)
    assert (result.returncode, "accepted: fragile, resilient" in result.stderr) == (2, True)
    assert not nowhere.exists()


def test_a_folder_that_holds_something_else_is_neither_used_nor_removed(site: Site) -> None:
    (site.folder / "letter").write_text("dear")
    with pytest.raises(UsageError, match="is not empty"):
        site.launch("fragile")
    result = stop(site)
    assert (result.returncode, "left alone" in result.stderr) == (2, True)
    assert (site.folder / "letter").read_text() == "dear"


def test_a_folder_whose_socket_would_have_too_long_a_path_is_refused(site: Site) -> None:
    with pytest.raises(UsageError, match="too long"):
        launch(folder=site.folder / ("x" * 80), build="fragile", token=site.token)


def test_a_shop_that_cannot_start_says_why_and_leaves_nothing(site: Site) -> None:
    site.premises.occupy(site.token)
    site.premises.data.mkdir()  # where initdb's is to be
    with pytest.raises(ChaoslabError, match="does not open"):
        site.launch("fragile")
    assert site.left() == []


def test_a_check_without_a_shop_does_not_pass_for_a_database_that_refuses(site: Site) -> None:
    for argv, expected in (
        (database_command("check", folder=site.folder), 127),
        (database_command("start", folder=site.folder), 2),
        (database_command("stop", folder=site.folder), 2),
    ):
        result = subprocess.run(argv, capture_output=True, text=True)
        assert (result.returncode, "there is no shop" in result.stderr) == (expected, True)


def test_programs_that_the_unprivileged_user_cannot_reach_are_copied(site: Site) -> None:
    if os.geteuid() != 0:
        missing("only root runs PostgreSQL as somebody else: run the tests as root")
    private = site.folder / "private"
    private.mkdir(mode=0o700)
    package = database.installed().parent
    for part in (package, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(part, private / part.name, ignore=shutil.ignore_patterns("pginstall", "include", "*.a"))
    install = private / package.name / database.installed().name
    shop = Premises.at(site.folder / "shop")
    site.folder.chmod(0o711)
    shop.occupy(site.token)
    database.create(shop, source=install)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(database.stop, shop)
        database.start(shop)
        assert database.answers(shop)
        programs = {Path(f"/proc/{server.pid}/exe").readlink() for server in database.server_processes(shop)}
    assert len(programs) == 1
    assert shop.postgres in programs.pop().parents


def test_nothing_heavy_is_imported_with_the_demo() -> None:
    code = "import sys, chaoslab.demo; print([m for m in ('starlette', 'uvicorn', 'psycopg') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"

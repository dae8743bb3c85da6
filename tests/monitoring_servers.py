"""Debian's own Prometheus and Pushgateway, each on a free port of loopback with a folder of its own.

with pushgateway(folder) as gateway, prometheus(folder, configuration) as server:
    server.query("chaos_slo_passed")
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

PATIENCE = 30.0
USER, PASSWORD = "chaos", "correct-horse-9"
_HASH = "$2b$04$abcdefghijklmnopqrstuudO62L7Qkirs/huImrwIVmHMiSKU/YP."  # bcrypt of PASSWORD


@dataclass(frozen=True)
class Server:
    """The handle on a server."""

    port: int
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def get(self, path: str, **parameters: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}") as answer:
            return json.load(answer)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=expression)["data"]["result"]
        return found

    def eventually(
        self, expression: str, wanted: Callable[[list[dict[str, Any]]], bool] = bool
    ) -> list[dict[str, Any]]:
        """Return the samples once they are what is wanted: scraping takes its time."""
        return until(lambda: self.query(expression), wanted, expression)


def until(look: Callable[[], Any], wanted: Callable[[Any], bool], what: str) -> Any:
    """Return what `look` returns once it is wanted."""
    ends = time.monotonic() + PATIENCE
    while not wanted(found := look()):
        assert time.monotonic() < ends, f"{what}: still {found}"
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def protected(folder: Path, certificate: Path) -> Path:
    """Return a web configuration with TLS and basic authentication."""
    file = folder / "web.yml"
    file.write_text(
        json.dumps(
            {
                "tls_server_config": {"cert_file": str(certificate), "key_file": str(certificate)},
                "basic_auth_users": {USER: _HASH},
            }
        )
    )
    return file


@contextmanager
def pushgateway(folder: Path, web: Path | None = None) -> Iterator[Server]:
    port = free_port()
    argv = ["prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{port}", "--persistence.file="]
    argv += [f"--web.config.file={web}"] if web else []
    with _running(argv, folder, Server(port, "https" if web else "http")) as server:
        yield server


@contextmanager
def prometheus(folder: Path, configuration: dict[str, Any]) -> Iterator[Server]:
    """A Prometheus with `configuration`; JSON is YAML."""
    port, file = free_port(), folder / "prometheus.yml"
    file.write_text(json.dumps(configuration))
    argv = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    argv += [f"--web.listen-address=127.0.0.1:{port}"]
    with _running(argv, folder, Server(port)) as server:
        yield server


@contextmanager
def node_exporter(folder: Path, collected: Path) -> Iterator[Server]:
    """A node exporter that collects text files, and nothing else."""
    port = free_port()
    argv = ["prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile"]
    argv += [f"--collector.textfile.directory={collected}", f"--web.listen-address=127.0.0.1:{port}"]
    with _running(argv, folder, Server(port)) as server:
        yield server


@contextmanager
def _running(argv: Sequence[str], folder: Path, server: Server) -> Iterator[Server]:
    said = folder / f"{Path(argv[0]).name}.log"
    with said.open("w") as log, subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log) as process:
        try:
            until(lambda: process.poll() is not None or _ready(server), bool, f"{argv[0]} to start")
            assert process.poll() is None, said.read_text()
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready(server: Server) -> bool:
    try:
        if server.scheme == "https":  # that it answers at all: it wants a password
            with socket.create_connection(("127.0.0.1", server.port), 1):
                return True
        urllib.request.urlopen(f"{server.url}/-/ready", timeout=1).close()
    except HTTPError as error:
        return error.code == 404  # an exporter is ready when it answers
    except (URLError, OSError, ssl.SSLError):
        return False
    return True

"""A proxy of the test's own, between a client and a target that are both plain sockets of the test.

with proxied() as way:
    client, target = way.connect()
    way.set("t", "requests", "--status", "503"), way.stats("t"), way.clear("t")
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from chaoslab.agent import processes
from chaoslab.agent.proxy.command import main
from tests.test_processes import until

PROXY = (sys.executable, "-m", "chaoslab.agent.proxy")
PATIENCE = 10.0


class Way:
    """The handle on the proxy, and on the sockets on either side of it."""

    def __init__(self, process: subprocess.Popen[bytes], token: str, port: int, listener: socket.socket) -> None:
        self.process = process
        self.port = port
        self._token = token
        self._listener = listener
        self._sockets = ExitStack()

    def client(self) -> socket.socket:
        client = self._sockets.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def target(self) -> socket.socket:
        target = self._sockets.enter_context(self._listener.accept()[0])
        target.settimeout(PATIENCE)
        return target

    def connect(self) -> tuple[socket.socket, socket.socket]:
        return self.client(), self.target()

    def set(self, toxic: str, kind: str, *options: str) -> None:
        self.run(kind, self._token, toxic, *options)

    def clear(self, toxic: str) -> None:
        self.run("clear", self._token, toxic)

    def stats(self, toxic: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("stats", self._token, toxic))
        return found

    def run(self, *arguments: str) -> str:
        said, complained = io.StringIO(), io.StringIO()
        with redirect_stdout(said), redirect_stderr(complained):
            exit_code = main(arguments)
        assert exit_code == 0, complained.getvalue()
        return said.getvalue()

    def resident_bytes(self) -> int:
        return processes.anonymous_bytes(self.process.pid)

    def close(self) -> None:
        self._sockets.close()


@contextmanager
def proxied() -> Iterator[Way]:
    token, port = f"test-{os.urandom(4).hex()}", free_port()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.settimeout(PATIENCE)
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        argv = (*PROXY, "serve", token, "--listen", f"127.0.0.1:{port}", "--upstream", upstream, "--seconds", "60")
        with subprocess.Popen(argv) as process:
            way = Way(process, token, port, listener)
            try:
                until(lambda: opens(port))
                listener.accept()[0].close()
                yield way
            finally:
                way.close()
                process.kill()


def opens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def receive(connection: socket.socket, count: int) -> bytes:
    """Exactly so many bytes, or fewer where the stream ends before."""
    parts = []
    while count and (part := connection.recv(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def silent(connection: socket.socket, seconds: float = 0.1) -> bool:
    """Whether nothing comes for a while."""
    connection.settimeout(seconds)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(PATIENCE)
    return False


def get(path: str = "/", *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: x", *headers, "", "")).encode()


def ok(body: bytes = b"ok") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def answer(client: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    """The next answer on a connection: its status and its body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = client.recv(1)
        if not part:
            raise ConnectionResetError("closed without an answer")
        head += part
    lines = head.decode().splitlines()
    length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)
    return int(lines[0].split()[1]), receive(client, length if method != "HEAD" else 0)


def exchange(client: socket.socket, target: socket.socket, request: bytes, reply: bytes | None = None) -> bytes:
    """Send a request, let the target answer it, and return what the target was asked."""
    client.sendall(request)
    asked = receive(target, len(request))
    reply = ok() if reply is None else reply
    target.sendall(reply)
    assert receive(client, len(reply)) == reply
    return asked

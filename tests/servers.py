"""A small web service in a process of its own, that can be frozen, killed and asked how it was used.

with running() as service:
    service.url("/ok"), service.freeze(), service.thaw(), service.kill()

/ok  /status/503  /slow/0.3   answers, with a status, after some seconds
/hang  /reset  /cut           never answers, closes without an answer, closes in the middle of one
/garbage                      is no HTTP
/early  /unsized  /closing    an interim answer first, an answer without a length, one that closes the connection
/fickle                       closes the connection 20 ms after the answer
/sized/200  /chunked/200      announces a body of five bytes, by its length or in chunks, and sends none
/seen                         {"connections": how many so far, "authorization": the last such header, "method", "body":
                              of the last request but this}
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Service:
    """The handle on the process."""

    def __init__(self, process: subprocess.Popen[str], port: int, scheme: str) -> None:
        self.process = process
        self.port = port
        self.scheme = scheme

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def seen(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url("/seen")) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@contextmanager
def served_by(*argv: str, tls: bool = False) -> Iterator[Service]:
    """A server that Python runs with `argv`, and that says its port in its first line."""
    with subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Service(process, int(process.stdout.readline()), "https" if tls else "http")
        finally:
            process.kill()


def running(*, port: int = 0, certificate: str = "") -> AbstractContextManager[Service]:
    return served_by(__file__, str(port), certificate, tls=bool(certificate))


class _Connection(asyncio.Protocol):
    connections = 0
    authorization = ""
    method = ""
    body = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _Connection.connections += 1
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"PRI "):  # HTTP/2, which is not known here
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
            return
        head = data.decode()
        for line in head.splitlines():
            if line.startswith("Authorization: "):
                _Connection.authorization = line
        _, _, *path = head.split(" ")[1].split("/")
        if not head.startswith("GET /seen"):
            _Connection.method, _Connection.body = head.split(" ")[0], head.partition("\r\n\r\n")[2]
        self.answer(head.split(" ")[1].split("/")[1], path[0] if path else "")

    def answer(self, name: str, detail: str) -> None:
        write, loop = self.transport.write, asyncio.get_running_loop()
        match name:
            case "status":
                write(f"HTTP/1.1 {detail} Found\r\nContent-Length: 0\r\n\r\n".encode())
            case "slow":
                loop.call_later(float(detail), write, OK)
            case "hang":
                pass
            case "reset":
                self.transport.abort()
            case "cut":
                write(OK[:-1])
                self.transport.close()
            case "garbage":
                write(b"SSH-2.0-OpenSSH\r\n\r\n")
            case "early":
                write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)
            case "unsized":
                write(b"HTTP/1.1 200 OK\r\n\r\nsome text")
                self.transport.close()
            case "sized":
                write(f"HTTP/1.1 {detail} Found\r\nContent-Length: 5\r\n\r\n".encode())
            case "chunked":
                write(f"HTTP/1.1 {detail} Found\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            case "fickle":
                write(OK)
                loop.call_later(0.02, self.transport.close)
            case "closing":
                write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                self.transport.close()
            case "seen":
                seen = {name: getattr(self, name) for name in ("connections", "authorization", "method", "body")}
                body = json.dumps(seen).encode()
                write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            case _:
                write(OK)


async def _serve(port: int, certificate: str) -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        _Connection, "127.0.0.1", port, ssl=context, backlog=1024, reuse_address=True
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))

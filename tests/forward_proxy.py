"""A forward proxy in a process of its own: requests in absolute form, and CONNECT (RFC 9110, section 9.3.6).

with forwarding(credentials="me:secret", certificate="both.pem") as proxy: proxy.url(""), proxy.seen()

It lets in who shows `credentials`, if it has any. /seen of the proxy itself says what it was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
from base64 import b64encode
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from tests.servers import Service, served_by


def forwarding(*, credentials: str = "", certificate: str = "") -> AbstractContextManager[Service]:
    return served_by("-m", "tests.forward_proxy", credentials, certificate, tls=bool(certificate))


class Proxy:
    def __init__(self, credentials: str) -> None:
        self.wanted = f"Basic {b64encode(credentials.encode()).decode()}" if credentials else ""
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split("\r\n")[0].split(" ")
            if target == "/seen":
                body = json.dumps({"asked": sorted(set(self.asked))})
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                return
            self.asked.append(f"{method} {target}")
            if self.wanted and f"proxy-authorization: {self.wanted}".lower() not in head.lower():
                writer.write(b"HTTP/1.1 407 Who Are You\r\nContent-Length: 0\r\n\r\n")
                return
            parts = urlsplit(target if method != "CONNECT" else f"//{target}")
            there, back = await asyncio.open_connection(parts.hostname, parts.port)
            with contextlib.closing(back):
                if method == "CONNECT":
                    writer.write(b"HTTP/1.1 200 Go On\r\n\r\n")
                else:
                    # One request on each connection, so that no later one needs to be read.
                    own = head.replace(f"{parts.scheme}://{parts.netloc}", "", 1)
                    back.write(own.replace("\r\n", "\r\nConnection: close\r\n", 1).encode())
                await asyncio.gather(_pour(reader, back), _pour(there, writer))


async def _pour(source: asyncio.StreamReader, drain: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        drain.write(data)
        await drain.drain()
    drain.close()


async def main(credentials: str, certificate: str) -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await asyncio.start_server(Proxy(credentials).serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""A web server that speaks HTTP/1.1 and HTTP/2 (Hypercorn), in a process of its own: `servers.Service` is its handle.

with serving() as web, serving(certificate="both.pem") as secure: web.url("/ok")

/ok  /status/503  /hang       answers, with a status, never
/hop/3  /loop                 leads to the answer in three redirects, or in none
/away?URL                     redirects there
/session                      sets a cookie and redirects to where it is asked for
/digest/SHA-256  /digest/odd  asks for a digest of USER and PASSWORD (RFC 7616), or in a way that nobody knows
/seen                         of all requests but those here: versions of HTTP, clients (host and port), and of the last
                              one its method, path, headers, body
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import ssl
import sys
from contextlib import AbstractContextManager
from typing import Any, Final

from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.servers import Service, served_by

USER: Final = "me"
PASSWORD: Final = "d1gest-secret"
_NONCE: Final = "dcd98b7102dd2f0e8b11d0f600bfb0c093"


def serving(*, certificate: str = "", clients: str = "") -> AbstractContextManager[Service]:
    """`clients`: authorities of certificates that a client must show."""
    return served_by("-m", "tests.web", certificate, clients, tls=bool(certificate))


class App:
    def __init__(self) -> None:
        self.seen: dict[str, Any] = {"versions": [], "clients": []}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("only http")
        body = b""
        while (event := await receive())["type"] == "http.request":
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if scope["path"] != "/seen":
            client = ":".join(map(str, scope["client"]))
            self.seen["versions"] = sorted({*self.seen["versions"], scope["http_version"]})
            self.seen["clients"] = sorted({*self.seen["clients"], client})
            self.seen |= {"method": scope["method"], "path": scope["path"], "headers": headers, "body": body.decode()}
        status, more, content = await self.answer(scope, headers)
        more |= {"content-length": str(len(content))}
        pairs = [(name.encode(), value.encode()) for name, value in more.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": content if scope["method"] != "HEAD" else b""})

    async def answer(self, scope: Any, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        _, name, *rest = scope["path"].split("/")
        match name:
            case "seen":
                return 200, {}, json.dumps(self.seen).encode()
            case "status":
                return int(rest[0]), {}, b""
            case "hang":
                await asyncio.sleep(3600)
            case "hop" if rest != ["0"]:
                return 302, {"location": f"/hop/{int(rest[0]) - 1}"}, b""
            case "loop":
                return 302, {"location": "/loop"}, b""
            case "away":
                return 307, {"location": scope["query_string"].decode()}, b""
            case "session" if not rest:
                return 302, {"location": "/session/in", "set-cookie": "session=1; Path=/"}, b""
            case "session" if "session=1" not in headers.get("cookie", ""):
                return 403, {}, b""
            case "digest" if not _proves(headers.get("authorization", ""), scope, rest[0]):
                challenge = f'Digest realm="shop", qop="auth", nonce="{_NONCE}", algorithm={rest[0]}'
                return 401, {"www-authenticate": challenge}, b""
        return 200, {}, b"ok"


def _proves(authorization: str, scope: dict[str, Any], algorithm: str) -> bool:
    """Whether a digest is that of USER and PASSWORD: RFC 7616, section 3.4.1."""
    fields = dict(re.findall(r'(\w+)="?([^",]+)"?', authorization))
    if fields.get("username") != USER:
        return False

    def digest(*parts: str) -> str:
        return hashlib.new(algorithm.replace("-", ""), ":".join(parts).encode()).hexdigest()

    known = digest(USER, "shop", PASSWORD)
    asked = digest(scope["method"], scope["path"])
    return fields.get("response") == digest(known, _NONCE, fields["nc"], fields["cnonce"], fields["qop"], asked)


def main(certificate: str, clients: str) -> None:
    config = Config()
    config.loglevel = "CRITICAL"
    if certificate:
        config.certfile = config.keyfile = certificate
    if clients:
        config.ca_certs, config.verify_mode = clients, ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config.bind = [f"fd://{listening.fileno()}"]
    print(listening.getsockname()[1], flush=True)
    asyncio.run(serve(App(), config))


if __name__ == "__main__":
    main(*sys.argv[1:])

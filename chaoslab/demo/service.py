"""The shop's web service: orders in a database, with or without what keeps it up when the database goes.

GET  /             what this is
GET  /api/health   200 while the database answers; without it 503, or 200 "degraded" from the resilient build
GET  /api/orders   the latest orders, newest first
POST /api/orders   place one: {"item": "tea", "quantity": 2}
"""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import psycopg
import uvicorn
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chaoslab.demo import database
from chaoslab.demo.builds import Build
from chaoslab.demo.premises import DATABASE_PORT, Premises

STALE_HEADER: Final = "X-Shop-Stale"

_SHOWN_ORDERS: Final = 20
_LONGEST_ITEM: Final = 200
_LARGEST_QUANTITY: Final = 1000
_POOL_SIZE: Final = (2, 8)

_LATEST: Final = "SELECT id, item, quantity, placed_at FROM orders ORDER BY placed_at DESC LIMIT %s"
# The service chooses the id, so that an order whose answer was lost can be placed again without being placed twice.
_PLACE: Final = "INSERT INTO orders (id, item, quantity) VALUES (%s, %s, %s) ON CONFLICT (id) DO NOTHING"

_Connection = psycopg.AsyncConnection[tuple[Any, ...]]
_Answer = TypeVar("_Answer")
_Operation = Callable[[_Connection], Awaitable[_Answer]]
_Orders = list[dict[str, Any]]


class DatabaseGone(Exception):
    """The database did not answer, or not in time."""


class Shop:
    """The orders, by way of one build's manners with a database."""

    def __init__(self, build: Build, pool: AsyncConnectionPool[_Connection]) -> None:
        self.build = build
        self._pool = pool
        self._remembered: _Orders | None = None

    async def check(self) -> None:
        """Raise DatabaseGone unless the database answers."""
        await self._ask(_ping)

    async def place(self, item: str, quantity: int) -> str:
        """Place an order and return its id; raise DatabaseGone when it cannot be kept."""
        order = uuid.uuid4()

        async def insert(connection: _Connection) -> None:
            await connection.execute(_PLACE, (order, item, quantity))

        await self._ask(insert)
        return str(order)

    async def latest(self) -> tuple[_Orders, bool]:
        """Return the latest orders, and whether they come from memory; raise DatabaseGone when there are none."""
        try:
            self._remembered = await self._ask(_read)
        except DatabaseGone:
            if not self.build.answers_from_memory or self._remembered is None:
                raise
            return self._remembered, True
        return self._remembered, False

    async def _ask(self, operation: _Operation[_Answer]) -> _Answer:
        problem: Exception | None = None
        for _ in range(self.build.attempts):
            try:
                return await _within(self.build.answer_timeout, self._with_connection(operation))
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
                problem = error
        raise DatabaseGone(f"{type(problem).__name__}: {problem}") from problem

    async def _with_connection(self, operation: _Operation[_Answer]) -> _Answer:
        async with self._pool.connection() as connection:
            return await operation(connection)


async def _ping(connection: _Connection) -> None:
    await connection.execute("SELECT 1")


async def _read(connection: _Connection) -> _Orders:
    cursor = await connection.execute(_LATEST, (_SHOWN_ORDERS,))
    return [
        {"id": str(order), "item": item, "quantity": quantity, "placed_at": placed_at.isoformat()}
        for order, item, quantity, placed_at in await cursor.fetchall()
    ]


async def _within(seconds: float | None, work: Awaitable[_Answer]) -> _Answer:
    """Await `work`; raise TimeoutError after `seconds`.

    The work is then left to itself instead of being cancelled: to cancel a query means to wait for the very server
    that does not answer.
    """
    if seconds is None:
        return await work
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=seconds)
    if task.done():
        return task.result()
    task.add_done_callback(_ignore)
    raise TimeoutError(f"no answer within {seconds:g} s")


def _ignore(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _pool(shop: Premises, build: Build) -> AsyncConnectionPool[_Connection]:
    least, most = _POOL_SIZE
    return AsyncConnectionPool(
        kwargs={
            "host": str(shop.data),
            "port": DATABASE_PORT,
            "user": database.ROLE,
            "dbname": database.NAME,
            "autocommit": True,
        },
        min_size=least,
        max_size=most,
        timeout=build.pool_timeout,
        reconnect_timeout=build.reconnect_timeout,
        check=AsyncConnectionPool.check_connection if build.check_connections else None,
        open=False,
    )


async def _info(request: Request) -> Response:
    build: Build = request.app.state.shop.build
    return JSONResponse({"name": "chaoslab's embedded shop", "build": build.name})


async def _health(request: Request) -> Response:
    shop: Shop = request.app.state.shop
    try:
        await shop.check()
    except DatabaseGone as gone:
        if not shop.build.answers_from_memory:
            return _unavailable(gone)
        return JSONResponse({"status": "degraded", "problem": str(gone)})
    return JSONResponse({"status": "ok"})


async def _list_orders(request: Request) -> Response:
    shop: Shop = request.app.state.shop
    try:
        orders, stale = await shop.latest()
    except DatabaseGone as gone:
        return _unavailable(gone)
    return JSONResponse({"orders": orders}, headers={STALE_HEADER: "true"} if stale else None)


async def _place_order(request: Request) -> Response:
    shop: Shop = request.app.state.shop
    try:
        item, quantity = _order(await request.body())
    except ValueError as error:
        return JSONResponse({"status": "refused", "problem": str(error)}, status_code=400)
    try:
        order = await shop.place(item, quantity)
    except DatabaseGone as gone:
        return _unavailable(gone)
    return JSONResponse({"id": order}, status_code=201)


def _order(body: bytes) -> tuple[str, int]:
    """Return item and quantity of an order; raise ValueError saying what is accepted."""
    order = json.loads(body)
    match order:
        case {"item": str(item), "quantity": int(quantity)} if not isinstance(quantity, bool):
            # What cannot be printed (zeros, lone surrogates) PostgreSQL would not take for text either.
            if 0 < len(item) <= _LONGEST_ITEM and item.isprintable() and 0 < quantity <= _LARGEST_QUANTITY:
                return item, quantity
    raise ValueError(
        f'accepted: {{"item": 1 to {_LONGEST_ITEM} printable characters, "quantity": 1 to {_LARGEST_QUANTITY}}}'
    )


def _unavailable(gone: DatabaseGone) -> Response:
    body = {"status": "unavailable", "problem": str(gone)}
    return JSONResponse(body, status_code=503, headers={"Retry-After": "1"})


def application(premises: Premises, build: Build) -> Starlette:
    """Return the service as an ASGI application, over the database in `premises`."""
    pool = _pool(premises, build)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with pool:
            app.state.shop = Shop(build, pool)
            yield

    routes = [
        Route("/", _info),
        Route("/api/health", _health),
        Route("/api/orders", _list_orders),
        Route("/api/orders", _place_order, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def run(premises: Premises, *, build: Build, port: int) -> None:
    """Serve on loopback until a signal ends it."""
    config = uvicorn.Config(
        application(premises, build), access_log=False, log_level="warning", ws="none", timeout_graceful_shutdown=1
    )
    # The protocol must be named: asyncio turns Nagle's algorithm off only for what it knows to be TCP, and without that
    # an answer waits for the client's delayed acknowledgement.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        uvicorn.Server(config).run(sockets=[listener])

"""PostgreSQL probes: `SELECT 1` over a connection of libpq's, kept or new."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Final

import psycopg

from chaoslab.instruments.transport import Ending, Errands, Finish, Probe
from chaoslab.looks import Look
from chaoslab.records import ErrorKind

# What libpq says of a connection that it cannot open, where it has no code for it.
_SAID: Final = (
    ("FATAL:", ErrorKind.STATUS),
    ("Connection refused", ErrorKind.REFUSED),
    ("No such file or directory", ErrorKind.REFUSED),
    ("timeout expired", ErrorKind.TIMEOUT),
    ("SSL", ErrorKind.TLS),
    ("reset by peer", ErrorKind.RESET),
    ("closed the connection", ErrorKind.RESET),
)


class PostgresTransport(Errands):
    """Asks `SELECT 1`. A refusal of the server's own (starting up, too many connections) is a STATUS."""

    def __init__(self, look: Look, *, connections: int, finish: Finish) -> None:
        super().__init__(connections=connections, finish=finish)
        self._conninfo = look.address
        self._fresh = look.fresh
        self._idle: list[psycopg.AsyncConnection] = []

    async def run(self, probe: Probe) -> Ending:
        """Ask, over an idle connection or a new one."""
        connection = self._take_idle()
        try:
            if connection is None:
                connection = await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, prepare_threshold=None, application_name="chaoslab"
                )
            probe.carrier = _Wire(connection)
            await connection.execute("SELECT 1")
        except psycopg.Error as error:
            _drop(connection)
            return None, _kind(error, connected=connection is not None)
        except asyncio.CancelledError:
            _drop(connection)
            raise
        if self._fresh or probe.ended:
            _drop(connection)
        else:
            self._idle.append(connection)
        return None, None

    def close(self) -> None:
        """Close all connections."""
        super().close()
        for connection in self._idle:
            _drop(connection)

    def _take_idle(self) -> psycopg.AsyncConnection | None:
        """Return the connection used last that still stands; one whose end has arrived while it was idle is dropped."""
        while self._idle:
            connection = self._idle.pop()
            if _silent(connection):
                return connection
            _drop(connection)
        return None


class _Wire:
    """The connection that a probe waits on. Cancelling the task would have psycopg ask the server first."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    def cancel(self) -> None:
        with contextlib.suppress(OSError, psycopg.Error), _socket_of(self._connection) as wire:
            wire.shutdown(socket.SHUT_RDWR)


def _socket_of(connection: psycopg.AsyncConnection) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.pgconn.socket))


def _silent(connection: psycopg.AsyncConnection) -> bool:
    try:
        with _socket_of(connection) as wire:
            wire.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except (OSError, psycopg.Error):
        return False
    return False


def _drop(connection: psycopg.AsyncConnection | None) -> None:
    if connection is not None:
        connection.pgconn.finish()


def _kind(error: psycopg.Error, *, connected: bool) -> ErrorKind:
    if error.sqlstate is not None:
        return ErrorKind.STATUS
    said = str(error)
    default = ErrorKind.RESET if connected else ErrorKind.UNREACHABLE
    return next((kind for words, kind in _SAID if words in said), default)

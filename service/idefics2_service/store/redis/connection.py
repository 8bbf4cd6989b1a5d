"""How the server is reached."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
from redis._parsers import _AsyncHiredisParser
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, RedisError
from redis.retry import Retry as BlockingRetry

from idefics2_service.errors import SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TIMEOUT_SECONDS = 2.0
"""For connecting, for sending what is small, and of silence: what takes longer counts as lost."""
LEAST_BYTES_PER_SECOND = 1_000_000
"""Of a link: what is large may take longer to send, and a claim, which is as large as its request, has a
longer lease."""
MAX_CALLS = 32
"""That callers ask for, at the same time, each over a connection of its own."""
MAX_OWN_CALLS = 16
"""Beside them, of those that nobody asks for."""
_MAX_CONNECTIONS = MAX_CALLS + MAX_OWN_CALLS + 4
"""Signals and looks at server and replica need one more each, and one may be on its way out."""
FAULTS = (RedisError, OSError, RuntimeError)
"""Whatever a server or the way to it does; the last is uvloop's, of a connection that was closed."""

_CANCEL_AGAIN_SECONDS = 0.05
_AS_IT_IS = -1.0
"""To redis-py: the timeout that a connection has."""
STORE_SETTING = "IDEFICS2_STORE_URL"
_OPTIONS: dict[str, Any] = {
    "socket_timeout": TIMEOUT_SECONDS,
    "socket_connect_timeout": TIMEOUT_SECONDS,
    "protocol": 2,  # RESP3 brings notices of maintenance, which reconnect behind our back
    "driver_info": None,
}


def is_demoted(error: BaseException) -> bool:
    """Tell whether a server refuses since it is another one's replica by now."""
    return isinstance(error, MasterDownError) or "read only replica" in str(error)


class _Parser(_AsyncHiredisParser):
    """Lets an answer go on for as long as something of it comes: redis-py gives all of it one timeout."""

    __slots__ = ("_connection",)

    def on_connect(self, connection: AbstractConnection) -> None:
        """Begin to read from a connection."""
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        self._connection = connection

    async def read_from_socket(self) -> bool:
        """Read what has come, and wait anew for what follows."""
        has_come: bool = await super().read_from_socket()  # type: ignore[no-untyped-call]
        self._connection.update_current_socket_timeout(_AS_IT_IS)
        return has_come


class _Patient(AbstractConnection):
    """Has a timeout that goes by the size of what is sent, for sending it and until something is heard."""

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], *options: Any, **named: Any
    ) -> None:
        """Send a command, or several."""
        parts: list[Any] = [command] if isinstance(command, (bytes, str)) else list(command)
        self.socket_timeout = TIMEOUT_SECONDS + sum(map(len, parts)) / LEAST_BYTES_PER_SECOND
        await super().send_packed_command(parts, *options, **named)


class _PatientConnection(_Patient, Connection):
    """Over TCP."""


class _PatientTlsConnection(_Patient, SSLConnection):
    """Over TLS."""


_PATIENT: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _PatientConnection,
    SSLConnection: _PatientTlsConnection,
}


async def cancel(task: asyncio.Task[None]) -> None:
    """End a task that may be asking a server, and return when it has ended."""
    while not task.done():  # a cancellation may be lost: redis uses asyncio.wait_for, see bpo-37658
        task.cancel()
        await asyncio.wait((task,), timeout=_CANCEL_AGAIN_SECONDS)


def connect(url: str, setting: str = STORE_SETTING) -> Redis:
    """Make a client, which connects, and connects again, when something is asked of it.

    Nothing is sent twice: who claims and hears no answer may have claimed.

    Raises:
        SettingInvalid: the URL cannot be read.

    """
    with _reading(url, setting):
        pool = BlockingConnectionPool.from_url(
            url,
            **_OPTIONS,
            max_connections=_MAX_CONNECTIONS,
            timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            parser_class=_Parser,
        )
        pool.connection_class = _PATIENT[pool.connection_class]
        pool.connection_class(**pool.connection_kwargs)  # else an unknown option would show only later
    return Redis.from_pool(pool)


def connect_blocking(url: str) -> redis.Redis:
    """Make a client for threads, which asks once more over another connection where one was closed.

    Raises:
        SettingInvalid: the URL cannot be read.

    """
    with _reading(url, STORE_SETTING):
        pool = redis.BlockingConnectionPool.from_url(url, **_OPTIONS, retry=BlockingRetry(NoBackoff(), 1))
        pool.connection_class(**pool.connection_kwargs)  # as above
    return redis.Redis.from_pool(pool)


@contextmanager
def _reading(url: str, setting: str) -> Iterator[None]:
    try:
        address_of(url)
        yield
    except (TypeError, ValueError):
        message = f"{setting} must be redis[s]://[user:password@]host[:port][/database][?options]"
        raise SettingInvalid(message) from None  # the error's own words may hold the password


def address_of(url: str) -> str:
    """Name host and port without user and password.

    Raises:
        ValueError: it is no such URL.

    """
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"}:
        raise ValueError("it must begin with redis:// or rediss://")
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"

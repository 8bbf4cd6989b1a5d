"""How the server is reached."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry as BlockingRetry

from idefics2_service.errors import StartFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS = 2.0
"""For connecting, for sending and for an answer: what takes longer counts as lost."""
MAX_CALLS = 32
"""At the same time, each over a connection of its own."""
_MAX_CONNECTIONS = MAX_CALLS + 3  # signals and looks need one more each, and one may be on its way out
FAULTS = (RedisError, OSError, RuntimeError)
"""Whatever a server or the way to it does; the last is uvloop's, of a connection that was closed."""

STORE_SETTING = "IDEFICS2_STORE_URL"
_OPTIONS: dict[str, Any] = {
    "socket_timeout": TIMEOUT_SECONDS,
    "socket_connect_timeout": TIMEOUT_SECONDS,
    "protocol": 2,  # RESP3 brings notices of maintenance, which reconnect behind our back
    "driver_info": None,
}


def connect(url: str, setting: str = STORE_SETTING) -> Redis:
    """Make a client, which connects, and connects again, when something is asked of it.

    Nothing is sent twice: who claims and hears no answer may have claimed.

    Raises:
        StartFailed: the URL cannot be read.

    """
    with _reading(url, setting):
        pool = BlockingConnectionPool.from_url(
            url,
            **_OPTIONS,
            max_connections=_MAX_CONNECTIONS,
            timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        pool.connection_class(**pool.connection_kwargs)  # else an unknown option would show only later
    return Redis.from_pool(pool)


def connect_blocking(url: str) -> redis.Redis:
    """Make a client for threads, which asks once more over another connection where one was closed.

    Raises:
        StartFailed: the URL cannot be read.

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
        raise StartFailed(message) from None  # the error's own words may hold the password


def address_of(url: str) -> str:
    """Name host and port without user and password.

    Raises:
        ValueError: it is no such URL.

    """
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"}:
        raise ValueError("it must begin with redis:// or rediss://")
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"

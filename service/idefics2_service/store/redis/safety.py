"""Whether a server can be trusted with requests: what is acknowledged must survive it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from idefics2_service.errors import StartFailed, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

_LEAST_VERSION = (6, 2)
"""The first with ZRANGE BYSCORE."""
_SAFE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
"""Source: redis.conf; with `everysec`, a killed server loses what it acknowledged in the last second."""
_OR = "or accept losses with IDEFICS2_STORE_ALLOW_DATA_LOSS=true"


class _Unfit(Exception):
    """What the server is or does not."""


@contextmanager
def as_failed_start(address: str) -> Iterator[None]:
    """Say what is wrong with the server at `address`.

    Raises:
        StartFailed: whatever went wrong.

    """
    try:
        yield
    except (_Unfit, RedisError, StoreUnavailable) as error:
        reason = error.__cause__ if isinstance(error, StoreUnavailable) else error  # its own says too little
        raise StartFailed(f"IDEFICS2_STORE_URL: {address} cannot be used: {reason}") from error


async def check_server(client: Redis, *, allow_data_loss: bool) -> None:
    """Look at version and persistence; raise where they are not as needed."""
    information = await client.info("server")
    _check_version(str(information["redis_version"]))
    if not allow_data_loss:
        await _check_persistence(client)


def _check_version(version: str) -> None:
    if tuple(int(part) for part in version.split(".")[:2]) < _LEAST_VERSION:
        needed = ".".join(map(str, _LEAST_VERSION))
        raise _Unfit(f"it is Redis {version}; use {needed} or later, or Valkey")


async def _check_persistence(client: Redis) -> None:
    try:
        found = {name: (await client.config_get(name)).get(name) for name in _SAFE}
    except ResponseError as error:
        raise _Unfit(
            f"its settings cannot be read ({error}): allow CONFIG GET to this user, {_OR}"
        ) from error
    wrong = [f"{name} to {_SAFE[name]}, not {found[name]}" for name in _SAFE if found[name] != _SAFE[name]]
    if wrong:
        raise _Unfit(f"it may lose what it acknowledged: set {', '.join(wrong)}, {_OR}")

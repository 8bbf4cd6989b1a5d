"""Whether a server can be trusted with requests: what is acknowledged must survive it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from idefics2_service.errors import StartFailed, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

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
_READABLE = {"replica-serve-stale-data": "yes", "replica-read-only": "yes", "repl-diskless-load": "disabled"}
"""Source: redis.conf; other ways of loading may leave a replica empty that loses its server meanwhile."""
_OR = "or accept losses with IDEFICS2_STORE_ALLOW_DATA_LOSS=true"


class Unfit(Exception):
    """What a server is or does not."""


@contextmanager
def as_failed_start(setting: str, address: str) -> Iterator[None]:
    """Say what is wrong with the server at `address`, which `setting` names.

    Raises:
        StartFailed: whatever went wrong.

    """
    try:
        yield
    except (Unfit, RedisError, StoreUnavailable) as error:
        reason = error.__cause__ if isinstance(error, StoreUnavailable) else error  # its own says too little
        raise StartFailed(f"{setting}: {address} cannot be used: {reason}") from error


async def check_server(client: Redis, *, allow_data_loss: bool) -> None:
    """Look at version and persistence, by one message; raise where they are not as needed."""
    if wrong := await _find_wrong(client, {} if allow_data_loss else _SAFE):
        raise Unfit(f"it may lose what it acknowledged: set {wrong}, {_OR}")


async def check_replica(client: Redis, theirs: Mapping[str, Any], *, allow_data_loss: bool) -> None:
    """Look whether a server is a replica of the one that says `theirs`, and is of use when that is away."""
    wrong = await _find_wrong(client, {} if allow_data_loss else _READABLE)
    own = await client.info("replication")
    if own["role"] != "slave":
        raise Unfit("it is no replica")
    if own["master_link_status"] == "up" and not follows(own, theirs):
        raise Unfit("it is the replica of another server than IDEFICS2_STORE_URL")
    if wrong:
        raise Unfit(f"it may not have, or not tell, what it had when the store went away: set {wrong}")


def follows(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Tell by what two servers say of their replication whether the first follows the second."""
    is_linked = own["role"] == "slave" and own["master_link_status"] == "up"
    return is_linked and bool(own["master_replid"] == theirs["master_replid"])


async def _find_wrong(client: Redis, needed: Mapping[str, str]) -> str:
    """Look at the version, and name all settings that are not as needed."""
    async with client.pipeline(transaction=False) as looks:
        looks.info("server")
        for name in needed:
            looks.config_get(name)
        info, *answers = await looks.execute(raise_on_error=False)
    _check_version(info)
    found = _read_settings(answers)
    wrong = (name for name in needed if found.get(name) != needed[name])
    return ", ".join(f"{name} to {needed[name]}, not {found.get(name)}" for name in wrong)


def _check_version(info: Mapping[str, Any] | ResponseError) -> None:
    if isinstance(info, ResponseError):
        raise info
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < _LEAST_VERSION:
        needed = ".".join(map(str, _LEAST_VERSION))
        raise Unfit(f"it is Redis {version}; use {needed} or later, or Valkey")


def _read_settings(answers: Iterable[Mapping[str, str] | ResponseError]) -> dict[str, str]:
    found: dict[str, str] = {}
    for answer in answers:
        if isinstance(answer, ResponseError):
            reason = f"its settings cannot be read ({answer}): allow CONFIG GET to this user, {_OR}"
            raise Unfit(reason) from answer
        found.update(answer)
    return found

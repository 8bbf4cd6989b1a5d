"""A replica of the server, which is read while the server is away."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from idefics2_service.errors import StoreUnavailable
from idefics2_service.store.redis.connection import FAULTS
from idefics2_service.store.redis.safety import check_replica, follows
from idefics2_service.store.refusals import unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from idefics2_service.store.redis.scripts import Scripts, Value

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often server and replica are compared."""
_MAX_MISSED = 30
"""Looks in a row at which the server answered and the replica did not follow it: then it is behind."""
_ROUNDING_SECONDS = 1.0


class Replica:
    """Has what the server has, a moment later. We only read it, and never make it more than a replica.

    What it lacks may be on the server nevertheless: it says of nothing that it is not there.
    """

    def __init__(self, client: Redis, scripts: Scripts) -> None:
        """Read over `client`; it is behind until it was seen to follow."""
        self._client = client
        self._scripts = scripts
        self._num_missed = _MAX_MISSED
        self._offset = 0  # of the server, at the last look
        self._followed_at = -math.inf

    @property
    def is_behind(self) -> bool:
        """Whether it has not followed for so long that it is not asked."""
        return self._num_missed >= _MAX_MISSED

    async def start(self, server: Redis, *, allow_data_loss: bool) -> None:
        """Look whether it can take the place of `server`; one that is away may come later.

        Raises:
            RedisError: it does not let us read it.
            Unfit: it is another's replica, or none, or would be silent when it is needed.
            StoreUnavailable: as RedisError.

        """
        theirs = await server.info("replication")
        try:
            await check_replica(self._client, theirs, allow_data_loss=allow_data_loss)
            await self._scripts.call("statistics")
        except (RedisError, StoreUnavailable) as error:
            if not _is_away(error.__cause__ or error):
                raise
            logger.warning("the store's replica cannot be used for now", error=str(error.__cause__ or error))
        await self.compare(theirs)

    async def compare(self, theirs: Mapping[str, Any]) -> None:
        """Look whether it follows the server, which says `theirs` of its replication."""
        was_behind = self.is_behind
        if await self._follows(theirs):
            self._num_missed, self._followed_at = 0, _now()
        else:
            self._num_missed += 1
        self._offset = theirs["master_repl_offset"]
        if was_behind and not self.is_behind:
            logger.info("the store's replica follows")
        elif self.is_behind and not was_behind:
            logger.warning("the store's replica does not follow; reads would stop with the store")

    async def _follows(self, theirs: Mapping[str, Any]) -> bool:
        try:
            own = await self._client.info("replication")
        except FAULTS:
            return False
        # Where it is a little late, it has by now what the server had at the look before.
        return follows(own, theirs) and own["slave_repl_offset"] >= self._offset

    async def read(self, name: str, given: Mapping[str, Value]) -> Any:
        """Run a script that only reads, and return its answer.

        Raises:
            StoreUnavailable: it is away, too; or nobody knows how old what it has is; or it lacks what was
                asked for.

        """
        answer = await self._scripts.call(name, given, check=self._check_age)
        if answer is None:
            raise StoreUnavailable("the store of requests is away, and its replica may not have all")
        return answer

    async def _check_age(self) -> None:
        """Refuse one that was started again and has what its own disk had, or that became a server."""
        try:
            own = await self._client.info("replication")
        except FAULTS as error:
            raise unavailable(error) from error
        down_seconds = own.get("master_link_down_since_seconds", 0)  # -1, or all since 1970: it never was up
        most = _now() - self._followed_at + _ROUNDING_SECONDS
        if own["role"] != "slave" or not 0 <= down_seconds <= most:
            raise StoreUnavailable("the store of requests is away, and its replica is too old")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_away(error: BaseException) -> bool:
    is_silent = isinstance(error, RedisConnectionError | RedisTimeoutError)
    return is_silent and not isinstance(error, AuthenticationError)  # which redis takes for one of them

"""Whether the server may still be trusted with requests: another one may answer by its name now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from idefics2_service.errors import StoreUnavailable
from idefics2_service.store.redis.connection import FAULTS, TIMEOUT_SECONDS, cancel
from idefics2_service.store.redis.safety import Unfit, check_server
from idefics2_service.store.refusals import closed, unavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = structlog.get_logger(__name__)

_LOOK_TIMEOUT_SECONDS = 2 * TIMEOUT_SECONDS
"""Of a look, whatever comes of it meanwhile: to connect, and to be answered."""


class Fitness:
    """As it was last seen. Once it is in doubt, it is looked at again before anything is taken."""

    def __init__(self, client: Redis, *, allow_data_loss: bool) -> None:
        """Look over `client` at a server that was fit at the start."""
        self._client = client
        self._allow_data_loss = allow_data_loss
        self._problem = ""
        self._num_doubts = self._num_doubts_seen_to = 0
        self._looking: asyncio.Task[None] | None = None
        self._is_stopped = False

    @property
    def is_unfit(self) -> bool:
        """Whether the server may lose what it acknowledges, which was not allowed."""
        return bool(self._problem)

    def doubt(self) -> None:
        """Know that the server was away, or left: who answers next may be another one."""
        self._num_doubts += 1

    async def insist(self) -> None:
        """Return where the server may be given what must not be lost.

        Raises:
            StoreUnavailable: it may lose it, or does not answer.

        """
        while self._num_doubts_seen_to < self._num_doubts:  # a look may have begun before the last doubt
            try:
                await self.look()
            except FAULTS as error:
                raise unavailable(error) from error
        if self.is_unfit:
            raise StoreUnavailable("the store of requests may lose what it acknowledges: it is given none")

    async def look(self) -> None:
        """Look at the server, together with whoever does so already.

        Raises:
            RedisError, OSError: it does not answer.
            StoreUnavailable: nobody looks any more.

        """
        if self._is_stopped:
            raise closed()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._end)
        looking = self._looking
        await asyncio.wait((looking,))  # who leaves does not end it for others
        if looking.cancelled():
            raise closed()
        looking.result()

    def _end(self, looking: asyncio.Task[None]) -> None:
        self._looking = None
        if not looking.cancelled():
            looking.exception()  # heard, even where who asked has left

    async def _look(self) -> None:
        num_doubts, problem = self._num_doubts, ""
        try:
            async with asyncio.timeout(_LOOK_TIMEOUT_SECONDS):
                await check_server(self._client, allow_data_loss=self._allow_data_loss)
        except Unfit as error:
            problem = str(error)
        self._num_doubts_seen_to = num_doubts  # others may have come meanwhile
        self._note(problem)

    def _note(self, problem: str) -> None:
        """Say what changed, and nothing else."""
        if problem and problem != self._problem:
            logger.error("the store is not fit to keep requests: none is taken", problem=problem)
        elif self._problem and not problem:
            logger.info("the store is fit to keep requests again")
        self._problem = problem

    async def stop(self) -> None:
        """Look no more, whoever waits for it."""
        self._is_stopped = True
        if self._looking is not None:
            await cancel(self._looking)

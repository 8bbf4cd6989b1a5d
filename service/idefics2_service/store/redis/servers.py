"""The server that keeps everything, and the replica that is read while it is away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import structlog

from idefics2_service.errors import StoreUnavailable
from idefics2_service.store.redis.connection import FAULTS
from idefics2_service.store.redis.replica import LOOK_SECONDS
from idefics2_service.store.signals import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from idefics2_service.store.redis.replica import Replica
    from idefics2_service.store.redis.scripts import Scripts, Value

logger = structlog.get_logger(__name__)

Reading = Literal["events", "get", "list_page", "statistics"]
"""Scripts that write nothing: all that a replica is asked."""


class Answer(NamedTuple):
    """What a script that reads answered."""

    value: Any
    is_of_replica: bool


class Servers:
    """Whom a script is sent to."""

    def __init__(
        self, client: Redis, scripts: Scripts, replica: Replica | None, tell: Callable[[str], None]
    ) -> None:
        """Send `scripts` over `client`; `tell` hears of each reading that the replica answered."""
        self._client = client
        self._scripts = scripts
        self._replica = replica
        self._tell = tell
        self._is_away = False
        self._following: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Begin to compare the replica with the server; `stop` must follow."""
        if self._replica is not None:
            self._following = asyncio.create_task(self._follow(self._replica))

    async def stop(self) -> None:
        """Compare no more."""
        self._stopping.set()
        if self._following is not None:
            await self._following

    async def write(self, name: str, given: Mapping[str, Value] = {}, events: Sequence[bytes] = ()) -> Any:
        """As Scripts.call."""
        answer = await self._scripts.call(name, given, events)
        self._note(is_away=False)  # who wrote reads what was written
        return answer

    async def read(self, name: Reading, given: Mapping[str, Value] = {}) -> Answer:
        """As Scripts.call; while the server is away its replica answers, which may be behind.

        Raises:
            StoreUnavailable: neither answered, or the replica does not have what was asked for.

        """
        if self._replica is None or self._replica.is_behind:
            return Answer(await self._scripts.call(name, given), is_of_replica=False)
        if self._is_away:  # which may be over: where the replica fails, the server is tried nevertheless
            with suppress(StoreUnavailable):
                return await self._read_replica(self._replica, name, given)
        try:
            answer = Answer(await self._scripts.call(name, given), is_of_replica=False)
        except StoreUnavailable:
            self._note(is_away=True)
            return await self._read_replica(self._replica, name, given)
        self._note(is_away=False)
        return answer

    async def _read_replica(self, replica: Replica, name: Reading, given: Mapping[str, Value]) -> Answer:
        answer = Answer(await replica.read(name, given), is_of_replica=True)
        self._tell(name)
        return answer

    async def _follow(self, replica: Replica) -> None:
        while not self._stopping.is_set():
            await wait_for(self._stopping, LOOK_SECONDS)
            with suppress(*FAULTS):  # a server that is away writes nothing that its replica could lack
                await self._look(replica)

    async def _look(self, replica: Replica) -> None:
        theirs = await self._client.info("replication")
        self._note(is_away=False)
        await replica.compare(theirs)

    def _note(self, *, is_away: bool) -> None:
        """Say so once, not at each reading."""
        if is_away and not self._is_away:
            logger.warning("the store is away: its replica is read")
        elif self._is_away and not is_away:
            logger.info("the store answers again")
        self._is_away = is_away

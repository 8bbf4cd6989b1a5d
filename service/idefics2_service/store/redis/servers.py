"""The server that keeps everything, and the replica that is read while it is away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import structlog
from redis.exceptions import ResponseError

from idefics2_service.errors import StoreUnavailable
from idefics2_service.store.redis.connection import FAULTS, cancel, is_demoted
from idefics2_service.store.redis.replica import LOOK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from idefics2_service.store.redis.fitness import Fitness
    from idefics2_service.store.redis.replica import Replica
    from idefics2_service.store.redis.scripts import Scripts, Value

logger = structlog.get_logger(__name__)

Reading = Literal["events", "get", "list_page", "log_lines", "statistics"]
"""Scripts that write nothing: all that a replica is asked."""


class Answer(NamedTuple):
    """What a script that reads answered."""

    value: Any
    is_of_replica: bool


class Servers:
    """Whom a script is sent to."""

    def __init__(
        self,
        client: Redis,
        scripts: Scripts,
        fitness: Fitness,
        replica: Replica | None,
        tell: Callable[[str], None],
    ) -> None:
        """Send `scripts` over `client`; `tell` hears of each reading that the replica answered."""
        self._client = client
        self._scripts = scripts
        self._fitness = fitness
        self._replica = replica
        self._tell = tell
        self._is_away = False

    def start(self) -> None:
        """Begin to look at the server, and to compare its replica with it; `stop` must follow."""
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Look no more."""
        await cancel(self._following)
        await self._fitness.stop()

    async def write(self, name: str, given: Mapping[str, Value] = {}, events: Sequence[bytes] = ()) -> Any:
        """As Scripts.call."""
        answer = await self._ask(name, given, events)
        self._note(is_away=False)  # who wrote reads what was written
        return answer

    async def keep(self, name: str, given: Mapping[str, Value]) -> Any:
        """As `write`, of what must not be lost once this returns.

        Raises:
            StoreUnavailable: as `write`; or the server might lose it.

        """
        await self._fitness.insist()
        return await self.write(name, given)

    async def read(self, name: Reading, given: Mapping[str, Value] = {}) -> Answer:
        """As Scripts.call; while the server is away its replica answers, which may be behind.

        Raises:
            StoreUnavailable: neither answered, or the replica does not have what was asked for.

        """
        if self._replica is None or self._replica.is_behind:
            return Answer(await self._ask(name, given), is_of_replica=False)
        if self._is_away:  # which may be over: where the replica fails, the server is tried nevertheless
            with suppress(StoreUnavailable):
                return await self._read_replica(self._replica, name, given)
        try:
            answer = Answer(await self._ask(name, given), is_of_replica=False)
        except StoreUnavailable:
            self._note(is_away=True)
            return await self._read_replica(self._replica, name, given)
        self._note(is_away=False)
        return answer

    async def _read_replica(self, replica: Replica, name: Reading, given: Mapping[str, Value]) -> Answer:
        answer = Answer(await replica.read(name, given), is_of_replica=True)
        self._tell(name)
        return answer

    async def _ask(self, name: str, given: Mapping[str, Value], events: Sequence[bytes] = ()) -> Any:
        try:
            return await self._scripts.call(name, given, events)
        except StoreUnavailable as error:
            # Who refuses a script is there, and was all the time; but where it is a replica now, it is left.
            if not isinstance(error.__cause__, ResponseError) or is_demoted(error.__cause__):
                self._fitness.doubt()
            raise

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except FAULTS:
                pass  # a server that is away takes nothing that could be lost, or that its replica could lack
            except Exception:  # whatever it is, or nobody would look again
                logger.critical("a look at the store failed", exc_info=True)

    async def _look(self) -> None:
        await self._fitness.look()
        if self._replica is not None:
            theirs = await self._client.info("replication")
            self._note(is_away=False)
            await self._replica.compare(theirs)

    def _note(self, *, is_away: bool) -> None:
        """Say so once, not at each reading."""
        if is_away and not self._is_away:
            logger.warning("the store is away: its replica is read")
        elif self._is_away and not is_away:
            logger.info("the store answers again")
        self._is_away = is_away

"""What replicas tell each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from idefics2_service.store.redis.connection import FAULTS, TIMEOUT_SECONDS, cancel

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

    from idefics2_service.store.signals import Signals

logger = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


class Subscription:
    """Hears all topics on one connection, and makes another one where it breaks or its server is left."""

    def __init__(self, client: Redis, channel: str, signals: Signals, on_end: Callable[[], None]) -> None:
        """Tell `signals` of the topics on `channel`; `on_end` hears of each connection's end."""
        self._client = client
        self._on_end = on_end
        self._channel = channel
        self._signals = signals
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    async def start(self) -> None:
        """Begin to hear; `stop` must follow, also where this fails.

        Raises:
            RedisError: the server does not let it.

        """
        self._is_heard = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._follow())
        await self._is_heard

    async def stop(self) -> None:
        """Hear no more."""
        await cancel(self._task)

    async def _follow(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as subscribed:
                    await subscribed.subscribe(self._channel)
                    await self._hear(subscribed)
            except FAULTS as error:
                self._miss(error)
            except Exception as error:  # whatever it is, or nobody would hear anything more
                logger.critical("signals of the store fail and begin again", exc_info=error)
                self._miss(error)
            self._on_end()
            await asyncio.sleep(self._pause_seconds)
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def _hear(self, subscribed: PubSub) -> None:
        """Tell what is said, for as long as nobody gives the connection up."""
        while not subscribed.connection.should_reconnect():  # type: ignore[attr-defined]  # redis says None
            match await _next_message(subscribed):
                case {"type": "message", "data": topic}:
                    self._signals.tell([topic.decode()])
                case {"type": "subscribe"}:
                    self._begin()

    def _begin(self) -> None:
        """Go on where a connection broke: nobody knows what was said meanwhile."""
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._signals.tell_all()
        if not self._is_heard.done():
            self._is_heard.set_result(None)

    def _miss(self, error: Exception) -> None:
        if not self._is_heard.done():
            self._is_heard.set_exception(error)
        elif self._pause_seconds == _FIRST_PAUSE_SECONDS:  # once, not at each attempt
            logger.warning("signals of the store are not heard for now", error=str(error))


async def _next_message(subscribed: PubSub) -> dict[str, Any]:
    """Wait for a message; a server that is silent is asked whether it lives.

    Raises:
        RedisError: it does not answer.

    """
    message = await subscribed.get_message(timeout=TIMEOUT_SECONDS)
    if message is None:
        await subscribed.ping()
        message = await subscribed.get_message(timeout=TIMEOUT_SECONDS)
    if message is None:
        raise RedisConnectionError("the server does not answer")
    heard: dict[str, Any] = message
    return heard

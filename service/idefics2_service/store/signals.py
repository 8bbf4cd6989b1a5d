"""Who waits for what, in this process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Signals:
    """Topics, and the events of those who listen to them. Only for the event loop's thread."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._listeners: dict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def listen(self, topic: str) -> Iterator[asyncio.Event]:
        """As RequestStore.listen."""
        told = asyncio.Event()
        self._listeners[topic].add(told)
        try:
            yield told
        finally:
            self._listeners[topic].discard(told)
            if not self._listeners[topic]:
                del self._listeners[topic]

    def tell(self, topics: Iterable[str]) -> None:
        """Wake who listens to any of them."""
        for topic in topics:
            for told in self._listeners.get(topic, ()):
                told.set()

    def tell_all(self) -> None:
        """Wake everybody: something may have been missed."""
        self.tell(list(self._listeners))


async def wait_for(told: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after some time."""
    try:
        async with asyncio.timeout(seconds):
            await told.wait()
    except TimeoutError:
        return

"""A host of pictures that never answers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from ports import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class SlowHost:
    """Lets whoever asks wait, and knows when they do not wait any more."""

    def __init__(self) -> None:
        """Listen later, by `run_slow_host`."""
        self.port = 0
        self.is_asked, self.is_left = asyncio.Event(), asyncio.Event()

    @property
    def url(self) -> str:
        """Of a picture."""
        return f"http://{HOST}:{self.port}/picture.png"

    def forget(self) -> None:
        """Begin again."""
        self.is_asked.clear()
        self.is_left.clear()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note when somebody asks, and when it waits no more."""
        self.is_asked.set()
        with suppress(ConnectionError):
            await reader.read()
        self.is_left.set()
        writer.close()


@asynccontextmanager
async def run_slow_host() -> AsyncIterator[SlowHost]:
    """Let one listen."""
    host = SlowHost()
    async with await asyncio.start_server(host.answer, HOST) as server:
        host.port = server.sockets[0].getsockname()[1]
        yield host

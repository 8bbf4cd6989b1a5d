"""A network between a caller and a service, which a test can cut, or let go silent."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Cable:
    """Passes bytes on, until it is cut; connections that are made later are passed on again."""

    def __init__(self, address: str) -> None:
        """Lead to `address`, `host:port`."""
        self._host, _, self._port = address.rpartition(":")
        self._writers: set[asyncio.StreamWriter] = set()
        self._num_left, self._is_silent, self._cut = math.inf, False, asyncio.Event()

    def choke(self, num_bytes: int) -> None:
        """Pass on only so many more of the caller's bytes, over all connections, but all of the service's."""
        self._num_left = num_bytes

    def silence(self) -> None:
        """Pass on nothing, and tell nobody."""
        self._num_left, self._is_silent = 0, True

    def cut(self) -> None:
        """Break all connections that there are."""
        self._cut.set()
        self._num_left, self._is_silent, self._cut = math.inf, False, asyncio.Event()
        for writer in self._writers:
            writer.transport.abort()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Lead one connection to the other end, until one of them ends it."""
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, far_writer}
        there = self._pass_on(reader, far_writer, is_caller=True)
        back = self._pass_on(far_reader, writer, is_caller=False)
        await asyncio.gather(there, back)
        self._writers -= {writer, far_writer}

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_caller: bool
    ) -> None:
        cut = self._cut
        try:
            while data := await reader.read(65_536):
                if is_caller:
                    data = data[: int(min(self._num_left, len(data)))]  # what still passes
                    self._num_left -= len(data)
                if self._is_silent or not data:
                    await cut.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()


@asynccontextmanager
async def lay_cable(address: str) -> AsyncIterator[tuple[Cable, str]]:
    """Lay a cable to `address`; yield it with the address of its near end."""
    cable = Cable(address)
    server = await asyncio.start_server(cable.connect, "127.0.0.1", 0)
    try:
        yield cable, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        cable.cut()
        server.close()

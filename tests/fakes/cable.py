"""A network between a caller and a service, which a test can cut, or let go silent."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class _Weather:
    """What becomes of connections that were made at a time."""

    num_left: float = math.inf
    """Bytes of callers that still pass."""
    is_silent: bool = False
    bytes_per_second: float = math.inf
    """Of each connection, each way."""
    cut: asyncio.Event = field(default_factory=asyncio.Event)


class Cable:
    """Passes bytes on, until it is cut; connections that are made later are passed on again."""

    def __init__(self, address: str) -> None:
        """Lead to `address`, `host:port`."""
        self.address = address
        self.num_connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._weather = _Weather()
        self._gone: list[_Weather] = []

    def choke(self, num_bytes: int) -> None:
        """Pass on only so many more of the caller's bytes, over all connections, but all of the service's."""
        self._weather.num_left = num_bytes

    def slow(self, bytes_per_second: float) -> None:
        """Pass on no more than so much a second, of each connection and each way."""
        self._weather.bytes_per_second = bytes_per_second

    def silence(self) -> None:
        """Pass on nothing, and tell nobody."""
        self._weather.num_left, self._weather.is_silent = 0, True

    def strand(self) -> None:
        """Pass on nothing of the connections that there are, and tell nobody; later ones are passed on."""
        self.silence()
        self._gone.append(self._weather)
        self._weather = _Weather()

    def cut(self) -> None:
        """Break all connections that there are."""
        for weather in (*self._gone, self._weather):
            weather.cut.set()
        self._gone.clear()
        self._weather = _Weather()
        for writer in self._writers:
            writer.transport.abort()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Lead one connection to the other end, until one of them ends it."""
        self.num_connections += 1
        weather = self._weather
        host, _, port = self.address.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, port)
        self._writers |= {writer, far_writer}
        there = _pass_on(reader, far_writer, weather, is_caller=True)
        back = _pass_on(far_reader, writer, weather, is_caller=False)
        await asyncio.gather(there, back)
        self._writers -= {writer, far_writer}


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, weather: _Weather, *, is_caller: bool
) -> None:
    try:
        while data := await reader.read(65_536):
            if is_caller:
                data = data[: int(min(weather.num_left, len(data)))]  # what still passes
                weather.num_left -= len(data)
            if weather.is_silent or not data:
                await weather.cut.wait()
            await asyncio.sleep(len(data) / weather.bytes_per_second)
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

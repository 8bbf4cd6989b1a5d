"""Something between a client and a service that loses an answer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Relay:
    """Passes on what comes, until something was lost: the first answer is cut off before its first byte."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._carrying: set[asyncio.Task[None]] = set()
        self.address = ""
        self.num_lost = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, until `stop`."""
        self._carrying.add(asyncio.create_task(self._carry(reader, writer)))

    async def stop(self) -> None:
        """End all connections."""
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, int(self._port))
        asking = asyncio.create_task(_pump(reader, far_writer))
        try:
            while answer := await far_reader.read(2**16):
                if not self.num_lost:
                    self.num_lost += 1
                    return
                writer.write(answer)
        finally:
            asking.cancel()
            for one in (writer, far_writer):
                one.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def run_relay(target: str) -> AsyncIterator[Relay]:
    """Run one before `target`, `host:port`."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.take, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    relay.address = f"{host}:{port}"
    yield relay
    server.close()
    await relay.stop()

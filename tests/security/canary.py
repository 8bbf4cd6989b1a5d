"""Somebody inside who must not be reached, and somebody outside who may be and who leads astray."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Self

from pictures import red_circle

OUTSIDE = "127.0.0.2"
"""Stands for a public address in these tests: the only one that is allowed."""


class Listener(ABC):
    """A TCP server; how it answers is its heirs' business."""

    def __init__(self) -> None:
        """Begin without a port."""
        self.num_connections = 0
        self.port = 0
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, sock=self._bind(), limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _bind(self) -> socket.socket:
        return socket.create_server((OUTSIDE, 0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.close()
            self._open.discard(task)

    @abstractmethod
    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""


class Canary(Listener):
    """Listens on every address of this machine, whatever its family, and gives a picture to who asks."""

    def _bind(self) -> socket.socket:
        return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = red_circle()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


class Speaker(Listener):
    """Gives the same bytes to everybody; then it hangs up, or keeps still, or goes on for ever."""

    def __init__(self) -> None:
        """Begin with nothing to say."""
        super().__init__()
        self.says = b""
        self.endless = b""
        self.stalls = False

    @property
    def url(self) -> str:
        """Where it listens; the signature is a secret."""
        return f"http://{OUTSIDE}:{self.port}/cat.png?signature=secret"

    def say(self, words: bytes, *, endless: bytes = b"", stalls: bool = False) -> None:
        """Say `words` from now on, then `endless` again and again, then nothing without hanging up."""
        self.says, self.endless, self.stalls = words, endless, stalls

    def redirect(self, location: str, status: int = 302) -> None:
        """Send everybody on to `location`."""
        line = b"HTTP/1.1 %d Moved\r\nContent-Length: 0\r\nLocation: " % status
        self.say(line + location.encode() + b"\r\n\r\n")

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.says)
        await writer.drain()
        while self.endless and not writer.is_closing():
            writer.write(self.endless)
            await writer.drain()
            await asyncio.sleep(0)  # so that others have their turn though the buffer has room
        if self.stalls:
            await reader.read()

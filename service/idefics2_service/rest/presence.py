"""Whether a caller is still there: one who leaves, or takes nothing of an answer, is no fault of ours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

logger = structlog.get_logger(__name__)


class Protocol(H11Protocol):
    """The server's, which lets a call break its connection off."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the server's
        """Remember the connection."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Presence:
    """One caller's, during one call."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, stall_timeout_seconds: float) -> None:
        """Look at a call; who takes nothing for `stall_timeout_seconds` is given up."""
        self._transport: asyncio.Transport = scope["state"]["transport"]
        self._receive = receive
        self._send = send
        self._stall_timeout_seconds = stall_timeout_seconds
        self.has_ended = False
        """Whether nobody hears what is said."""

    async def receive(self) -> Message:
        """As ASGI's."""
        message = await self._receive()
        self.has_ended = self.has_ended or message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """As ASGI's.

        Raises:
            TimeoutError: the caller took nothing.

        """
        try:
            async with asyncio.timeout(self._stall_timeout_seconds):
                await self._send(message)
        except TimeoutError:
            self.has_ended = True
            logger.info("a caller took nothing and is given up")
            raise

    async def end(self) -> None:
        """Break the connection off, so that the caller does not take what came for the whole."""
        self.has_ended = True
        self._transport.abort()
        while (await self._receive())["type"] != "http.disconnect":
            pass

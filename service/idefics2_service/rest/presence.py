"""Whether a caller is still there: one who leaves, sends no more or takes nothing is no fault of ours."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h11
import structlog
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send
    from uvicorn.config import Config
    from uvicorn.server import ServerState

logger = structlog.get_logger(__name__)

_MAX_EARLY_BYTES = 16_384
"""That are kept of what a caller sends before it was answered."""
_MAX_LOOKS = 8
"""After so many patiences, a caller has taken all that was written at once."""
_SLICE_BYTES = 65_536
"""That are written at once over TLS: all of it is encrypted, and out of sight, though nobody takes it."""
_NO_LINGERING = struct.pack("ii", 1, 0)


class Protocol(H11Protocol):
    """The server's, which lets a call break its connection off, and awaits nothing of a caller for ever."""

    def __init__(  # noqa: D417  # the others are the server's
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        stall_timeout_seconds: float,
    ) -> None:
        """Answer on one connection.

        Args:
            stall_timeout_seconds: how long the first head may take from when the connection is there,
                each further one from its first byte, and what is left of a body that was answered early;
                between calls, the server's own patience counts. Also how long nothing may be taken of what
                was written.

        """
        super().__init__(config, server_state, app_state, _loop)
        self._stall_timeout_seconds = stall_timeout_seconds
        self._patience: asyncio.TimerHandle | None = None
        self._next_look: asyncio.TimerHandle | None = None
        """At what is left to be taken."""
        self._least_bytes = 1
        """What has to be taken between two looks."""
        self.has_stalled = False
        """Whether the caller was given up since it took nothing."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the server's
        """Remember the connection, and await the first call."""
        super().connection_made(transport)
        # So that it is heard of every byte that is not taken; over TLS, no bytes would be too many for 0.
        transport.set_write_buffer_limits(high=1 if self.scheme == "https" else 0)
        self.app_state = {**self.app_state, "connection": self}
        self._await_more()

    def data_received(self, data: bytes) -> None:
        """Take what came; it may end a head, or begin one.

        Any byte ends the server's own patience, be it of a body that nobody reads any more.
        """
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end_patience()
            if self.conn.our_state is h11.DONE:
                self._await_more()
        elif self._patience is None:
            self._await_more()

    def handle_events(self) -> None:
        """As the server's, which then reads no more where something came behind a call that is not answered.

        A little of it is read nevertheless: who reads nothing does not see that the caller left.
        """
        super().handle_events()
        if self.flow.read_paused and self.conn.their_state is not h11.SEND_BODY:
            early, _ = self.conn.trailing_data
            if len(early) <= _MAX_EARLY_BYTES:
                self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Await nothing any more."""
        self._end_patience()
        self._end_looks()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Write no more until all was taken, and look whether it is."""
        super().pause_writing()
        self._least_bytes = max(self.transport.get_write_buffer_size() // _MAX_LOOKS, 1)
        self._look_later()

    def resume_writing(self) -> None:
        """Write on: all was taken."""
        self._end_looks()
        super().resume_writing()

    def shutdown(self) -> None:
        """As the server's; what is being closed is left to that."""
        if not self.transport.is_closing():
            super().shutdown()

    def break_off(self) -> None:
        """Close at once, so that the caller does not take what came for the whole."""
        if self.conn.their_http_version == b"1.0" and self in self.connections:
            # To such callers, an answer ends with its connection: that has to be a reset, and no end.
            connected = self.transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        self.transport.abort()

    def close_early(self) -> None:
        """Close behind what was written; that the rest is missing shows all the same, but over HTTP/1.0."""
        if self.conn.their_http_version == b"1.0":
            self.break_off()
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """As the server's; where the answer had begun already, there is no other to be given."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.close_early()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: who offers another protocol is answered in this one, as the standard has it."""

    def _await_more(self) -> None:
        self._patience = self.loop.call_later(self._stall_timeout_seconds, self.timeout_keep_alive_handler)

    def _end_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _look_later(self) -> None:
        num_left = self.transport.get_write_buffer_size()
        self._next_look = self.loop.call_later(self._stall_timeout_seconds, self._look_what_is_left, num_left)

    def _look_what_is_left(self, num_bytes_before: int) -> None:
        """Give the caller up where less was taken since than brings it to an end in some looks."""
        if self.transport.get_write_buffer_size() <= num_bytes_before - self._least_bytes:
            self._look_later()
            return
        logger.info("a caller took nothing, or next to nothing, and is given up")
        self.has_stalled = True
        self.break_off()

    def _end_looks(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None


class Presence:
    """One caller's, during one call."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, stall_timeout_seconds: float) -> None:
        """Look at a call; who sends nothing for `stall_timeout_seconds` is given up."""
        self._connection: Protocol = scope["state"]["connection"]
        self._receive = receive
        self._send = send
        self._stall_timeout_seconds = stall_timeout_seconds
        self._is_body_due = True
        """Whether more of the body is to come: after its end, the next message is that the caller left."""
        self._body_ends_at = math.inf
        """When the body has to be whole, by the clock of the loop."""
        self.has_ended = False
        """Whether nobody hears what is said."""

    @property
    def has_stalled(self) -> bool:
        """Whether the caller was given up since it took nothing."""
        return self._connection.has_stalled

    async def send(self, message: Message) -> None:
        """As ASGI's; who takes nothing is given up by the connection.

        Over TLS, all that is written at once goes below what counts what is left, and nothing more does
        before that is taken: so it has to be little, or who takes it seems to take nothing.
        """
        if self._connection.scheme == "https":
            body = memoryview(message.get("body", b""))
            while len(body) > _SLICE_BYTES:
                await self._send({**message, "body": body[:_SLICE_BYTES], "more_body": True})
                message["body"] = body = body[_SLICE_BYTES:]
        await self._send(message)

    def expect_whole_body(self, seconds: float) -> None:
        """Let all of the body take no longer than so many seconds from now, however it comes."""
        self._body_ends_at = asyncio.get_running_loop().time() + seconds

    async def receive(self) -> Message:
        """As ASGI's.

        Raises:
            HTTPException: the caller sent nothing, or not all in time, though the body is not at its end.

        """
        stalls_at = asyncio.get_running_loop().time() + self._stall_timeout_seconds
        gives_up_at = min(stalls_at, self._body_ends_at)
        try:
            async with asyncio.timeout_at(gives_up_at if self._is_body_due else None):
                message = await self._receive()
        except TimeoutError as error:
            waited = f"nothing more of the body came for {self._stall_timeout_seconds:g} s"
            if gives_up_at < stalls_at:
                waited = "the body was not whole in time"
            raise HTTPException(408, waited, {"connection": "close"}) from error
        self._is_body_due = message.get("more_body", False)
        self.has_ended = self.has_ended or message["type"] == "http.disconnect"
        return message

    async def wait_until_taken(self) -> None:
        """Return when all that was written is taken, or nobody is there any more."""
        await self._connection.flow.drain()

    async def leave_off(self) -> None:
        """Return when all that was written is taken, and the connection closed without an answer's end.

        Or when that takes too long. Over TLS, what is encrypted is out of sight: only closing waits for it.
        """
        await self.wait_until_taken()
        self._connection.close_early()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._stall_timeout_seconds):
                await self._wait_until_gone()

    async def end(self) -> None:
        """Break the connection off, so that the caller does not take what came for the whole."""
        self.has_ended = True
        self._connection.break_off()
        await self._wait_until_gone()

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

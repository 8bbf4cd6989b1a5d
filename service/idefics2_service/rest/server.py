"""The HTTP server on its own port, in the same event loop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from idefics2_service.rest.credentials import make_context
from idefics2_service.rest.ports import bind
from idefics2_service.rest.presence import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from idefics2_service.settings import HttpSettings
    from idefics2_service.tls import Certificates


_KEEP_ALIVE_SECONDS = 75
"""Longer than clients and proxies keep a connection that they use again."""


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """One listening server."""

    def __init__(self, settings: HttpSettings, app: ASGIApp, certificates: Certificates | None) -> None:
        """Bind the port; nothing is answered before `start`.

        Raises:
            StartFailed: the port is taken, or the host is no address of this machine.

        """
        self._socket = bind("http", settings)
        # What is accepted has it, too: asyncio by itself does not know for TCP what comes of this socket, and
        # each answer would wait 40 ms between head and body.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = f"{settings.url_host}:{self._socket.getsockname()[1]}"
        self._make_protocol = partial(Protocol, stall_timeout_seconds=settings.stall_timeout_seconds)
        config = uvicorn.Config(
            app,
            http=self._make_protocol,  # type: ignore[arg-type]  # the faster one reads headers of any length
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=settings.drain_timeout_seconds,  # type: ignore[arg-type]  # any number does
            # Else a call may begin in the trace of the one before it on its connection.
            reset_contextvars=True,
            ssl_context_factory=None if certificates is None else lambda *_: make_context(certificates),
        )
        config.load()
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    @property
    def is_open(self) -> bool:
        """Whether calls are taken."""
        return all(server.is_serving() for server in self._server.servers)

    def make_protocol(self) -> asyncio.Protocol:
        """Answer one more connection, which came in another way."""
        config = self._server.config
        state = self._server.server_state
        return self._make_protocol(config=config, server_state=state, app_state={})

    def leave(self) -> None:
        """Let callers go elsewhere with their next call: each answer ends its connection."""
        header = (b"connection", b"close")
        self._server.config.encoded_headers.append(header)  # what is sent from the next second on
        self._server.server_state.default_headers.append(header)

    async def close(self, drain_seconds: float) -> None:
        """Take no call any more, and return when those that were begun are over, or were given so long.

        The port is closed, and so are connections whose callers wait for nothing.
        """
        for server in self._server.servers:
            server.close()
        state = self._server.server_state
        for connection in state.connections.copy():
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(state.tasks.copy(), timeout=drain_seconds)

    async def stop(self) -> None:
        """Close the port and wait for answers on the way."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()

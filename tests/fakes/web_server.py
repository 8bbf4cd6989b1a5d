"""A web server of somebody else's, on a free port of loopback."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from ports import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def run_web_server(app: web.Application) -> AsyncIterator[int]:
    """Let `app` answer; yield its port."""
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        assert site._server is not None
        port: int = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # a server of asyncio's
        yield port
    finally:
        await runner.cleanup()

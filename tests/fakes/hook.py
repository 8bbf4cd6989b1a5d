"""A host of somebody else's: it has a picture, and is told of the ends of requests."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web
from fakes.web_server import run_web_server
from pictures import red_circle
from ports import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

PATIENCE_SECONDS = 30


@dataclass
class Hook:
    """Answers who tells it of an end with the statuses of a list, then 200."""

    statuses: list[int] = field(default_factory=list)
    calls: asyncio.Queue[tuple[bytes, dict[str, str]]] = field(default_factory=asyncio.Queue)
    url: str = ""
    picture_url: str = ""
    port: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Remember a call."""
        await self.calls.put((await request.read(), dict(request.headers)))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    async def show(self, request: web.Request) -> web.Response:
        """Return the picture of a red circle."""
        return web.Response(body=red_circle(), content_type="image/png")

    async def next_call(self) -> tuple[bytes, dict[str, str]]:
        """Wait for the next call."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.calls.get()


@asynccontextmanager
async def run_hook() -> AsyncIterator[Hook]:
    """Let one listen."""
    hook = Hook()
    app = web.Application()
    app.router.add_post("/hook", hook.answer)
    app.router.add_get("/picture.png", hook.show)
    async with run_web_server(app) as hook.port:
        origin = f"http://{HOST}:{hook.port}"
        hook.url, hook.picture_url = f"{origin}/hook", f"{origin}/picture.png"
        yield hook


def signed_message(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Write what the signature covers, as the hosted endpoint's verifiers do."""
    names = ("Request-Id", "User-Id", "Timestamp")
    lines = [headers[f"X-Fal-Webhook-{name}"] for name in names]
    return "\n".join((*lines, hashlib.sha256(body).hexdigest())).encode()

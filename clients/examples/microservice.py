"""A microservice that describes pictures: `curl --data-binary @cat.png http://127.0.0.1:8000/describe`.

It passes on what its own caller says of the call: how long it waits (`x-timeout-ms`), and which trace it
belongs to (`traceparent` and `tracestate`, as W3C has them). When that caller leaves, the model is left, too.
"""

from __future__ import annotations

import asyncio
import math
import os
from contextvars import ContextVar

from aiohttp import web
from idefics2_client import AsyncClient, Idefics2Error

MAX_SECONDS = 60.0
STATUSES = {
    "INVALID_ARGUMENT": 400,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
CLIENT = web.AppKey("client", AsyncClient)
trace: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("trace", default=())


async def describe(request: web.Request) -> web.Response:
    """Describe the picture that is the body."""
    trace.set(
        tuple(
            (name, request.headers[name]) for name in ("traceparent", "tracestate") if name in request.headers
        )
    )
    seconds = min(float(request.headers.get("x-timeout-ms", "inf")) / 1000, MAX_SECONDS)
    picture = await request.read()
    try:
        answer = await request.app[CLIENT].generate(picture, "Describe the image.", timeout_seconds=seconds)
    except Idefics2Error as error:
        retry = (
            {"retry-after": str(math.ceil(error.retry_after_seconds))} if error.retry_after_seconds else {}
        )
        return web.Response(status=STATUSES.get(error.code, 502), text=f"{error}\n", headers=retry)
    return web.Response(text=f"{answer.output}\n")


async def main() -> None:
    """Serve until Ctrl-C, on PORT."""
    # Where the model is, and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY.
    async with AsyncClient(metadata=trace.get) as client:
        app = web.Application(client_max_size=20_000_000)
        app[CLIENT] = client
        app.router.add_post("/describe", describe)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(os.environ.get("PORT", "8000"))).start()
        print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

"""The HTTP server on its own port, in the same event loop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from idefics2_service.errors import StartFailed
from idefics2_service.rest.context import make_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from idefics2_service.generation import Generation
    from idefics2_service.metrics import Metrics
    from idefics2_service.settings import HttpSettings
    from idefics2_service.signatures import Signer
    from idefics2_service.tls import Certificates


def make_app(generation: Generation, metrics: Metrics, signer: Signer | None) -> Starlette:
    """Build the face.

    `/healthz/live` answers 200 while the process runs, `/healthz/ready` 200 while requests are taken and
    503 otherwise, `/metrics` in Prometheus' text format, `/.well-known/jwks.json` with the keys of webhooks.
    """

    async def live(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        serving = generation.is_serving
        return PlainTextResponse("ok\n" if serving else "not serving\n", 200 if serving else 503)

    async def show_metrics(_: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    async def show_keys(_: Request) -> Response:
        return JSONResponse(signer.jwks if signer else {"keys": []})

    routes = [
        Route("/.well-known/jwks.json", show_keys),
        Route("/healthz/live", live),
        Route("/healthz/ready", ready),
        Route("/metrics", show_metrics),
    ]
    return Starlette(routes=routes)


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """One listening server."""

    def __init__(self, settings: HttpSettings, app: Starlette, certificates: Certificates | None) -> None:
        """Bind the port; nothing is answered before `start`.

        Raises:
            StartFailed: the port is taken.

        """
        try:
            self._socket = socket.create_server((settings.host, settings.port))
        except OSError as error:
            message = (
                f"IDEFICS2_HTTP_PORT: cannot listen on {settings.host}:{settings.port}: {error.strerror}"
            )
            raise StartFailed(message) from error
        self.address = f"{settings.host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ssl_context_factory=None if certificates is None else lambda *_: make_context(certificates),
        )
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def stop(self) -> None:
        """Close the port and wait for answers on the way."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()

"""Keeps the embedded Triton running: when the model is lost, the server is started anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from idefics2_service.errors import StartFailed

if TYPE_CHECKING:
    from idefics2_service.triton.backend import TritonBackend
    from idefics2_service.triton.server import TritonServer

logger = structlog.get_logger(__name__)

SECONDS_BETWEEN_STARTS = 1.0
SECONDS_TO_FIRST_CANARY = 15.0


class EmbeddedTriton:
    """A server and the backend that talks to it."""

    def __init__(self, server: TritonServer, backend: TritonBackend) -> None:
        """Put them together; `start` comes next."""
        self._server = server
        self._backend = backend

    async def start(self) -> None:
        """Start the server and wait until the model answers.

        Raises:
            StartFailed: see TritonServer.start.

        """
        await self._backend.connect(await self._server.start())
        try:
            async with asyncio.timeout(SECONDS_TO_FIRST_CANARY):
                await self._backend.wait_until_healthy()
        except TimeoutError as error:
            message = f"the model is loaded, but no canary came back within {SECONDS_TO_FIRST_CANARY:g} s"
            raise StartFailed(message) from error

    async def stop(self) -> None:
        """End both."""
        await self._backend.close()
        await self._server.stop()

    async def keep_running(self) -> None:
        """Start it again whenever it is lost, for ever.

        A dead stub leaves its server alive, ready by its own word, and useless: so health is the canary's
        word alone, and the cure is always a new server.
        """
        while True:
            await self._backend.wait_until_healthy(healthy=False)
            logger.warning("triton is lost, starting it again", triton_log=self._server.read_log_tail())
            await self.stop()
            try:
                await self.start()
            except Exception as error:  # noqa: BLE001  # whatever it is, trying again is the only way on
                logger.error("triton did not start", error=str(error))  # noqa: TRY400  # it says what is wrong
                await asyncio.sleep(SECONDS_BETWEEN_STARTS)

"""The asyncio client."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Unpack

from idefics2_client.aio.watch import AsyncRequestWatch
from idefics2_client.requests import Options, make_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from idefics2.v1.generation_pb2 import CountTokensResponse, Event, GenerateResponse

    from idefics2_client.images import ImageSource


class AsyncClient(AsyncRequestWatch):
    """Asks one service; the tasks of one event loop may share it.

    Questions take an image (see `ImageSource`), a prompt and `Options` by name. Local images are part of the
    request as long as they have 8 MB together; what is beyond is uploaded first. All methods raise
    `Idefics2Error` where there is no answer. `timeout_seconds` bounds the whole call, waiting for a turn
    included; None waits as long as it takes. Cancelling the task cancels the call.
    """

    async def generate(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[Options],
    ) -> GenerateResponse:
        """Return the answer when it is complete.

        Raises:
            Idefics2Error: see `idefics2_client.errors`.

        """
        patience = self._patience(timeout_seconds)
        request = await self._compose(make_request, image, prompt, options, patience)
        return await self._ask(self._generation.Generate, request, patience)

    async def stream(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Event, None]:
        """Yield each event as it happens, `finished` last. Closing the generator cancels the call.

        Request and call are made with the first `anext`.

        Raises:
            Idefics2Error: see `idefics2_client.errors`.

        """
        patience = self._patience(timeout_seconds)
        request = await self._compose(make_request, image, prompt, options, patience)
        async with aclosing(self._follow(self._generation.GenerateStream, request, patience)) as events:
            async for event in events:
                yield event

    async def count_tokens(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[Options],
    ) -> CountTokensResponse:
        """Return what the request would cost, without running it.

        Raises:
            Idefics2Error: see `idefics2_client.errors`.

        """
        patience = self._patience(timeout_seconds)
        request = await self._compose(make_request, image, prompt, options, patience)
        return await self._ask(self._generation.CountTokens, request, patience)

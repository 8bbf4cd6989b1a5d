"""A backend that says what a test tells it to say, when it tells it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fakes.backend import FakeBackend
from fakes.script import Script
from idefics2_service.backend import BackendEvent, BackendFinished
from idefics2_service.events import StageEntered, TextDelta
from idefics2_service.requests import FinishReason, ResolvedRequest, Stage, Usage
from pictures import NUM_IMAGE_TOKENS, NUM_PROMPT_TOKENS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class SpokenBackend(FakeBackend):
    """Answers one request at a time, as it is told."""

    def __init__(self) -> None:
        """Begin with nothing to say."""
        super().__init__(Script())
        self.requests: list[ResolvedRequest] = []
        self.cancelled = asyncio.Event()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()

    def say(self, *pieces: str) -> None:
        """Go on with the answer."""
        for piece in pieces:
            self._pieces.put_nowait(piece)

    def end(self) -> None:
        """End the answer."""
        self._pieces.put_nowait(None)

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        self.requests.append(request)
        yield StageEntered(Stage.PREFILL)
        yield StageEntered(Stage.DECODE)
        count = 1
        try:
            while (piece := await self._pieces.get()) is not None:
                yield TextDelta(piece, count)
                count += 1
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        usage = Usage(NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS, count)
        yield BackendFinished(FinishReason.END_OF_TURN, usage)

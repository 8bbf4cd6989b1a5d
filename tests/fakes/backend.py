"""A backend without a model, in this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from idefics2_service.backend import BackendEvent, BackendFinished
from idefics2_service.errors import BackendUnavailable, error_for
from idefics2_service.events import StageEntered, TextDelta
from idefics2_service.requests import FinishReason, ImageFile, ResolvedRequest, Stage, TokenCount, Usage
from pictures import MAX_CONTEXT_TOKENS, NUM_IMAGE_TOKENS, NUM_PATCHES, NUM_PROMPT_TOKENS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fakes.script import Script


class FakeBackend:
    """Answers as its script says."""

    name = "fake"

    def __init__(self, script: Script) -> None:
        """Begin healthy."""
        self._script = script
        self._changed = asyncio.Condition()
        self.is_healthy = True

    async def set_healthy(self, *, healthy: bool) -> None:
        """Be lost, or come back."""
        async with self._changed:
            self.is_healthy = healthy
            self._changed.notify_all()

    async def wait_until_healthy(self, *, healthy: bool = True) -> None:
        """As Backend.wait_until_healthy."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.is_healthy is healthy)

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        if not self.is_healthy:
            raise BackendUnavailable.unsent("the model's server is not ready")
        answer = self._script.take()
        if answer.is_refused:
            raise BackendUnavailable.unsent("the engine was lost before")
        if answer.failure:
            reason, message, field = answer.failure
            named = request.images[int(field.removeprefix("images[").removesuffix("]"))].field
            raise error_for(reason, message.replace(field, named), named)
        yield StageEntered(Stage.PREFILL)
        yield StageEntered(Stage.DECODE)
        for count, piece in enumerate(answer.pieces, 1):
            yield TextDelta(piece, count)
        if answer.is_lost:
            raise BackendUnavailable("the model's server was lost")
        if answer.holds:
            try:
                await asyncio.Event().wait()
            finally:
                self._script.note_cancelled()
        yield BackendFinished(
            FinishReason(answer.finish_reason),
            Usage(NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS, len(answer.pieces) + 1),
        )

    async def count_tokens(
        self, prompt: str, images: tuple[ImageFile, ...], *, split_images: bool | None
    ) -> TokenCount:
        """As Backend.count_tokens."""
        assert prompt
        assert split_images is None
        return TokenCount(
            NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS * len(images), NUM_PATCHES * len(images), MAX_CONTEXT_TOKENS
        )

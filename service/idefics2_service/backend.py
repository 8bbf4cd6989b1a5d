"""What runs the model, as the front sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from idefics2_service.events import StageEntered, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from idefics2_service.requests import FinishReason, ImageFile, ResolvedRequest, TokenCount, Usage


@dataclass(frozen=True)
class BackendFinished:
    """The last thing a backend says of a request."""

    finish_reason: FinishReason
    usage: Usage
    preprocessing_seconds: float = 0.0
    """Building the prompt and decoding images, before the request could run."""
    vision_seconds: float = 0.0
    """Looking at images, while it ran."""
    stage_seconds: dict[str, float] = field(default_factory=dict, compare=False)
    """By the backend's own clock, one after the other, as far as it tells them."""


BackendEvent = StageEntered | TextDelta | BackendFinished


class Backend(Protocol):
    """Three duties: generate, count, and say whether it is healthy."""

    @property
    def name(self) -> str:
        """What it is, for logs."""
        ...

    @property
    def is_healthy(self) -> bool:
        """Whether a request that is sent now can be expected to be answered."""
        ...

    def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """Run a request; the last event is BackendFinished.

        Closing the iterator, or cancelling the task that waits for it, frees what the request holds on
        the model within one step.

        Raises:
            InvalidInput: the model found at fault what only it can check.
            BackendUnavailable: it is not there (`unsent`), or was lost on the way; the same request can be
                tried again.
            InternalError: it failed this request alone.

        """
        ...

    async def count_tokens(
        self, prompt: str, images: tuple[ImageFile, ...], *, split_images: bool | None
    ) -> TokenCount:
        """Count without running; raises as `generate` does."""
        ...

    async def wait_until_healthy(self, *, healthy: bool = True) -> None:
        """Return when `is_healthy` is as asked."""
        ...

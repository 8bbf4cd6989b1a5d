"""The core behind every face: take a request, let it be watched, end it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from idefics2_service import lifecycle, outcomes
from idefics2_service.errors import (
    BackendUnavailable,
    RequestCancelled,
    ServiceError,
    ServiceStopping,
)
from idefics2_service.events import Failed, Feed
from idefics2_service.validation import validate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2_service.events import Event, Happening
    from idefics2_service.lifecycle import Means
    from idefics2_service.requests import (
        Deadlines,
        GenerateInput,
        GenerateOutput,
        RequestName,
        TokenCount,
        ValidRequest,
    )


class Generation:
    """All requests of this process."""

    def __init__(self, means: Means) -> None:
        """Begin with none."""
        self._means = means
        self._tasks: set[asyncio.Task[GenerateOutput]] = set()
        self._leaving = self._stopping = False

    @property
    def is_serving(self) -> bool:
        """Whether requests should come here."""
        return self._means.backend.is_healthy and not self._leaving

    @asynccontextmanager
    async def attach(
        self, name: RequestName, given: GenerateInput, deadlines: Deadlines
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Run a request as long as the caller stays: leaving the context cancels it.

        Args:
            name: Whose it is, and under which id it is logged and answered.
            given: The request as the caller sent it.
            deadlines: When to give up.

        Yields:
            Its events, to the last.

        Raises:
            ServiceError: it was not taken; what happens later is told by its last event.

        """
        try:
            request = self._admit(given)
            self._means.turns.check_room(name.key_id)
        except ServiceError as error:
            outcomes.record(name, Failed(error), 0, self._means.metrics)
            raise
        feed = Feed()
        task = self._start(name, request, deadlines, feed)
        try:
            yield feed
        finally:
            task.cancel()

    async def count_tokens(self, key_id: str, given: GenerateInput) -> tuple[TokenCount, bool]:
        """Count what a request would cost, and tell whether it would fit.

        Raises:
            ServiceError: it would not be taken for a reason other than its length.

        """
        request = self._admit(given)
        async with lifecycle.hold_images(key_id, request, self._means, lambda _: None) as images:
            count = await self._means.backend.count_tokens(
                request.prompt, images, split_images=request.split_images
            )
        return count, count.num_prompt_tokens + request.max_new_tokens <= count.max_context_tokens

    def leave(self) -> None:
        """Say that requests should not come any more; who comes is answered as ever."""
        self._leaving = True

    async def stop(self, drain_seconds: float) -> None:
        """Take nothing new, give what runs `drain_seconds`, then cancel it."""
        self._leaving = self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=drain_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _admit(self, given: GenerateInput) -> ValidRequest:
        """Check a request, and that there is somebody to answer it."""
        request = validate(given, self._means.limits)
        if self._stopping:
            raise ServiceStopping("this replica is shutting down")
        if not self._means.backend.is_healthy:
            raise BackendUnavailable("the model's server is not ready")
        return request

    def _start(
        self, name: RequestName, request: ValidRequest, deadlines: Deadlines, feed: Feed
    ) -> asyncio.Task[GenerateOutput]:
        started = time.monotonic()

        def publish(happening: Happening) -> None:
            feed.append(time.time(), happening)

        def publish_end(task: asyncio.Task[GenerateOutput]) -> None:
            # Not in the coroutine: a task that is cancelled before its first step never enters its `try`.
            self._tasks.discard(task)
            end = outcomes.end_of(task, name.request_id, self._why_cancelled())
            publish(end)
            outcomes.record(name, end, time.monotonic() - started, self._means.metrics)

        task = asyncio.create_task(
            lifecycle.run(name, request, deadlines, self._means, publish), name=name.request_id
        )
        self._tasks.add(task)
        task.add_done_callback(publish_end)
        return task

    def _why_cancelled(self) -> ServiceError:
        if self._stopping:
            return ServiceStopping("this replica is shutting down")
        return RequestCancelled("the request was cancelled")

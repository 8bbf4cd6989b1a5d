"""The core behind every face: take a request, let it be watched, end it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from idefics2_service import lifecycle
from idefics2_service.errors import (
    BackendUnavailable,
    InternalError,
    RequestCancelled,
    ServiceError,
    ServiceStopping,
)
from idefics2_service.events import Failed, Finished, History
from idefics2_service.validation import validate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2_service.events import Event, Happening
    from idefics2_service.lifecycle import Means
    from idefics2_service.requests import GenerateInput, GenerateOutput, TokenCount, ValidRequest

logger = structlog.get_logger(__name__)


class Generation:
    """All requests of this process."""

    def __init__(self, means: Means) -> None:
        """Begin with none."""
        self._means = means
        self._tasks: set[asyncio.Task[GenerateOutput]] = set()
        self._stopping = False

    @property
    def is_serving(self) -> bool:
        """Whether a request that comes now would be taken."""
        return self._means.backend.is_healthy and not self._stopping

    @asynccontextmanager
    async def attach(
        self, given: GenerateInput, request_id: str, deadline: float | None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Run a request as long as the caller stays: leaving the context cancels it.

        Args:
            given: The request as the caller sent it.
            request_id: Unique among the requests that are running.
            deadline: When to give up, on the event loop's clock; None never.

        Yields:
            Its events, to the last.

        Raises:
            ServiceError: it was not taken; what happens later is told by its last event.

        """
        try:
            request = self._admit(given)
            self._means.turns.check_room()
        except ServiceError as error:
            self._record(request_id, Failed(error), 0)
            raise
        history = History()
        task = self._start(request_id, request, deadline, history)
        try:
            yield history.watch()
        finally:
            task.cancel()

    async def count_tokens(self, given: GenerateInput) -> tuple[TokenCount, bool]:
        """Count what a request would cost, and tell whether it would fit.

        Raises:
            ServiceError: it would not be taken for a reason other than its length.

        """
        request = self._admit(given)
        images = await lifecycle.resolve_images(request, self._means, lambda _: None)
        count = await self._means.backend.count_tokens(
            request.prompt, images, split_images=request.split_images
        )
        return count, count.num_prompt_tokens + request.max_new_tokens <= count.max_context_tokens

    async def stop(self, drain_seconds: float) -> None:
        """Take nothing new, give what runs `drain_seconds`, then cancel it."""
        self._stopping = True
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
        self, request_id: str, request: ValidRequest, deadline: float | None, history: History
    ) -> asyncio.Task[GenerateOutput]:
        started = time.monotonic()

        def publish(happening: Happening) -> None:
            history.append(time.time(), happening)

        def publish_end(task: asyncio.Task[GenerateOutput]) -> None:
            # Not in the coroutine: a task that is cancelled before its first step never enters its `try`.
            self._tasks.discard(task)
            error = self._error_of(task, request_id)
            if error is not None:
                publish(Failed(error))
            self._record(request_id, history.events[-1].happening, time.monotonic() - started)

        task = asyncio.create_task(
            lifecycle.run(request_id, request, deadline, self._means, publish), name=request_id
        )
        self._tasks.add(task)
        task.add_done_callback(publish_end)
        return task

    def _error_of(self, task: asyncio.Task[GenerateOutput], request_id: str) -> ServiceError | None:
        """Say what a task that ended is an error of, if it is."""
        if task.cancelled():
            if self._stopping:
                return ServiceStopping("this replica is shutting down")
            return RequestCancelled("the request was cancelled")
        error = task.exception()
        if error is None or isinstance(error, ServiceError):
            return error
        logger.error("request failed", request_id=request_id, exc_info=error)
        return InternalError(f"the service failed; its log has the details under {request_id}")

    def _record(self, request_id: str, last: Happening, seconds: float) -> None:
        """Count a request that ended or was not taken, and write its line."""
        match last:
            case Finished(output):
                reason, usage = "OK", output.usage
                self._means.metrics.record_output(output)
                facts = {**vars(usage), "finish_reason": output.finish_reason.value}
            case Failed(error):
                reason, facts = error.reason, {"field": error.field} if error.field else {}
        self._means.metrics.requests.labels(reason).inc()
        logger.info("request ended", request_id=request_id, reason=reason, seconds=round(seconds, 4), **facts)

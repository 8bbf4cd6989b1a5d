"""How the asyncio client follows requests, over connections that may be lost."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Unpack

from idefics2.v1.requests_pb2 import CancelRequestRequest, GetRequestRequest, GetResultRequest

from idefics2_client.aio.request_calls import AsyncRequestCalls
from idefics2_client.cursor import Cursor
from idefics2_client.errors import Idefics2Error
from idefics2_client.requests import make_message
from idefics2_client.submission import SubmitOptions, make_submission
from idefics2_client.subscription import CANCEL_SECONDS, Subscription
from idefics2_client.updates import Callbacks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from idefics2.v1.generation_pb2 import Event, GenerateResponse
    from idefics2.v1.requests_pb2 import LoggedLine

    from idefics2_client.images import ImageSource
    from idefics2_client.retry import Patience
    from idefics2_client.subscription import Notice
    from idefics2_client.updates import QueueUpdate, TextUpdate


class AsyncRequestWatch(AsyncRequestCalls):
    """Watch, wait for a result, subscribe."""

    def watch(
        self, request_id: str, after: int = 0, *, timeout_seconds: float | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield each event after number `after`, those that happened before too, to `finished`.

        It outlives lost connections and servers that start anew, without gap or repeat; see `Retry`. Events
        of sequence 0 tell places in the queue. `finished` holds an answer or a failure, which is not raised.
        Leaving does not cancel the request. The call is made with the first `anext`.

        Raises:
            NotFound: there is none of this name.
            DeadlineExceeded: `timeout_seconds` passed, all connections together.
            Idefics2Error: see `idefics2_client.errors`.

        """
        return self._watch(Cursor(request_id, after), self._patience(timeout_seconds))

    async def result(
        self, request_id: str, *, wait: bool = False, timeout_seconds: float | None = None
    ) -> GenerateResponse:
        """Return the answer; with `wait` when there is one, as long as `watch` would watch.

        Raises:
            NotFinished: there is none yet; never with `wait`.
            NotFound: there is no request of this name.
            Idefics2Error: the request's own error, or one of the call; see `idefics2_client.errors`.

        """
        patience = self._patience(timeout_seconds)
        if not wait:
            question = make_message(GetResultRequest, request_id=request_id)
            return await self._ask(self._requests.GetResult, question, patience)
        cursor = Cursor(request_id)
        async for _ in self._watch(cursor, patience):
            pass
        return cursor.answer()

    async def subscribe(
        self,
        image: ImageSource,
        prompt: str,
        *,
        on_queue_update: Callable[[QueueUpdate], object] | None = None,
        on_log: Callable[[LoggedLine], object] | None = None,
        on_text: Callable[[TextUpdate], object] | None = None,
        timeout_seconds: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> GenerateResponse:
        """Submit a request, tell the callbacks what happens to it, and return the answer.

        What a callback returns is awaited, where it can be. Outlives what `watch` outlives, at every step.
        Whoever leaves without an answer, because the task was cancelled, because a callback raised or because
        `timeout_seconds` passed, cancels the request.

        Raises:
            Idefics2Error: the request's own error, or one of the calls; see `idefics2_client.errors`.

        """
        patience = self._patience(timeout_seconds)
        submission = await self._compose(make_submission, image, prompt, options, patience)
        callbacks = Callbacks(on_queue_update, on_log, on_text)
        subscription = Subscription(submission, callbacks)
        try:
            await self._attend(subscription, patience)
        except BaseException as error:
            if subscription.is_left_by(error, was_lost=patience.is_tried):
                await self._leave(subscription)
            raise
        return subscription.cursor.answer()

    async def _attend(self, subscription: Subscription, patience: Patience) -> None:
        taken = await self._insist(self._requests.Submit, subscription.submission, patience)
        patience.begin()
        await _tell(subscription.begin(taken))
        async with aclosing(self._watch(subscription.cursor, patience)) as events:
            async for event in events:
                await _tell(subscription.tell(event))

    async def _leave(self, subscription: Subscription) -> None:
        """Cancel a request in a task of its own: whoever leaves may be cancelled once more meanwhile."""
        leaving = asyncio.create_task(self._cancel_left(subscription))
        self._last_calls.add(leaving)
        leaving.add_done_callback(self._last_calls.discard)
        await asyncio.shield(leaving)

    async def _cancel_left(self, subscription: Subscription) -> None:
        question = make_message(CancelRequestRequest, request_id=subscription.submission.request_id)
        patience = self._patience(CANCEL_SECONDS)
        patience.begin()
        with suppress(Idefics2Error):
            await self._insist(self._requests.CancelRequest, question, patience)

    async def _watch(self, cursor: Cursor, patience: Patience) -> AsyncGenerator[Event, None]:
        while not cursor.is_finished:
            try:
                async with aclosing(self._read_on(cursor, patience)) as events:
                    async for event in events:
                        yield event
            except Idefics2Error as error:
                if not cursor.is_finished:
                    pause = patience.pause_after(error)
                    if pause is None:
                        raise
                    await asyncio.sleep(pause)
            else:
                return

    async def _read_on(self, cursor: Cursor, patience: Patience) -> AsyncGenerator[Event, None]:
        """Yield what is new on one connection."""
        async with aclosing(self._follow(self._requests.WatchRequest, cursor.question, patience)) as events:
            async for event in events:
                patience.begin()
                patience.restore()
                if cursor.take(event):
                    yield event
        if not cursor.is_finished:
            question = make_message(GetRequestRequest, request_id=cursor.question.request_id)
            cursor.check_end(await self._ask(self._requests.GetRequest, question, patience))


async def _tell(notices: Iterable[Notice]) -> None:
    for callback, update in notices:
        told = callback(update)
        if inspect.isawaitable(told):
            await told

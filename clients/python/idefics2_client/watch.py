"""How the blocking client follows requests, over connections that may be lost."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Unpack

from idefics2.v1.requests_pb2 import CancelRequestRequest, GetRequestRequest, GetResultRequest

from idefics2_client.cursor import Cursor
from idefics2_client.errors import Idefics2Error
from idefics2_client.request_calls import RequestCalls
from idefics2_client.requests import make_message
from idefics2_client.submission import SubmitOptions, make_submission
from idefics2_client.subscription import CANCEL_SECONDS, Subscription
from idefics2_client.updates import Callbacks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from idefics2.v1.generation_pb2 import Event, GenerateResponse
    from idefics2.v1.requests_pb2 import LoggedLine

    from idefics2_client.images import ImageSource
    from idefics2_client.retry import Patience
    from idefics2_client.subscription import Notice
    from idefics2_client.updates import QueueUpdate, TextUpdate


class RequestWatch(RequestCalls):
    """Watch, wait for a result, subscribe."""

    def watch(
        self, request_id: str, after: int = 0, *, timeout_seconds: float | None = None
    ) -> Generator[Event, None, None]:
        """Yield each event after number `after`, those that happened before too, to `finished`.

        It outlives lost connections and servers that start anew, without gap or repeat; see `Retry`. Events
        of sequence 0 tell places in the queue. `finished` holds an answer or a failure, which is not raised.
        Leaving does not cancel the request. The call is made with the first `next`.

        Raises:
            NotFound: there is none of this name.
            DeadlineExceeded: `timeout_seconds` passed, all connections together.
            Idefics2Error: see `idefics2_client.errors`.

        """
        return self._watch(Cursor(request_id, after), self._patience(timeout_seconds))

    def result(
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
            return self._ask(self._requests.GetResult, question, patience)
        cursor = Cursor(request_id)
        for _ in self._watch(cursor, patience):
            pass
        return cursor.answer()

    def subscribe(
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

        Outlives what `watch` outlives, at every step. Whoever leaves without an answer, by Ctrl-C, by an
        exception of a callback or because `timeout_seconds` passed, cancels the request.

        Raises:
            Idefics2Error: the request's own error, or one of the calls; see `idefics2_client.errors`.

        """
        callbacks = Callbacks(on_queue_update, on_log, on_text)
        patience = self._patience(timeout_seconds)
        submission = self._compose(make_submission, image, prompt, options, patience)
        subscription = Subscription(submission, callbacks)
        try:
            self._attend(subscription, patience)
        except BaseException as error:
            if subscription.is_left_by(error, was_lost=patience.is_tried):
                self._leave(subscription)
            raise
        return subscription.cursor.answer()

    def _attend(self, subscription: Subscription, patience: Patience) -> None:
        taken = self._insist(self._requests.Submit, subscription.submission, patience)
        patience.begin()
        _tell(subscription.begin(taken))
        with closing(self._watch(subscription.cursor, patience)) as events:
            for event in events:
                _tell(subscription.tell(event))

    def _leave(self, subscription: Subscription) -> None:
        question = make_message(CancelRequestRequest, request_id=subscription.submission.request_id)
        patience = self._patience(CANCEL_SECONDS)
        patience.begin()
        with suppress(Idefics2Error):
            self._insist(self._requests.CancelRequest, question, patience)

    def _watch(self, cursor: Cursor, patience: Patience) -> Generator[Event, None, None]:
        while not cursor.is_finished:
            try:
                yield from self._read_on(cursor, patience)
            except Idefics2Error as error:
                if not cursor.is_finished:
                    pause = patience.pause_after(error)
                    if pause is None:
                        raise
                    time.sleep(pause)
            else:
                return

    def _read_on(self, cursor: Cursor, patience: Patience) -> Generator[Event, None, None]:
        """Yield what is new on one connection."""
        with closing(self._follow(self._request_streams.WatchRequest, cursor.question, patience)) as events:
            for event in events:
                patience.begin()
                patience.restore()
                if cursor.take(event):
                    yield event
        if not cursor.is_finished:
            question = make_message(GetRequestRequest, request_id=cursor.question.request_id)
            cursor.check_end(self._ask(self._requests.GetRequest, question, patience))


def _tell(notices: Iterable[Notice]) -> None:
    for callback, update in notices:
        callback(update)

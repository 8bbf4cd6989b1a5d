"""A request whose caller waits for it: what to send, what to call back, and whether to cancel it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from google.rpc.code_pb2 import CANCELLED
from idefics2.v1.generation_pb2 import Stage
from idefics2.v1.requests_pb2 import LoggedLine, State

from idefics2_client.cursor import Cursor
from idefics2_client.errors import AlreadyExists, DeadlineExceeded, Idefics2Error
from idefics2_client.names import write_name
from idefics2_client.updates import Callbacks, QueueUpdate, TextUpdate

if TYPE_CHECKING:
    from idefics2.v1.generation_pb2 import Event, Finished, TextDelta
    from idefics2.v1.requests_pb2 import Request, SubmitRequest

_Update = TypeVar("_Update")

Notice: TypeAlias = tuple[Callable[[Any], object], object]
"""Whom to call, and with what."""

CANCEL_SECONDS = 5.0
"""How long it may take to cancel a request that is left."""


class Subscription:
    """What has happened to one request so far; the same for every transport."""

    def __init__(self, submission: SubmitRequest, callbacks: Callbacks) -> None:
        """Follow `submission`; it gets a name where it has none, so that sending it again is safe."""
        submission.request_id = submission.request_id or uuid.uuid4().hex
        self.submission = submission
        self.cursor = Cursor(submission.request_id)
        self._callbacks = callbacks
        self._place = QueueUpdate(submission.request_id, "")
        self._text = TextUpdate()
        self._is_taken = False

    def begin(self, request: Request) -> Sequence[Notice]:
        """Know that it was taken."""
        self._is_taken = True
        return self._move(
            state=write_name(State.DESCRIPTOR, request.state),
            position=request.queue_position if request.HasField("queue_position") else None,
            stage=write_name(Stage.DESCRIPTOR, request.stage) if request.stage else None,
            attempt=request.num_attempts,
        )

    def tell(self, event: Event) -> Sequence[Notice]:
        """Say who is to hear of an event; nobody hears of a kind that is not known."""
        notices: Sequence[Notice] = ()
        match event.WhichOneof("event"):
            case "queue_position":
                notices = self._move(state="queued", position=event.queue_position.position, stage=None)
            case "attempt_started":
                notices = self._begin_attempt(event.attempt_started.attempt)
            case "stage_entered":
                notices = self._move(stage=write_name(Stage.DESCRIPTOR, event.stage_entered.stage))
            case "log_line":
                line = LoggedLine(time=event.time, message=event.log_line.message)
                notices = _notify(self._callbacks.on_log, line)
            case "text_delta":
                notices = self._append(event.text_delta)
            case "finished":
                notices = self._move(state=_name_end(event.finished), position=None, stage=None)
        return notices

    def is_left_by(self, error: BaseException, *, was_lost: bool) -> bool:
        """Tell whether nobody waits any more, because of `error`, for what was or may have been taken.

        A refusal tells of the last try alone: one before it that was lost may have been taken, unless the
        name is another request's.
        """
        is_refused = isinstance(error, Idefics2Error) and not isinstance(error, DeadlineExceeded)
        may_be_taken = not is_refused or (was_lost and not isinstance(error, AlreadyExists))
        return not self.cursor.is_finished and (self._is_taken or may_be_taken)

    def _begin_attempt(self, attempt: int) -> Sequence[Notice]:
        moved = self._move(state="running", position=None, stage=None, attempt=attempt)
        had_text, self._text = bool(self._text.text), TextUpdate(attempt=attempt)
        return [*moved, *(_notify(self._callbacks.on_text, self._text) if had_text else ())]

    def _append(self, delta: TextDelta) -> Sequence[Notice]:
        text, num_tokens = self._text.text + delta.text, delta.num_generated_tokens
        self._text = TextUpdate(delta.text, text, num_tokens, self._text.attempt)
        return _notify(self._callbacks.on_text, self._text)

    def _move(self, **changes: Any) -> Sequence[Notice]:
        before, self._place = self._place, replace(self._place, **changes)
        return _notify(self._callbacks.on_queue_update, self._place) if self._place != before else ()


def _notify(callback: Callable[[_Update], object] | None, update: _Update) -> Sequence[Notice]:
    return [(callback, update)] if callback else ()


def _name_end(finished: Finished) -> str:
    if finished.HasField("response"):
        return "succeeded"
    return "cancelled" if finished.failure.code == CANCELLED else "failed"

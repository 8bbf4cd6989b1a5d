"""Where a watcher stands in the list of a request's events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2.v1.requests_pb2 import WatchRequestRequest

from idefics2_client.errors import ServiceFailed, ServiceUnavailable
from idefics2_client.failures import read_failure
from idefics2_client.requests import make_message

if TYPE_CHECKING:
    from idefics2.v1.generation_pb2 import Event, Finished, GenerateResponse
    from idefics2.v1.requests_pb2 import Request


class Cursor:
    """What is known of one request, and so what to ask for next: the same for every transport."""

    def __init__(self, request_id: str, after: int = 0) -> None:
        """Know the events up to number `after`.

        Raises:
            InvalidRequest: the name is not Unicode, or the number too large for the wire.

        """
        self.question = make_message(WatchRequestRequest, request_id=request_id, after=after)
        """What to send, at first and after each loss of the connection."""
        self._position: int | None = None
        self._finished: Finished | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the last event is known."""
        return self._finished is not None

    def take(self, event: Event) -> bool:
        """Note an event that arrived; return whether it says anything new."""
        if event.sequence == 0:
            return not event.HasField("queue_position") or self._move_to(event.queue_position.position)
        if event.sequence <= self.question.after:
            return False
        self.question.after, self._position = event.sequence, None
        if event.HasField("finished"):
            self._finished = event.finished
        return True

    def check_end(self, request: Request) -> None:
        """Compare a stream that ended without a last event with what the service knows.

        Raises:
            ServiceUnavailable: there is or will be more to tell, so the stream was lost.

        """
        if not request.HasField("end_time") or request.last_sequence > self.question.after:
            raise ServiceUnavailable("the stream ended before the request did", code="UNAVAILABLE")

    def answer(self) -> GenerateResponse:
        """Return what the last event holds.

        Raises:
            Idefics2Error: the request's own error, or the stream ended without a last event.

        """
        if self._finished is None:
            raise ServiceFailed("the service ended the stream before the answer was complete")
        if self._finished.HasField("failure"):
            raise read_failure(self._finished.failure, self.question.request_id)
        return self._finished.response

    def _move_to(self, position: int) -> bool:
        """Note a place in the queue; a new connection tells of one that is known already."""
        before, self._position = self._position, position
        return position != before

"""One request as its client lives it: submit, watch, perhaps cancel, ask for the result, look again later."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from faults.requests.caller import reason_of
from faults.requests.record import End, Seen, Story
from faults.requests.triton import SLOW, true_answer
from idefics2.v1 import error_reason_pb2, generation_pb2, requests_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from faults.requests.caller import Caller
    from faults.requests.hook import Hook


@dataclass(frozen=True)
class Wish:
    """What a client does with its request."""

    watches: bool = True
    """From the beginning; else it only looks later."""
    is_slow: bool = False
    """Wants an answer that takes longer than a lease."""
    cancels_after: float | None = None
    """So many seconds after it was acknowledged."""
    hook: Hook | None = None
    """Who is to be told of its end."""


class Client:
    """Somebody who wants one answer, and writes down all that is told."""

    def __init__(self, number: int, caller: Caller, clock: Callable[[], float], wish: Wish) -> None:
        """Ask question `number`."""
        self._prompt = f"{SLOW if wish.is_slow else ''}question {number}"
        self.story = Story(f"request-{number}", true_answer(self._prompt))
        self._caller = caller
        self._clock = clock
        self._wish = wish

    async def live(self) -> None:
        """Submit, and do what is wished."""
        self.story.submitted_at = self._clock()
        with _noting(self.story):
            webhook_url = self._wish.hook.expect(self.story) if self._wish.hook else ""
            await self._caller.submit(self.story.request_id, self._prompt, webhook_url=webhook_url)
            self.story.acknowledged_at = self._clock()
            async with asyncio.TaskGroup() as group:
                if self._wish.watches:
                    group.create_task(self._watch())
                if self._wish.cancels_after is not None:
                    group.create_task(self._cancel(self._wish.cancels_after))

    async def look(self) -> None:
        """See what became of it, also where that is known already."""
        with _noting(self.story):
            await self._watch()
            await self._ask_for_result()
            message = requests_pb2.GetRequestRequest(request_id=self.story.request_id)
            self._note_request(await self._caller.call("GetRequest", message))
            self.story.ended_at = self._clock()

    async def _watch(self) -> None:
        watch: list[Seen] = []
        self.story.watches.append(watch)
        async for event in self._caller.watch(self.story.request_id):
            watch.append(see(event))
            if event.HasField("finished"):
                self.story.ends.append(read_end(event.finished))

    async def _cancel(self, after: float) -> None:
        await asyncio.sleep(after)
        self.story.is_cancel_sent = True
        message = requests_pb2.CancelRequestRequest(request_id=self.story.request_id)
        self._note_request(await self._caller.call("CancelRequest", message))

    async def _ask_for_result(self) -> None:
        message = requests_pb2.GetResultRequest(request_id=self.story.request_id)
        try:
            response = await self._caller.call("GetResult", message)
            self.story.ends.append(End("SUCCEEDED", text=response.output))
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error)
            if reason == "REQUEST_NOT_FOUND":
                raise
            self.story.ends.append(End.of_failure(reason))

    def _note_request(self, request: requests_pb2.Request) -> None:
        if request.state not in {requests_pb2.STATE_QUEUED, requests_pb2.STATE_RUNNING}:
            reason = _name_reason(request.failure.reason)
            self.story.ends.append(End(requests_pb2.State.Name(request.state).removeprefix("STATE_"), reason))


@contextmanager
def _noting(story: Story) -> Iterator[None]:
    """Write down an answer that no call should get."""
    try:
        yield
    except* grpc.aio.AioRpcError as refusals:
        for error in refusals.exceptions:
            assert isinstance(error, grpc.aio.AioRpcError)
            reason = reason_of(error)
            if reason == "REQUEST_NOT_FOUND":
                story.is_lost |= story.acknowledged_at is not None
            else:
                story.errors.append(f"{error.code().name} {reason}: {error.details()}")


def see(event: generation_pb2.Event) -> Seen:
    """Write an event down."""
    return Seen(
        event.sequence,
        event.WhichOneof("event") or "",
        event.SerializeToString(deterministic=True),
        event.text_delta.text,
        event.attempt_started.attempt,
        event.stage_entered.stage in {generation_pb2.STAGE_PREFILL, generation_pb2.STAGE_DECODE},
    )


def read_end(finished: generation_pb2.Finished) -> End:
    """Write down how a request ended, as its last event tells it."""
    if finished.HasField("response"):
        return End("SUCCEEDED", text=finished.response.output)
    return End.of_failure(_name_reason(finished.failure.reason))


def _name_reason(number: error_reason_pb2.ErrorReason.ValueType) -> str:
    return error_reason_pb2.ErrorReason.Name(number) if number else ""

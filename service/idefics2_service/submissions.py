"""The core of submitted requests: take them durably, let them be watched and cancelled from anywhere."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from idefics2_service import outcomes
from idefics2_service.errors import (
    FileNotUploaded,
    RequestIdInvalid,
    RequestNotFinished,
    RequestNotFound,
    ServiceError,
    ServiceStopping,
    ValueOutOfRange,
)
from idefics2_service.events import AttemptStarted, Event, Failed, LogLine, QueuePosition
from idefics2_service.metrics import SUBMITTED
from idefics2_service.requests import Priority, RequestName, State, is_request_id
from idefics2_service.store import refusals
from idefics2_service.store.interface import grown
from idefics2_service.store.records import DAY_SECONDS, Submission
from idefics2_service.store.signals import wait_for
from idefics2_service.tracing.spans import current_span
from idefics2_service.validation import validate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from idefics2_service.keys.ring import KeyRing
    from idefics2_service.lifecycle import Means
    from idefics2_service.requests import GenerateInput, GenerateOutput, ValidRequest
    from idefics2_service.store.interface import RequestStore
    from idefics2_service.store.records import Ended, Page, Record
    from idefics2_service.webhooks import Webhooks

_EVENTS_AT_ONCE = 500
_PLACE_SECONDS = 1.0
"""How often a watcher of a request that waits looks for its place."""
_LOOK_AGAIN_SECONDS = 5.0
"""How often one looks though nothing was told: what was told may have been missed."""
MAX_AFTER = 2**62
"""Of the numbers that a watcher may know, so that there are others after it."""


@dataclass(frozen=True)
class SubmitInput:
    """A submission as a face read it, unchecked. None, or empty: the caller left it out."""

    input: GenerateInput
    fingerprint: bytes
    """SHA-256 of what was sent, but for the name: equal for equal content."""
    request_id: str = ""
    priority: Priority = Priority.NORMAL
    start_timeout_seconds: float | None = None
    time_budget_seconds: float | None = None
    keep_seconds: float | None = None
    webhook_url: str = ""
    max_queue_length: int | None = None
    is_begun_once: bool = False
    """As in Submission."""


class Submissions:
    """All requests of the store, as far as a key may see them."""

    def __init__(self, store: RequestStore, webhooks: Webhooks, ring: KeyRing, means: Means) -> None:
        """Keep them in `store`, let `webhooks` tell of their end; `ring` knows how many a key may have."""
        self._store = store
        self._webhooks = webhooks
        self._ring = ring
        self._limits = means.limits
        self._files = means.files
        self._budget = means.budget
        self._metrics = means.metrics
        self._stopping = False
        self._watchers: set[asyncio.Event] = set()
        """What wakes those who watch."""
        self._cancelling: set[asyncio.Task[Record]] = set()

    def stop(self) -> None:
        """Take nothing new, and tell all who watch to go on elsewhere."""
        self._stopping = True
        for told in self._watchers:
            told.set()

    async def submit(self, key_id: str, given: SubmitInput) -> Record:
        """Take a request; once this returns, it ends in a result or an error.

        Raises:
            InvalidInput: the first field that is wrong.
            FileNotUploaded: names every uploaded file that is missing.
            PayloadTooLarge: prompt and images are more than the store takes.
            MemoryFull: there is no room to read uploaded files now.
            RequestIdTaken: the key has a request of this name with other content.
            QueueFull: too many wait.
            QueueQuotaExceeded: the key has too many that have not ended.
            Unauthenticated: the key is not in force any more.
            Unavailable: it may not have been taken; to submit it again is safe.

        """
        name = name_request(key_id, given.request_id or uuid.uuid4().hex)
        try:
            return await self._take(await self._admit(name, given))
        except ServiceError as error:
            outcomes.record(name, Failed(error), 0, self._metrics, SUBMITTED)
            raise

    async def _admit(self, name: RequestName, given: SubmitInput) -> Submission:
        """Check a request, and that it may be taken here."""
        submission = Submission(
            name=name,
            fingerprint=given.fingerprint,
            request=validate(given.input, self._limits),
            priority=given.priority,
            start_timeout_seconds=check_seconds("start_timeout", given.start_timeout_seconds),
            time_budget_seconds=check_seconds("time_budget", given.time_budget_seconds) or DAY_SECONDS,
            keep_seconds=check_seconds("keep", given.keep_seconds),
            webhook_url=given.webhook_url,
            max_queue_length=_check_length(given.max_queue_length),
            max_queued_of_key=self._ring.find(name.key_id).limits.max_queued,
            is_begun_once=given.is_begun_once,
            traceparent=current_span().headers.get("traceparent", ""),
        )
        if given.webhook_url:
            await self._webhooks.check(name.key_id, given.webhook_url)
        if self._stopping:
            raise ServiceStopping("this replica is shutting down")
        return submission

    async def _take(self, submission: Submission) -> Record:
        """Put the bytes of uploaded files into a submission, so that it outlives them, and into the store.

        They are held in the budget until they are there.
        """
        name, request = submission.name, submission.request
        try:
            found = await self._files.find(request.images, name.key_id, request.max_image_bytes)
        except FileNotUploaded:
            if not await self._is_known(name):
                raise
            return await self._store.submit(submission)  # taken when the file was there: only asked for again
        num_bytes = sum(file.size_bytes for file in found if file is not None)
        self._check_payload(request, num_bytes)
        with self._budget.hold(name.key_id, num_bytes):
            images = await self._files.load(request.images, found)
            return await self._store.submit(replace(submission, request=replace(request, images=images)))

    def _check_payload(self, request: ValidRequest, num_uploaded_bytes: int) -> None:
        """Refuse what the store would refuse before anything of it is read."""
        num_sent = len(request.prompt.encode()) + sum(len(source.data or "") for source in request.images)
        num_bytes, bound = num_sent + num_uploaded_bytes, self._store.max_payload_bytes
        if num_bytes > bound:
            raise refusals.payload_too_large(num_bytes, bound)

    async def _is_known(self, name: RequestName) -> bool:
        try:
            await self._store.get(name)
        except RequestNotFound:
            return False
        return True

    async def get(self, name: RequestName) -> Record:
        """Tell where a request stands.

        Raises:
            RequestNotFound: the key has none of this name.

        """
        return await self._store.get(name)

    async def read_logs(self, record: Record) -> list[tuple[float, str]]:
        """Return the time and the text of each line of a request's log up to `record`, oldest first."""
        events = await self._store.log_lines(record.name, record.last_sequence)
        return [(e.time, e.happening.message) for e in events if isinstance(e.happening, LogLine)]

    async def watch(self, name: RequestName, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the events after number `after`, then each new one, to the last.

        While the request is QUEUED, its place is told when it changes, and anew where it was handed back, as
        an event of sequence 0. Where the store has lost event number `after`, as by a loss of power, all that
        it has is told anew, and numbered on from `after`.

        Raises:
            RequestNotFound: the key has none of this name, or it was forgotten meanwhile.
            ValueOutOfRange: `after` is not 0 to `MAX_AFTER`.
            ServiceStopping: it goes on at another replica.

        """
        if not 0 <= after <= MAX_AFTER:
            raise ValueOutOfRange.of("after", f"0 to {MAX_AFTER}", after)
        num_lost = 0
        position: int | None = None
        with self._store.listen(grown(name)) as told, self._waking(told):
            while True:
                told.clear()
                if self._stopping:
                    raise ServiceStopping("this replica is shutting down; watch on after the last event")
                record = await self._store.get(name)
                if after > record.last_sequence and not record.may_be_behind:
                    num_lost, after = num_lost + after, 0  # watchers begin anew at AttemptStarted
                # Record and events may be of two servers, of which either may be behind, or behind `after`.
                while after < record.last_sequence and (
                    events := await self._store.events(name, after, _EVENTS_AT_ONCE)
                ):
                    for event in events:
                        after = event.sequence
                        if isinstance(event.happening, AttemptStarted):
                            position = None  # what is handed back may wait where it did before
                        yield replace(event, sequence=num_lost + after)
                if record.state.is_final and after >= record.last_sequence:
                    return
                if record.queue_position not in {None, position} and after <= record.last_sequence:
                    position = record.queue_position
                    yield Event(0, time.time(), QueuePosition(position or 0))
                is_waiting = record.queue_position is not None
                await wait_for(told, _PLACE_SECONDS if is_waiting else _LOOK_AGAIN_SECONDS)

    @contextmanager
    def _waking(self, told: asyncio.Event) -> Iterator[None]:
        """Let `stop` set an event."""
        self._watchers.add(told)
        try:
            yield
        finally:
            self._watchers.discard(told)

    async def result(self, name: RequestName) -> GenerateOutput:
        """Return the answer.

        Raises:
            RequestNotFound: the key has none of this name.
            RequestNotFinished: there is none yet.
            ServiceError: the request failed, with this error.

        """
        record = await self._store.get(name)
        if record.end is None:
            message = f"the request is {record.state.value}; watch it, or ask again later"
            raise RequestNotFinished(message, state=record.state.value)
        if isinstance(record.end, Failed):
            raise record.end.error
        return record.end.output

    async def cancel(self, name: RequestName) -> Record:
        """Cancel a request; one that has ended stays as it is.

        Who leaves has cancelled it all the same: it is counted by who hears of its end, and by nobody else.

        Raises:
            RequestNotFound: the key has none of this name.

        """
        cancelling = asyncio.create_task(self._store.cancel(name, self._record))
        self._cancelling.add(cancelling)
        cancelling.add_done_callback(self._cancelling.discard)
        return await asyncio.shield(cancelling)

    def _record(self, ended: Ended) -> None:
        """Count and log a request that was cancelled while it waited: no worker does."""
        outcomes.record(ended.name, ended.end, ended.seconds, self._metrics, SUBMITTED)

    async def list_page(self, key_id: str, state: State | None, limit: int, before: int | None) -> Page:
        """List a key's requests, newest first, at most `limit`; `before`: the last page's `next_before`."""
        return await self._store.list_page(key_id, state, limit, before)


def name_request(key_id: str, request_id: str) -> RequestName:
    """Name a request of a key.

    Raises:
        RequestIdInvalid: no request can have this name.

    """
    if not is_request_id(request_id):
        message = f"request_id must be 1 to 128 characters of A-Z a-z 0-9 . _ -, not {request_id[:140]!r}"
        raise RequestIdInvalid(message, field="request_id")
    return RequestName(key_id, request_id)


def check_seconds(field: str, given: float | None) -> float | None:
    """Check a time that a caller gives a request.

    Raises:
        ValueOutOfRange: it is not above 0, or more than a day.

    """
    if given is not None and not 0 < given <= DAY_SECONDS:
        raise ValueOutOfRange.of(field, f"above 0, up to {DAY_SECONDS:g} s", given)
    return given


def _check_length(given: int | None) -> int | None:
    if given is not None and given < 0:
        raise ValueOutOfRange.of("max_queue_length", "0 or more", given)
    return given

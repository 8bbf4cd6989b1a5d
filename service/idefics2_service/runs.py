"""One claimed request: run it, keep its lease, write what happens, and end it or hand it back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from idefics2_service import lifecycle, outcomes
from idefics2_service.errors import BackendUnavailable, RequestCancelled, StoreUnavailable
from idefics2_service.events import Failed, Finished, Happening, QueuePosition, StageEntered, TextDelta
from idefics2_service.metrics import SUBMITTED
from idefics2_service.requests import Deadlines, GenerateOutput
from idefics2_service.store import refusals
from idefics2_service.store.interface import MAX_LOSSES, cancelled
from idefics2_service.store.records import Claim, Lease
from idefics2_service.store.signals import wait_for
from idefics2_service.tracing.spans import current_span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idefics2_service.lifecycle import Means
    from idefics2_service.requests import Stage
    from idefics2_service.settings import StoreSettings
    from idefics2_service.store.interface import RequestStore

logger = structlog.get_logger(__name__)

_TEXT_SECONDS = 0.25
"""How long text may wait to be written together: a write per token would be the store's whole work."""
_RETRY_SECONDS = 0.2
_LATE_TIMES = 2
"""A renewal that takes so many times as long as is usual is counted: the lease is in danger."""


class Recorder:
    """What happened to a request and is not known to be written."""

    def __init__(self, claim: Claim) -> None:
        """Begin after the event with which the claim began."""
        self.after = claim.last_sequence
        self._unwritten: list[Happening] = []
        self._num_taken = 0
        self._has_any, self._is_urgent = asyncio.Event(), asyncio.Event()

    def add(self, happening: Happening) -> None:
        """Note what happened; text joins the text before it, unless that is being written."""
        if isinstance(happening, TextDelta):
            happening = self._join(happening)
        else:
            self._is_urgent.set()
        self._unwritten.append(happening)
        self._has_any.set()

    def _join(self, delta: TextDelta) -> TextDelta:
        last = self._unwritten[-1] if len(self._unwritten) > self._num_taken else None
        if not isinstance(last, TextDelta):
            return delta
        self._unwritten.pop()
        return TextDelta(last.text + delta.text, delta.num_generated_tokens)

    async def wait(self) -> None:
        """Return when something is to be written: text after a while, all else at once."""
        await self._has_any.wait()
        await wait_for(self._is_urgent, _TEXT_SECONDS)

    def take(self) -> list[Happening]:
        """Return all that is to be written after event number `after`."""
        self._num_taken = len(self._unwritten)
        self._has_any.clear()
        self._is_urgent.clear()
        return self._unwritten.copy()

    def confirm(self) -> None:
        """Know that what was taken is written."""
        self.after += self._num_taken
        del self._unwritten[: self._num_taken]
        self._num_taken = 0


class Run:
    """One claim on its way."""

    def __init__(
        self,
        claim: Claim,
        store: RequestStore,
        means: Means,
        settings: StoreSettings,
        on_stage: Callable[[Run, Stage | None], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Prepare to run `claim`.

        `on_stage` hears of each stage that it enters, and of None at its end; `on_lost` that the backend was
        lost, before anybody else hears that the request waits again.
        """
        self.claim = claim
        self._store = store
        self._means = replace(means, is_accepted=True)
        self._settings = settings
        self._on_stage = on_stage
        self._on_lost = on_lost
        self._recorder = Recorder(claim)
        self._work: asyncio.Task[GenerateOutput] | None = None
        self._is_lost = False
        self._is_handed_back = False

    async def run(self) -> None:
        """Run it to its end: whatever happens, it ends, is handed back, or has been lost to somebody else."""
        claim, started = self.claim, time.monotonic()
        deadlines = _read_deadlines(claim)
        self._work = asyncio.create_task(
            lifecycle.run(
                claim.name, claim.request, deadlines, self._means, self._publish, goes_on=self._goes_on
            )
        )
        async with AsyncExitStack() as stack:
            if self._is_handed_back:
                self._cancel()
            for care in (self._write(), self._keep(), self._listen()):
                stack.push_async_callback(_end, asyncio.create_task(care))
            await asyncio.wait((self._work,))
        self._on_stage(self, None)
        await self._conclude(self._work, started)

    async def _conclude(self, work: asyncio.Task[GenerateOutput], started: float) -> None:
        """Write how it ended, or let somebody else run it."""
        name = self.claim.name
        attempts = self._means.metrics.attempts
        span = current_span()
        # Also of what was lost or is handed back: until it is asked, a task holds what it ended with.
        end = outcomes.end_of(work, name.request_id, RequestCancelled("the request was cancelled"))
        if self._is_lost:
            self._note_lost()
            return
        if self._is_handed_back and work.cancelled():
            attempts.labels("handed_back").inc()
            span.fail("HANDED_BACK")
            await self._release("this replica is shutting down", started, is_lost=False)
            return
        if isinstance(end, Failed) and isinstance(end.error, BackendUnavailable):
            attempts.labels("backend_lost").inc()
            span.fail(end.error.reason)
            self._on_lost()
            await self._release(end.error.message, started, is_lost=end.error.was_sent)
            return
        end = self._with_queue(end)
        if await self._finish(end) is Lease.LOST:
            self._note_lost()
            return
        attempts.labels("ended").inc()
        if isinstance(end, Failed):
            span.fail(end.error.reason)
        self._record(end, started)

    def _note_lost(self) -> None:
        """Count the attempt; how the request ends is for another one to tell."""
        logger.warning("a request was lost to another attempt", request_id=self.claim.name.request_id)
        self._means.metrics.attempts.labels("lost").inc()
        current_span().fail("LEASE_LOST")

    def _record(self, end: Finished | Failed, started: float) -> None:
        seconds = time.monotonic() - started + self.claim.seconds_queued
        outcomes.record(self.claim.name, end, seconds, self._means.metrics, SUBMITTED)

    def hand_back(self) -> None:
        """Stop, so that somebody else may run it."""
        self._is_handed_back = True
        self._cancel()

    def _goes_on(self) -> bool:
        """Tell whether somebody else runs the request now."""
        return self._is_lost or self._is_handed_back

    def _publish(self, happening: Happening) -> None:
        if isinstance(happening, StageEntered):
            self._on_stage(self, happening.stage)
        if not isinstance(happening, QueuePosition):  # of this replica's line: true for a moment only
            self._recorder.add(happening)

    async def _write(self) -> None:
        """Write what happens as it comes."""
        while True:
            await self._recorder.wait()
            write = partial(self._store.append, self.claim, self._recorder.after, self._recorder.take())
            self._heed(await self._try(write))
            self._recorder.confirm()

    async def _keep(self) -> None:
        """Renew the lease."""
        while True:
            slept_at = time.monotonic()
            await asyncio.sleep(self._settings.renew_seconds)
            lease = await self._try(partial(self._store.renew, self.claim))
            if time.monotonic() - slept_at > _LATE_TIMES * self._settings.renew_seconds:
                self._means.metrics.late_renewals.inc()
            self._heed(lease)

    async def _listen(self) -> None:
        """Hear at once that somebody cancels."""
        with self._store.listen(cancelled(self.claim.name)) as told:
            while True:
                await told.wait()
                told.clear()
                self._heed(await self._try(partial(self._store.renew, self.claim)))

    def _heed(self, lease: Lease) -> None:
        if lease is Lease.HELD:
            return
        self._is_lost |= lease is Lease.LOST
        self._cancel()

    def _cancel(self) -> None:
        if self._work is not None:
            self._work.cancel()

    async def _finish(self, end: Finished | Failed) -> Lease:
        after, happenings = self._recorder.after, self._recorder.take()
        return await self._try(partial(self._store.finish, self.claim, after, happenings, end))

    async def _release(self, reason: str, started: float, *, is_lost: bool) -> None:
        """Hand it back, with all that is known of how far it came; that may be its end."""
        after, happenings = self._recorder.after, self._recorder.take()
        await self._try(partial(self._store.append, self.claim, after, happenings))
        lease = await self._try(partial(self._store.release, self.claim, reason, is_lost=is_lost))
        ends = {
            Lease.EXHAUSTED: refusals.attempts_exhausted(MAX_LOSSES, reason),
            Lease.LOST_ONCE: refusals.lost_once(reason),
            Lease.CANCELLED: refusals.cancelled(),
        }
        if lease in ends:
            self._record(Failed(ends[lease]), started)

    async def _try(self, write: Callable[[], Awaitable[Lease]]) -> Lease:
        """Write, and again while the store is away: it decides by the attempt whether it is still ours."""
        while True:
            try:
                return await write()
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)

    def _with_queue(self, end: Finished | Failed) -> Finished | Failed:
        """Count the time in the store's queue as what it is."""
        if isinstance(end, Failed):
            return end
        seconds, waited = end.output.stage_seconds, self.claim.seconds_queued
        counted = {"queued": seconds["queued"] + waited, "total": seconds["total"] + waited}
        return Finished(replace(end.output, stage_seconds={**seconds, **counted}))


def _read_deadlines(claim: Claim) -> Deadlines:
    """Put what a claim says of its time on the event loop's clock."""
    now, start = asyncio.get_running_loop().time(), claim.start_seconds_left
    return Deadlines(start=None if start is None else now + start, end=now + claim.seconds_left)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it is gone; say so where it was at fault.

    Once is not enough: before Python 3.12, `asyncio.wait_for`, with which the Redis client sends, loses a
    cancellation that comes when what it waits for is done.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=_RETRY_SECONDS)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a part of a run failed", exc_info=error)

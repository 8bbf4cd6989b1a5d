"""Who runs what was submitted: claim, run, hand back; and tidy the store."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

import structlog

from idefics2_service import outcomes
from idefics2_service.errors import (
    AttemptLost,
    AttemptsExhausted,
    InternalError,
    RequestCancelled,
    StoreUnavailable,
)
from idefics2_service.metrics import SUBMITTED
from idefics2_service.requests import Stage
from idefics2_service.runs import Run
from idefics2_service.shares import Shares
from idefics2_service.store.interface import WORK
from idefics2_service.store.records import draw_holder
from idefics2_service.store.signals import wait_for
from idefics2_service.tracing.spans import Kind, reason_of

if TYPE_CHECKING:
    from idefics2_service.lifecycle import Means
    from idefics2_service.settings import StoreSettings
    from idefics2_service.store.interface import RequestStore
    from idefics2_service.store.records import Claim, Ended, Statistics
    from idefics2_service.tracing.spans import Span, Value

logger = structlog.get_logger(__name__)

_MAX_AHEAD = 16
"""Requests that are claimed and have their images, though the model has not begun with them."""
_MAX_RESOLVING = 64
"""Requests that are claimed and whose images are being read. Keys share it: slow hosts of one's images hold
up nobody else's."""
_LOOK_AGAIN_SECONDS = 1.0
_PAUSE_AFTER_LOSS_SECONDS = 2.0
"""A backend that was just lost may still call itself healthy: do not feed it."""
_REAP_SECONDS = 0.5
_NUM_RENEWALS = 2
"""Who lives has renewed its lease after so many times the usual pause."""
_NEVER = -math.inf
_REAPED = {
    AttemptsExhausted.reason: "exhausted",
    AttemptLost.reason: "lost_once",
    RequestCancelled.reason: "cancelled",
}
"""What became of requests that end without a worker; all others waited too long."""
_RELEASE_SECONDS = 5.0
"""How long handing back may take at the end."""


class Workers:
    """The runs of this replica."""

    def __init__(self, store: RequestStore, means: Means, settings: StoreSettings) -> None:
        """Begin with none."""
        self._store = store
        self._means = means
        self._settings = settings
        self._holder = draw_holder()  # of the next claim, until that is heard of
        self._claiming: asyncio.Task[bool] | None = None
        self._runs: dict[asyncio.Task[None], Run] = {}
        self._resolving: set[Run] = set()
        self._shares = Shares(_MAX_RESOLVING)
        self._ahead: set[Run] = set()
        self._told = asyncio.Event()  # of work, and of room for it
        self._stopping = asyncio.Event()
        self._paused_until = 0.0
        self._seen_at = self._back_at = _NEVER  # of the store, by its own clock

    @property
    def num_running(self) -> int:
        """How many requests are claimed."""
        return len(self._runs)

    async def work(self) -> None:
        """Claim and run, for ever, until `leave`."""
        with self._store.listen(WORK) as self._told:
            while not self._stopping.is_set():
                self._told.clear()
                await self._wait_until_ready()
                if self._stopping.is_set():
                    return
                self._claiming = asyncio.create_task(self._claim())
                if not await asyncio.shield(self._claiming):
                    await wait_for(self._told, _LOOK_AGAIN_SECONDS)

    async def tidy(self) -> None:
        """Take back what dead workers held, and forget what is over, for ever.

        While the store was away, or this machine asleep, leases ended of workers that live, and so they do
        where the clock that ends them was set forward: nothing is taken back until they had the time to renew
        them. Each failure counts anew, however short it was: where they follow each other, leases may end
        between them. Who has just begun does not know whether it was.
        """
        if not self._settings.url:  # else other replicas live; and the store's clock is this machine's
            self._seen_at = time.time()
        while True:
            try:
                await self._tidy()
            except StoreUnavailable:
                self._seen_at = _NEVER
                self._means.metrics.oldest_queued.set(None)
            await asyncio.sleep(_REAP_SECONDS)

    async def _tidy(self) -> None:
        statistics = await self._count()
        if statistics.may_be_behind:
            self._seen_at = _NEVER
        is_there = not statistics.may_be_behind and self._have_all_renewed(statistics.now)
        if is_there:
            await self._reap()
        # Replicas are added for those who wait; where nobody can claim, they would be in vain.
        self._means.metrics.oldest_queued.set(statistics.oldest_queued_seconds if is_there else None)

    async def _count(self) -> Statistics:
        """Count what is in the store, and tell the metrics, also where nobody knows."""
        metrics = self._means.metrics
        try:
            statistics = await self._store.statistics()
        except StoreUnavailable:
            metrics.queued.set(None)
            metrics.webhooks_queued.set(None)
            raise
        metrics.queued.set(statistics.num_queued)
        metrics.webhooks_queued.set(statistics.num_deliveries)
        return statistics

    def _have_all_renewed(self, now: float) -> bool:
        """Note that the store is there; tell whether it has been for so long that the living have leases."""
        if not 0 <= now - self._seen_at <= _REAP_SECONDS + self._settings.lease_seconds / 2:
            self._back_at = now
        self._seen_at = now
        return now - self._back_at >= _NUM_RENEWALS * self._settings.renew_seconds

    async def _reap(self) -> None:
        reaped, metrics = await self._store.reap(), self._means.metrics
        if reaped.num_requeued:
            logger.warning("requests whose worker was lost wait again", num=reaped.num_requeued)
        metrics.reaped.labels("requeued").inc(reaped.num_requeued)
        for ended in reaped.ended:
            metrics.reaped.labels(_REAPED.get(ended.end.error.reason, "overdue")).inc()
            outcomes.record(ended.name, ended.end, ended.seconds, metrics, SUBMITTED)

    def leave(self) -> None:
        """Claim nothing new; what runs goes on."""
        self._stopping.set()

    async def stop(self, drain_seconds: float) -> None:
        """Claim nothing new, give what runs `drain_seconds`, then hand it back."""
        self.leave()
        if self._claiming is not None:  # its answer may be on its way
            await asyncio.wait((self._claiming,), timeout=_RELEASE_SECONDS)
            self._claiming.cancel()
        if self._runs:
            await asyncio.wait(self._runs, timeout=drain_seconds)
        for run in self._runs.values():
            run.hand_back()
        if self._runs:
            await asyncio.wait(self._runs, timeout=_RELEASE_SECONDS)
        for task in self._runs:  # the store is away: the lease will end by itself
            task.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)

    async def _wait_until_ready(self) -> None:
        """Return when the model could begin with one more request soon."""
        pause = self._paused_until - asyncio.get_running_loop().time()
        if pause > 0:
            await asyncio.sleep(pause)
        await self._means.backend.wait_until_healthy()
        while len(self._ahead) >= _MAX_AHEAD or len(self._resolving) >= _MAX_RESOLVING:
            self._told.clear()
            await self._told.wait()
        await self._means.budget.wait_until_free()

    async def _claim(self) -> bool:
        """Claim a request and begin to run it; return whether there was one.

        Who waits for it may leave: it goes on, lest the request be lost. What was claimed is for its run
        alone to hold: the next one may be claimed much later.
        """
        try:
            claim = await self._store.claim(self._keys_without_room(), self._record, self._holder)
        except StoreUnavailable:
            self._seen_at = _NEVER  # where it can be read, this write is how tidying hears of it
            return False
        if claim is None:
            return False
        self._holder = draw_holder()
        self._begin(claim)
        return True

    def _record(self, ended: Ended) -> None:
        """Count and log a request that ended instead of being claimed."""
        metrics = self._means.metrics
        if not isinstance(ended.end.error, InternalError):  # else it could not be read
            metrics.reaped.labels("overdue").inc()
        outcomes.record(ended.name, ended.end, ended.seconds, metrics, SUBMITTED)

    def _keys_without_room(self) -> set[str]:
        """Name the keys of runs that read as many images as they may, or hold as many bytes.

        Those that hold bytes by calls alone are not passed over, or their requests might never be begun.
        """
        keys, budget = {run.claim.name.key_id for run in self._runs.values()}, self._means.budget
        return {key_id for key_id in keys if not (self._shares.has_room(key_id) and budget.has_room(key_id))}

    def _begin(self, claim: Claim) -> None:
        run = Run(claim, self._store, self._means, self._settings, self._move, self._pause)
        self._resolving.add(run)
        self._shares.take(claim.name.key_id)
        task = asyncio.create_task(self._run(run))
        self._runs[task] = run
        task.add_done_callback(self._runs.pop)
        if self._stopping.is_set():
            run.hand_back()

    def _begin_span(self, claim: Claim) -> Span:
        """Begin a span in the trace of who submitted the request, maybe days ago on another replica."""
        about: dict[str, Value] = {
            "messaging.operation.name": "attempt",
            "messaging.operation.type": "process",
            "messaging.message.id": claim.name.request_id,
            "idefics2.attempt": claim.attempt,
            "idefics2.seconds_queued": claim.seconds_queued,
        }
        return self._means.tracer.begin("attempt", Kind.CONSUMER, {"traceparent": claim.traceparent}, about)

    def _move(self, run: Run, stage: Stage | None) -> None:
        """Count a run where it stands now; None: it is over."""
        if stage is Stage.RESOLVING:
            return
        if run in self._resolving:
            self._resolving.remove(run)
            self._shares.give_back(run.claim.name.key_id)
        if stage is Stage.QUEUED:
            self._ahead.add(run)
        else:
            self._ahead.discard(run)
        self._told.set()

    def _pause(self) -> None:
        """Claim nothing for a while."""
        self._paused_until = asyncio.get_running_loop().time() + _PAUSE_AFTER_LOSS_SECONDS

    async def _run(self, run: Run) -> None:
        with self._begin_span(run.claim) as span:
            try:
                await run.run()
            except Exception as error:
                logger.exception("a run failed", request_id=run.claim.name.request_id)
                span.fail(reason_of(error))
        self._move(run, None)

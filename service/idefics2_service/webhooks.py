"""Tells of the end of requests: at least once, again after a while where nobody hears, up to a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from idefics2_service.errors import StoreUnavailable, WebhookUrlInvalid
from idefics2_service.fetcher import FetchFailed, FetchTimedOut
from idefics2_service.shares import Shares
from idefics2_service.store.interface import DELIVERIES
from idefics2_service.store.signals import wait_for
from idefics2_service.tracing.spans import NO_TRACER, Kind, Tracer, current_span

if TYPE_CHECKING:
    from idefics2_service.fetcher import Fetcher
    from idefics2_service.metrics import Metrics
    from idefics2_service.settings import WebhookSettings
    from idefics2_service.store.interface import RequestStore
    from idefics2_service.store.records import Delivery, Record
    from idefics2_service.tracing.spans import Span, Value

logger = structlog.get_logger(__name__)

WriteCall = Callable[["Record"], tuple[bytes, dict[str, str]]]
"""Writes body and headers of the call that tells of a request's end."""
_LOOK_AGAIN_SECONDS = 1.0
_MAX_AT_ONCE = 256
"""Calls of this replica. Keys share them: hosts of one that do not answer hold up nobody else's."""
_LAST_SECONDS = 2.5
"""At the end, for hosts that were called already."""
_SETTLING_SECONDS = 15.0
"""How long it may take, after a call, to write what became of it."""
_RETRY_SECONDS = 0.2
"""Between two tries to write it."""


class Webhooks:
    """The deliveries of this replica."""

    def __init__(
        self,
        store: RequestStore,
        fetcher: Fetcher,
        write_call: WriteCall | None,
        settings: WebhookSettings,
        metrics: Metrics,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Deliver what `store` says is due; `write_call` None: nothing can be signed, so nobody may ask."""
        self._store = store
        self._fetcher = fetcher
        self._write_call = write_call
        self._settings = settings
        self._metrics = metrics
        self._tracer = tracer
        self._at_once = asyncio.Semaphore(_MAX_AT_ONCE)
        self._shares = Shares(_MAX_AT_ONCE)
        self._deliveries: set[asyncio.Task[None]] = set()
        self._told = asyncio.Event()  # of what is due, and of room for it

    async def check(self, key_id: str, url: str) -> None:
        """Refuse at once what could never be called for a key.

        A name whose server is slow, or that has no public address, is none of that: it is looked up again
        when it is dialled. So nobody learns here which names lead inside.

        Raises:
            WebhookUrlInvalid: the URL cannot be used, or shows by itself that its host is not public.

        """
        if self._write_call is None:
            message = (
                "webhook_url: replicas that share a store need IDEFICS2_WEBHOOK_SIGNING_KEY for webhooks"
            )
            raise WebhookUrlInvalid(message, field="webhook_url")
        try:
            await self._fetcher.check(key_id, url)
        except FetchTimedOut:
            return
        except FetchFailed as error:
            raise WebhookUrlInvalid(f"webhook_url: {error}", field="webhook_url") from error

    async def deliver(self) -> None:
        """Deliver what is due, for ever.

        Cancelling it leaves the rest to others, or to the next start; calls under way have a moment to end.
        """
        try:
            with self._store.listen(DELIVERIES) as self._told:
                while True:
                    self._told.clear()
                    await self._at_once.acquire()
                    delivery = await self._claim()
                    if delivery is None:
                        self._at_once.release()
                        await wait_for(self._told, _LOOK_AGAIN_SECONDS)
                    else:
                        self._begin(delivery)
        finally:
            if self._deliveries:  # who was called may answer yet, and would be called again
                await asyncio.wait(self._deliveries, timeout=_LAST_SECONDS)
            for task in self._deliveries:
                task.cancel()
            await asyncio.gather(*self._deliveries, return_exceptions=True)

    async def _claim(self) -> Delivery | None:
        if self._write_call is None:
            return None
        try:
            # Never while its call is under way: it would be told twice.
            again_after_seconds = self._fetcher.timeout_seconds + _SETTLING_SECONDS
            return await self._store.claim_delivery(again_after_seconds, self._shares.without_room())
        except StoreUnavailable:
            return None
        except Exception:  # those that are on their way shall get there
            logger.exception("no webhook can be claimed")
            return None

    def _begin(self, delivery: Delivery) -> None:
        key_id = delivery.record.name.key_id
        self._shares.take(key_id)
        task = asyncio.create_task(self._deliver(delivery))
        self._deliveries.add(task)
        task.add_done_callback(partial(self._end, key_id))

    def _end(self, key_id: str, task: asyncio.Task[None]) -> None:
        self._deliveries.discard(task)
        self._shares.give_back(key_id)
        self._at_once.release()
        self._told.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a webhook failed", exc_info=error)

    async def _deliver(self, delivery: Delivery) -> None:
        """Call once, and settle what follows."""
        with self._begin_span(delivery) as span:
            await self._try(delivery, span)

    def _begin_span(self, delivery: Delivery) -> Span:
        """Begin a span in the trace of who submitted the request."""
        about: dict[str, Value] = {
            "messaging.message.id": delivery.record.name.request_id,
            "idefics2.attempt": delivery.attempt,
        }
        return self._tracer.begin("webhook", Kind.INTERNAL, {"traceparent": delivery.traceparent}, about)

    async def _try(self, delivery: Delivery, span: Span) -> None:
        with self._metrics.webhook_seconds.time():
            problem = await self._call(delivery)
        is_last = delivery.attempt >= self._settings.max_attempts
        retry = None if not problem or is_last else self._pause_after(delivery.attempt)
        outcome = "delivered" if not problem else "given_up" if retry is None else "retried"
        self._metrics.webhooks.labels(outcome).inc()
        if problem:
            span.fail("WEBHOOK_FAILED")
            logger.warning(
                "webhook",
                request_id=delivery.record.name.request_id,
                key_id=delivery.record.name.key_id,
                host=urlsplit(delivery.webhook_url).hostname,  # alone: its path may be a secret
                attempt=delivery.attempt,
                problem=problem,
            )
        await self._settle(delivery, retry)

    async def _settle(self, delivery: Delivery, retry: float | None) -> None:
        """Write what became of a call, and again while the store is away: who heard is not told twice.

        Raises:
            StoreUnavailable: it was away until the delivery may be another's.

        """
        clock = asyncio.get_running_loop().time
        until = clock() + _SETTLING_SECONDS
        while True:
            try:
                await self._store.settle_delivery(delivery, retry)
            except StoreUnavailable:
                if clock() + _RETRY_SECONDS > until:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _call(self, delivery: Delivery) -> str:
        """Return what went wrong; empty: nothing."""
        assert self._write_call is not None  # noqa: S101  # or nothing would have been claimed
        try:
            body, headers = self._write_call(delivery.record)
            status = await self._fetcher.post(
                delivery.record.name.key_id,
                delivery.webhook_url,
                body,
                {**headers, **current_span().headers},
            )
        except FetchFailed as error:
            return str(error)
        except Exception:
            logger.exception("a webhook failed", request_id=delivery.record.name.request_id)
            return "a fault of the service"
        return "" if 200 <= status < 300 else f"the host answered with status {status}"  # noqa: PLR2004  # success

    def _pause_after(self, attempt: int) -> float:
        """Return the seconds until the next attempt: each pause is twice the one before."""
        return float(self._settings.first_retry_seconds * 2 ** (attempt - 1))

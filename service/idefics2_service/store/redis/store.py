"""The store of many replicas."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from idefics2_service.errors import StoreUnavailable
from idefics2_service.store import codec
from idefics2_service.store.interface import ignore
from idefics2_service.store.parts import list_in_parts
from idefics2_service.store.progress import LOST_WORKER, state_after
from idefics2_service.store.records import Claim, Ended, Lease, draw_holder
from idefics2_service.store.redis import replies
from idefics2_service.store.redis.admission import describe, read_verdict
from idefics2_service.store.redis.connection import LEAST_BYTES_PER_SECOND, address_of, connect
from idefics2_service.store.redis.fitness import Fitness
from idefics2_service.store.redis.replica import Replica
from idefics2_service.store.redis.safety import as_failed_start, check_server
from idefics2_service.store.redis.scripts import Scripts
from idefics2_service.store.redis.servers import Servers
from idefics2_service.store.redis.subscription import Subscription
from idefics2_service.store.redis.writing import ENDINGS, hand_back, progress
from idefics2_service.store.refusals import not_found
from idefics2_service.store.signals import Signals

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from redis.asyncio import Redis

    from idefics2_service.events import Event, Failed, Finished, Happening
    from idefics2_service.requests import RequestName, State
    from idefics2_service.settings import StoreSettings
    from idefics2_service.store.interface import OnEnded
    from idefics2_service.store.records import Delivery, Page, Reaped, Record, Statistics, Submission
    from idefics2_service.store.redis.replies import Unreadable
    from idefics2_service.store.redis.scripts import Value

logger = structlog.get_logger(__name__)

_EVENTS_AT_ONCE = 250
"""Of a history that is looked through: each takes the server, and us, time in which all others wait."""
_NEXT = "'"
"""Makes of a holder the one of its next claim: who repeats the first one comes to the same."""


class RedisStore:
    """As RequestStore. Every transition is one script: replicas see all of it or nothing."""

    def __init__(self, settings: StoreSettings, tell: Callable[[str], None] = lambda _: None) -> None:
        """Keep everything in the server of `settings.url`; `tell` hears of what its replica reads for it."""
        self._settings = settings
        self._tell = tell
        self._signals = Signals()
        self._unheard: dict[str, str] = {}  # of scripts: the call whose answer was lost last
        self._fitness: Fitness | None = None
        self._replica: Replica | None = None
        self._opened = AsyncExitStack()

    @property
    def max_payload_bytes(self) -> int:
        """As RequestStore.max_payload_bytes."""
        return self._settings.max_payload_bytes

    @property
    def is_replica_behind(self) -> bool:
        """Whether there is a replica, and it would not be read if the server were away."""
        return self._replica is not None and self._replica.is_behind

    @property
    def is_unfit(self) -> bool:
        """Whether the server may lose what it acknowledges, which was not allowed: so nothing is taken."""
        return self._fitness is not None and self._fitness.is_unfit

    async def start(self) -> None:
        """As RequestStore.start; it takes some seconds at most."""
        settings = self._settings
        client = connect(settings.url)
        async with AsyncExitStack() as opened:
            scripts = self._open_scripts(client, opened)
            fitness = Fitness(client, allow_data_loss=settings.allow_data_loss)
            self._subscription = Subscription(
                client, f"{self._prefix}signals", self._signals, on_end=fitness.doubt
            )
            with as_failed_start("IDEFICS2_STORE_URL", address_of(settings.url)):
                await check_server(client, allow_data_loss=settings.allow_data_loss)
                await scripts.call("statistics")
                opened.push_async_callback(self._subscription.stop)
                await self._subscription.start()
            if settings.replica_url:
                self._replica = await self._open_replica(client, opened)
            self._fitness = fitness
            self._servers = Servers(client, scripts, fitness, self._replica, self._tell)
            opened.push_async_callback(self._servers.stop)
            self._servers.start()
            self._opened = opened.pop_all()

    def _open_scripts(self, client: Redis, opened: AsyncExitStack) -> Scripts:
        constants = {
            "lease_seconds": self._settings.lease_seconds,
            "keep_seconds": self._settings.keep_seconds,
            "least_bytes_per_second": LEAST_BYTES_PER_SECOND,
            **ENDINGS,
        }
        scripts = Scripts(client, self._prefix, constants)
        opened.push_async_callback(scripts.close)
        return scripts

    async def _open_replica(self, server: Redis, opened: AsyncExitStack) -> Replica:
        setting, url = "IDEFICS2_STORE_REPLICA_URL", self._settings.replica_url
        client = connect(url, setting)
        replica = Replica(client, self._open_scripts(client, opened))
        with as_failed_start(setting, address_of(url)):
            await replica.start(server, allow_data_loss=self._settings.allow_data_loss)
        return replica

    @property
    def _prefix(self) -> str:
        return f"{{{self._settings.prefix}}}:"  # in braces: what a cluster chooses the slot by

    async def stop(self) -> None:
        """As RequestStore.stop."""
        await self._opened.aclose()

    def listen(self, topic: str) -> AbstractContextManager[asyncio.Event]:
        """As RequestStore.listen."""
        return self._signals.listen(topic)

    async def submit(self, submission: Submission) -> Record:
        """As RequestStore.submit."""
        reply = await self._servers.keep("submit", describe(submission, self._settings))
        return read_verdict(reply, submission, self._settings)

    async def get(self, name: RequestName) -> Record:
        """As RequestStore.get."""
        view, is_of_replica = await self._servers.read("get", name._asdict())
        if view is None:
            raise not_found(name)
        return replace(replies.read_record(view), may_be_behind=is_of_replica)

    async def list_page(self, key_id: str, state: State | None, limit: int, before: int | None) -> Page:
        """As RequestStore.list_page; in parts, so that others pass between."""
        return await list_in_parts(partial(self._list_part, key_id, state), limit, before)

    async def _list_part(self, key_id: str, state: State | None, limit: int, before: int | None) -> Page:
        given = {
            "key_id": key_id,
            "state": None if state is None else state.value,
            "limit": limit + 1,  # tells whether another page follows
            "before": before,
        }
        reply, is_of_replica = await self._servers.read("list_page", given)
        lost = replies.find_lost(reply)
        if lost and not is_of_replica:
            await self._shed(key_id, lost)
        return replies.read_page(reply, limit)

    async def _shed(self, key_id: str, lost: Sequence[str]) -> None:
        """Let lists be without what one of them found lost, lest each comes upon it again."""
        with suppress(StoreUnavailable):  # what was read is read
            await self._servers.write("shed", {"key_id": key_id, "numbers": ",".join(lost)})

    async def events(self, name: RequestName, after: int, limit: int) -> Sequence[Event]:
        """As RequestStore.events."""
        given = {**name._asdict(), "first": after + 1, "limit": limit}
        entries, _ = await self._servers.read("events", given)
        if entries is None:
            raise not_found(name)
        return [replies.read_event(entry) for entry in entries]

    async def log_lines(self, name: RequestName, last: int) -> Sequence[Event]:
        """As RequestStore.log_lines; in parts, so that others pass between."""
        lines: list[Event] = []
        for before in range(0, max(last, 1), _EVENTS_AT_ONCE):
            part = {"first": before + 1, "last": min(before + _EVENTS_AT_ONCE, last)}
            given = {**name._asdict(), **part, "beginning": codec.LOG_LINE}
            entries, _ = await self._servers.read("log_lines", given)
            if entries is None:
                raise not_found(name)
            lines += map(replies.read_event, entries)
        return lines

    async def cancel(self, name: RequestName, on_ended: OnEnded = ignore) -> Record:
        """As RequestStore.cancel."""
        reply = await self._servers.write("cancel", name._asdict())
        if reply is None:
            raise not_found(name)
        view, ended = reply
        if ended is not None:
            on_ended(replies.read_ended(ended))
        return replies.read_record(view)

    async def claim(
        self, but_of: Collection[str] = (), on_ended: OnEnded = ignore, holder: str = ""
    ) -> Claim | None:
        """As RequestStore.claim."""
        holder = holder or draw_holder()
        while True:
            ended, reply = await self._hear("claim", {"but_of": ",".join(but_of) or None, "holder": holder})
            for each in ended:
                on_ended(replies.read_ended(each))
            if reply is None:
                return None
            if reply == b"AGAIN":
                continue
            if reply == b"OVER":
                holder += _NEXT
                continue
            if isinstance(reply, bytes):
                _note_lost(reply)
                continue
            claim = replies.read_claim(reply, holder)
            if isinstance(claim, Claim):
                return claim
            if await self._finish(claim, claim.last_sequence, (), claim.end) is Lease.HELD:
                on_ended(Ended(claim.name, claim.end, claim.seconds_queued))
            holder += _NEXT

    async def _hear(self, script: str, given: Mapping[str, Value]) -> Any:
        """Run a script that tells nobody else what it has ended; what nobody heard, its next run tells.

        So each end is counted and logged, and once.
        """
        call = self._unheard.pop(script, None) or draw_holder()
        try:
            return await self._servers.write(script, {**given, "call": call})
        except StoreUnavailable:
            self._unheard[script] = call
            raise

    async def renew(self, claim: Claim) -> Lease:
        """As RequestStore.renew."""
        return await self._write("renew", claim, {})

    async def append(self, claim: Claim, after: int, happenings: Sequence[Happening]) -> Lease:
        """As RequestStore.append."""
        return await self._write("append", claim, progress(happenings, after), happenings)

    async def finish(
        self, claim: Claim, after: int, happenings: Sequence[Happening], end: Finished | Failed
    ) -> Lease:
        """As RequestStore.finish."""
        return await self._finish(claim, after, happenings, end)

    async def _finish(
        self, claim: Claim | Unreadable, after: int, happenings: Sequence[Happening], end: Finished | Failed
    ) -> Lease:
        given = {
            **progress((*happenings, end), after),
            "end": codec.encode_happening(end),
            "state": state_after(end).value,
        }
        return await self._write("finish", claim, given, happenings)

    async def release(self, claim: Claim, reason: str, *, is_lost: bool) -> Lease:
        """As RequestStore.release."""
        return await self._write("release", claim, {"is_lost": int(is_lost), **hand_back(reason)})

    async def _write(
        self,
        script: str,
        claim: Claim | Unreadable,
        given: Mapping[str, Value],
        happenings: Sequence[Happening] = (),
    ) -> Lease:
        """Run a script that changes what a worker holds."""
        held: dict[str, Value] = {
            **claim.name._asdict(),
            "attempt": claim.attempt,
            "holder": claim.holder,
        }
        events = [codec.encode_happening(happening) for happening in happenings]
        reply: bytes = await self._servers.write(script, {**held, **given}, events)
        return Lease(reply.decode())

    async def reap(self) -> Reaped:
        """As RequestStore.reap."""
        *reaped, lost = await self._hear("reap", hand_back(LOST_WORKER))
        _note_lost(*lost)
        return replies.read_reaped(reaped)

    async def claim_delivery(
        self, again_after_seconds: float, but_of: Collection[str] = ()
    ) -> Delivery | None:
        """As RequestStore.claim_delivery."""
        holder = draw_holder()
        given = {
            "again_after_seconds": again_after_seconds,
            "but_of": ",".join(but_of) or None,
            "holder": holder,
        }
        while isinstance(reply := await self._servers.write("claim_delivery", given), bytes):
            _note_lost(reply)
        return None if reply is None else replies.read_delivery(reply, holder)

    async def settle_delivery(self, delivery: Delivery, retry_after_seconds: float | None) -> None:
        """As RequestStore.settle_delivery."""
        given = {
            **delivery.record.name._asdict(),
            "retry_after_seconds": retry_after_seconds,
            "holder": delivery.holder,
        }
        await self._servers.write("settle_delivery", given)

    async def statistics(self) -> Statistics:
        """As RequestStore.statistics."""
        reply, is_of_replica = await self._servers.read("statistics")
        return replace(replies.read_statistics(reply), may_be_behind=is_of_replica)


def _note_lost(*numbers: bytes) -> None:
    """Tell of requests that a server lost which may lose data: whose they were is not known any more."""
    for number in numbers:
        logger.error("the store has lost a request", number=int(number))

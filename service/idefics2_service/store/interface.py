"""The one interface of every store.

A request is QUEUED, then claimed by a worker: RUNNING, under a lease that the worker renews and with an
attempt number, and a holder drawn for the claim, that each of its writes carries. It ends once: SUCCEEDED,
FAILED or CANCELLED. Its history is a list of events, numbered from 1 without gaps, that only grows. After
its end it is kept for a set time, and until its webhook was told or given up, then forgotten with all that
belongs to it.

Every method may raise StoreUnavailable. What was answered is kept: no method returns before its write is safe
as far as it says. A request's end, by whatever method, outlasts a loss of power once it is told, and so does
the claim of one that is to be begun once.

Order: keys take turns. A request's tag is one more than that of its key's last waiting one, or than that
of the last request begun, whatever is larger; the smallest tag is begun first. Low priority adds
`LOW_PRIORITY_ROUNDS` to the tag, so that it falls behind, and yet each turn of the others brings it nearer.
Source: start-time fair queuing, P. Goyal et al. (1996).

Webhooks are claimed by turns of keys, too: of a key, in the order in which they are due, and behind whatever
was due of others when it had its last turn.

What was claimed waits for its turn on the model beside attached calls; there keys take turns as `line.Line`
says, and priorities count no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from idefics2_service.events import Event, Failed, Finished, Happening
    from idefics2_service.requests import RequestName, State
    from idefics2_service.store.records import (
        Claim,
        Delivery,
        Ended,
        Lease,
        Page,
        Reaped,
        Record,
        Statistics,
        Submission,
    )

LOW_PRIORITY_ROUNDS = 100
MAX_LOSSES = 3
"""A request whose worker or backend was lost so many times fails."""
FIRST_SILENT_LOSS = 6
"""From this attempt on, one that told nothing, or only that it waits for its turn, is a loss, too. Before,
most likely nobody heard of its claim, or its worker was lost by something else; by then, by the request."""
WORK, DELIVERIES = "work", "deliveries"
"""Topics: something can be claimed; somebody can be told."""
OnEnded = Callable[["Ended"], None]
"""Who hears of a request that a call ended: nobody else counts it."""


def ignore(_: Ended) -> None:
    """Hear of an end, and do nothing."""


def grown(name: RequestName) -> str:
    """Name the topic of a request's new events, and of its change of state."""
    return f"grown {name.key_id}/{name.request_id}"


def cancelled(name: RequestName) -> str:
    """Name the topic of a running request that somebody cancelled."""
    return f"cancelled {name.key_id}/{name.request_id}"


class RequestStore(Protocol):
    """Keeps requests."""

    @property
    def max_payload_bytes(self) -> int:
        """How many bytes a request may have, its images included."""
        ...

    async def start(self) -> None:
        """Open what is kept.

        Raises:
            SettingInvalid: where it is to be found cannot be read.
            StartFailed: it cannot be opened, or might lose what it acknowledged.

        """
        ...

    async def stop(self) -> None:
        """Close, where it is open; nothing that was acknowledged is lost."""
        ...

    def listen(self, topic: str) -> AbstractContextManager[asyncio.Event]:
        """Let an event be set each time that `topic` is told of, on any replica.

        A hint: it may be set for nothing and, where a connection broke, be missed. So look again every few
        seconds.
        """
        ...

    async def submit(self, submission: Submission) -> Record:
        """Take a request durably, or return the one of the same name and content.

        Raises:
            RequestIdTaken: the name has other content.
            PayloadTooLarge: it has more than `max_payload_bytes`.
            QueueFull: too many wait.
            QueueQuotaExceeded: its key has too many.

        """
        ...

    async def get(self, name: RequestName) -> Record:
        """Return where it stands.

        Raises:
            RequestNotFound: there is none.

        """
        ...

    async def list_page(self, key_id: str, state: State | None, limit: int, before: int | None) -> Page:
        """Return a key's requests, newest first; `before` is the `next_before` of the page before."""
        ...

    async def events(self, name: RequestName, after: int, limit: int) -> Sequence[Event]:
        """Return its events after number `after`, at most `limit`.

        Raises:
            RequestNotFound: there is none.

        """
        ...

    async def log_lines(self, name: RequestName, last: int) -> Sequence[Event]:
        """Return those of its events up to number `last` that are a LogLine; the others are not even read.

        Raises:
            RequestNotFound: there is none.

        """
        ...

    async def cancel(self, name: RequestName, on_ended: OnEnded = ignore) -> Record:
        """End it if it is QUEUED, ask its worker to stop if it is RUNNING; else change nothing.

        `on_ended` hears of its end if this was it.

        Raises:
            RequestNotFound: there is none.

        """
        ...

    async def claim(
        self, but_of: Collection[str] = (), on_ended: OnEnded = ignore, holder: str = ""
    ) -> Claim | None:
        """Begin the next request, if one waits; those whose time is over, or that cannot be read, are ended.

        Safe to repeat where the answer was lost, by the same `holder`, which `draw_holder` made: what it has
        begun and still holds is returned again. So one is used until something was claimed by it.

        `on_ended` hears of each of these, also where no request is begun; where the answer was lost, that of
        the next claim does. Those of the keys `but_of` are left waiting, and keep their places.
        """
        ...

    async def renew(self, claim: Claim) -> Lease:
        """Hold a claim for another lease."""
        ...

    async def append(self, claim: Claim, after: int, happenings: Sequence[Happening]) -> Lease:
        """Write what happened after event number `after`; nothing is written if the claim is LOST.

        Safe to repeat where the answer was lost: what was written before is not written again. So a claim is
        LOST, too, where the store has forgotten event number `after`, as by a fail-over: nobody could tell
        any more what was written before.
        """
        ...

    async def finish(
        self, claim: Claim, after: int, happenings: Sequence[Happening], end: Finished | Failed
    ) -> Lease:
        """Write what happened after event number `after`, and the end, durably; else as `append`.

        An end that the same worker has written already is HELD, too; and so is one behind events that the
        store has forgotten, for it tells all of the answer.
        """
        ...

    async def release(self, claim: Claim, reason: str, *, is_lost: bool) -> Lease:
        """Hand a request back, to be begun again before others.

        Args:
            claim: what is handed back.
            reason: why, for its log.
            is_lost: whether it counts as a loss; the last one that is allowed ends the request.

        It has ended instead where the answer is CANCELLED, EXHAUSTED or LOST_ONCE; who repeats this where the
        answer was lost hears the same. Of those that are to be begun once, only those with which the model
        has not begun wait again.

        """
        ...

    async def reap(self) -> Reaped:
        """Take back what dead workers held, end what waited too long, forget what is over; a part a time.

        It is a loss where the worker had told of another stage than QUEUED, and in any case from attempt
        FIRST_SILENT_LOSS on, or where the request is to be begun once: what the worker did last is not known.

        Where the answer was lost, the next call returns it.
        """
        ...

    async def claim_delivery(
        self, again_after_seconds: float, but_of: Collection[str] = ()
    ) -> Delivery | None:
        """Take the next webhook that is due; it comes again after so long unless it is settled.

        Keys take turns. Webhooks of the keys `but_of` stay due.
        """
        ...

    async def settle_delivery(self, delivery: Delivery, retry_after_seconds: float | None) -> None:
        """Forget a delivery that arrived or is given up (None), or let it come again after a while.

        Safe to repeat where the answer was lost: once another attempt has begun, nothing is changed.
        """
        ...

    async def statistics(self) -> Statistics:
        """Count what is there."""
        ...

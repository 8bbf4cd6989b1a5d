"""What a store keeps of a request, in plain types."""

from __future__ import annotations

import enum
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idefics2_service.requests import Priority, RequestName, Stage, State, ValidRequest

if TYPE_CHECKING:
    from idefics2_service.events import Failed, Finished

DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Submission:
    """A request on its way into the store."""

    name: RequestName
    fingerprint: bytes
    """Equal for equal content: what tells a repeated submit from another one of the same name."""
    request: ValidRequest = field(repr=False)
    priority: Priority = Priority.NORMAL
    start_timeout_seconds: float | None = None
    time_budget_seconds: float = DAY_SECONDS
    keep_seconds: float | None = None
    """Keep it no longer than this after its end, no longer than the store keeps others, and in any case until
    its webhook was told or given up."""
    webhook_url: str = ""
    max_queue_length: int | None = None
    """Refuse it where more are before it."""
    max_queued_of_key: int | None = None
    """Refuse it where its key has so many, QUEUED or RUNNING."""
    is_begun_once: bool = False
    """Whether its first loss ends it, and being handed back once the model has begun with it."""
    traceparent: str = ""
    """W3C's, of the call that submits it; empty: of no trace."""


@dataclass(frozen=True)
class Record:
    """Where a request stands. Times are seconds since the epoch, by the store's clock."""

    name: RequestName
    state: State
    priority: Priority
    max_new_tokens: int
    created_at: float
    last_sequence: int
    attempt: int = 0
    """How many times it was begun."""
    stage: Stage | None = None
    num_generated_tokens: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    expires_at: float | None = None
    queue_position: int | None = None
    """While it is QUEUED: how many are before it."""
    estimated_wait_seconds: float | None = None
    """While it is QUEUED and a pace was measured."""
    end: Finished | Failed | None = None
    """How it ended, once it has."""
    may_be_behind: bool = field(default=False, compare=False)
    """Whether a store's replica says it, which may lack what was told before."""


@dataclass(frozen=True)
class Page:
    """A part of a list, newest first."""

    records: tuple[Record, ...]
    next_before: int | None
    """Where the next part begins; None: there is none."""


@dataclass(frozen=True)
class Claim:
    """A request that a worker holds. Its writes carry attempt and holder, and are refused once stale."""

    name: RequestName
    attempt: int
    request: ValidRequest = field(repr=False)
    seconds_left: float = DAY_SECONDS
    """Of the request's time budget, as of the claim."""
    start_seconds_left: float | None = None
    """Within which it must have a turn on the model; None: whenever, or it had one before."""
    seconds_queued: float = 0.0
    """From its submission to the claim."""
    last_sequence: int = 0
    """Of its last event as of the claim; only the claim's worker writes others."""
    traceparent: str = ""
    """As submitted."""
    holder: str = ""
    """Drawn for this claim alone, by `draw_holder`."""


def draw_holder() -> str:
    """Tell a claim from every other one.

    Its attempt does not: a server that fails over, or loses its last second, may forget a claim, and give
    the next one the same number.
    """
    return secrets.token_hex(8)


class Lease(enum.Enum):
    """What a worker hears when it renews its lease, writes, or hands back."""

    HELD = "HELD"
    CANCELLED = "CANCELLED"
    """Somebody wants the request to stop; the lease is still held, unless the request was handed back: then
    it has ended."""
    EXHAUSTED = "EXHAUSTED"
    """Handed back after as many losses as it may have: the request has ended."""
    LOST_ONCE = "LOST_ONCE"
    """Handed back, and it was to be begun once: the request has ended."""
    LOST = "LOST"
    """The request is another's by now, or at its end; or the store has forgotten what it was told of it, and
    lets it be begun again when the lease ends."""


@dataclass(frozen=True)
class Delivery:
    """The end of a request that somebody wants to be told of."""

    record: Record
    webhook_url: str = field(repr=False)
    attempt: int
    """From 1."""
    traceparent: str = ""
    """As submitted."""
    holder: str = ""
    """Drawn for this attempt alone, by `draw_holder`."""


@dataclass(frozen=True)
class Statistics:
    """What is in the store."""

    now: float
    """When it was counted, by the clock of the store that counted: seconds since the epoch."""
    num_queued: int
    oldest_queued_seconds: float
    """How long the one that was taken first has waited; 0 where none waits."""
    num_deliveries: int
    """Ends that somebody has yet to be told of; each counts until it was told or is given up."""
    may_be_behind: bool = False
    """Whether a replica counted them, while the store is away."""


@dataclass(frozen=True)
class Ended:
    """A request that ended without its worker's word."""

    name: RequestName
    end: Failed
    seconds: float
    """From its submission."""


@dataclass(frozen=True)
class Reaped:
    """What a round of tidying did."""

    num_requeued: int = 0
    ended: tuple[Ended, ...] = ()

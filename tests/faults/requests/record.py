"""What clients saw of submitted requests, in plain types: all that `judge` knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self


class Seen(NamedTuple):
    """An event as a watcher saw it."""

    sequence: int
    kind: str
    """The field of the wire's Event."""
    content: bytes
    """The whole event, so that two watchers can be compared."""
    text: str = ""
    attempt: int = 0
    is_begun: bool = False
    """Whether it says that the model has begun."""


class End(NamedTuple):
    """How a request ended, as one answer told it."""

    state: str
    reason: str = ""
    """Of its failure."""
    text: str | None = None
    """Its answer, where it was told."""

    @classmethod
    def of_failure(cls, reason: str) -> Self:
        """Tell by the reason of a failure what it ended as."""
        return cls("CANCELLED" if reason == "REQUEST_CANCELLED" else "FAILED", reason)


class Call(NamedTuple):
    """A call of a webhook, as its host saw it."""

    request_id: str
    """Whose end it tells, by its own word."""
    end: End
    is_signed: bool
    """Whether its signature is the service's, and fits."""
    is_taken: bool
    """Whether the host wanted it: it neither failed nor hung up."""
    is_answered: bool
    """Whether who called still waited when the host answered."""

    @property
    def is_heard(self) -> bool:
        """Whether both know that the end is told: if not, another call has to come."""
        return self.is_taken and self.is_answered


@dataclass
class Story:
    """All that was seen of one request."""

    request_id: str
    truth: str
    """The only right answer."""
    submitted_at: float = 0.0
    """Seconds since the start, as all times."""
    acknowledged_at: float | None = None
    ended_at: float | None = None
    """When its client knew everything that it wanted."""
    is_cancel_sent: bool = False
    is_lost: bool = False
    """Somebody was told that it does not exist, after it was acknowledged."""
    watches: list[list[Seen]] = field(default_factory=list)
    """What each watcher saw, over all its connections."""
    ends: list[End] = field(default_factory=list)
    has_webhook: bool = False
    calls: list[Call] = field(default_factory=list)
    """Of its webhook."""
    errors: list[str] = field(default_factory=list)
    """Answers that no call should get."""

    @property
    def is_told(self) -> bool:
        """Whether its webhook has heard of its end."""
        return any(call.is_heard for call in self.calls)


class Strike(NamedTuple):
    """What was done to a process."""

    at: float
    kind: str
    """What it was: front, triton or store; or stopped: a front that stood still for a while."""


@dataclass
class Record:
    """One trial."""

    seconds: float
    """How long requests were submitted."""
    least_rate: float
    """Submitted requests per second without which the trial shows nothing."""
    stories: list[Story] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    """Processes that ended by themselves."""

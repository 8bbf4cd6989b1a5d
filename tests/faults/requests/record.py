"""What clients saw of submitted requests, in plain types: all that `judge` knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


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
    errors: list[str] = field(default_factory=list)
    """Answers that no call should get."""


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

"""What callers saw while fronts were ended one after the other, in plain types: all that `judge` knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from faults.requests.record import Story


DEAF = "client"
"""The way of those who do not ask for health."""


class Call(NamedTuple):
    """One call, or a few that belong together."""

    way: str
    """How it found a front."""
    kind: str
    began_at: float
    """Seconds since the start, as all times."""
    seconds: float
    problem: str
    """How it failed; empty: it did not."""


class Restart(NamedTuple):
    """One front that was asked to end, while it was called, and begun again."""

    at: float
    told_seconds: float
    """Until who watches its health heard NOT_SERVING."""
    ready_status: int
    """What `/healthz/ready` answered first that was not 200; 0: nothing, the port was closed."""
    ready_seconds: float
    """Until it did."""
    end_seconds: float
    """Until the process was gone."""
    status: int
    """With which it ended."""


@dataclass
class Record:
    """One trial."""

    seconds: float = 0.0
    """How long calls were made."""
    calls: list[Call] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    """Submitted requests, each with a watcher."""
    restarts: list[Restart] = field(default_factory=list)
    num_resumed: int = 0
    """Watches that were told to go on elsewhere, and did."""
    crashes: list[str] = field(default_factory=list)
    """Processes that ended unasked."""

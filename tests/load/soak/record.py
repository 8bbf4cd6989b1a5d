"""What was seen of a soak, in plain types: all that `judge` knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Held(NamedTuple):
    """What processes of one role hold together."""

    memory: float
    """MiB that no file stands behind: what is mapped from files comes and goes with other processes."""
    descriptors: int
    threads: int


class Sample(NamedTuple):
    """All of a moment."""

    at: float
    """Seconds since the first visit."""
    roles: dict[str, Held]
    counts: dict[str, int]
    """By the names below."""


TASKS = "asyncio tasks"
ROWS, FILES = "rows in the store", "uploaded files and their parts"
LATE_ROWS, LATE_FILES = "rows that should be gone", "files that should be gone"
TEMPORARY = "temporary files"
REGIONS, REGION_SIZES = "regions of shared memory", "KiB of shared memory"


class Visit(NamedTuple):
    """One visitor, who has gone."""

    at: float
    """When it came, as a sample's time."""
    kind: str
    seconds: float


@dataclass
class Record:
    """One soak."""

    seconds: float
    """How long visitors came."""
    samples: list[Sample] = field(default_factory=list)
    """Under load."""
    quiet: list[Sample] = field(default_factory=list)
    """When nobody called: before all of it, though each kind of call was made, and after it."""
    visits: list[Visit] = field(default_factory=list)
    problems: dict[str, int] = field(default_factory=dict)
    """Answers that nobody should get, by kind, and how often."""
    end_seconds: float = 0.0
    status: int = 0
    num_left: int = 0
    """Files and regions of shared memory that are still there after the end."""

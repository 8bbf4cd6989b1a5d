"""The store that a cell's replicas share: who waits, and what each operation takes."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.fleet.clock import Counters, after

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.fleet.replica import Job
    from simpy import Environment

TEXT_SECONDS = 0.25
"""How long a run joins text before it writes it."""
RENEW_SECONDS = 3.0
LEASE_SECONDS = 15.0


def count_writes(told_seconds: float, held_seconds: float) -> int:
    """Count the writes of a run, which told text and was held for so long: claim, two stages, text, end."""
    return 4 + math.ceil(told_seconds / TEXT_SECONDS) + int(held_seconds / RENEW_SECONDS)


@dataclass(frozen=True)
class StoreTimes:
    """What its operations take."""

    write_seconds: float
    """What one keeps it from others."""
    answer_seconds: float
    """What one takes, as its caller sees it, beside the line before it."""


class Store:
    """First come, first served: whoever is handed back keeps its place."""

    def __init__(self, clock: Environment, times: StoreTimes, dispatch: Callable[[], None]) -> None:
        """Let `dispatch` look who could run what waits, whenever something does."""
        self._clock, self._times, self._dispatch = clock, times, dispatch
        self._queue: deque[Job] = deque()
        self._counter = Counters(clock)

    @property
    def busy_seconds(self) -> float:
        """How long it has worked."""
        return self._counter.busy_seconds

    @property
    def num_queued(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def age(self) -> float:
        """How long the first has waited."""
        return self._clock.now - self._queue[0].ask.time if self._queue else 0.0

    def submit(self, job: Job) -> None:
        """Take a request."""
        after(self._clock, self._write(), lambda: self._add(job))

    def put_back(self, jobs: list[Job], seconds: float) -> None:
        """Let requests wait again, once it is known, in so many seconds, that nobody runs them."""

        def put_back() -> None:
            self._queue.extendleft(sorted(jobs, key=lambda job: -job.ask.number))
            self._dispatch()

        after(self._clock, seconds, put_back)

    def claim(self) -> tuple[Job, float]:
        """Take the first who waits; return it with the seconds until its worker knows it."""
        return self._queue.popleft(), self._write()

    def note(self, num_writes: int) -> None:
        """Write what a run tells: others wait for it, the run does not."""
        self._counter.serve(num_writes * self._times.write_seconds)

    def _write(self) -> float:
        return self._counter.serve(self._times.write_seconds) + self._times.answer_seconds

    def _add(self, job: Job) -> None:
        self._queue.append(job)
        self._dispatch()

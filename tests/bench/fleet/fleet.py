"""Replicas and what they share, under traffic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import simpy
from bench.fleet.clock import after
from bench.fleet.replica import Job, Replica, Told
from bench.fleet.store import LEASE_SECONDS, Store, StoreTimes, count_writes
from bench.fleet.surroundings import ALONE, Surroundings
from bench.fleet.traffic import make_dice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.fleet.clock import Process
    from bench.fleet.profile import Profile
    from bench.fleet.traffic import Ask

MAX_ATTEMPTS = 3
"""So many losses end a request, with an error."""


@dataclass(frozen=True)
class Sample:
    """How a fleet stood at a time."""

    time: float
    num_wanted: int
    """Replicas, by whoever scales."""
    num_ready: int
    queue_age: float
    num_open: int
    """Requests that wait or run."""


@dataclass
class Run:
    """What came of a simulation."""

    jobs: list[Job] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    """How long it went on, in simulated time."""
    gpu_seconds: float = 0.0
    """That replicas were there, loading their weights included."""
    busy_seconds: float = 0.0
    """That their engines worked."""
    store_busy_seconds: float = 0.0
    num_failed: int = 0
    """Requests that were lost too often."""


class Fleet:
    """One cell: replicas over one store; without a store, callers go to them in turns."""

    def __init__(
        self,
        profile: Profile,
        store_times: StoreTimes | None = None,
        seed: int = 0,
        around: Surroundings = ALONE,
    ) -> None:
        """Begin without replicas; each machine is one's own but for what is `around`."""
        self.clock = simpy.Environment()
        self.replicas: list[Replica] = []
        """All that have a GPU: those that load their weights and those that end, too."""
        self.num_open = 0
        self.run = Run()
        self.store = Store(self.clock, store_times, self._dispatch) if store_times else None
        self._profile, self._around = profile, around
        self._told = Told(self._begun, self._ended)
        self._dice = make_dice(seed)
        self._num_made = self._num_sent = 0
        self._is_over = self.clock.event()

    def add(self, start_seconds: float = 0.0) -> Replica:
        """Add a replica, which loads its weights for so long."""
        replica = Replica(self.clock, self._profile, self._num_made, self._told, self._around)
        self._num_made += 1
        self.replicas.append(replica)
        self.run.gpu_seconds -= self.clock.now
        self.start(replica, start_seconds)
        return replica

    def start(self, replica: Replica, seconds: float) -> None:
        """Let a replica be ready in so many seconds, if that is still what is wanted then."""
        replica.num_starts += 1
        number = replica.num_starts

        def start() -> None:
            if replica in self.replicas and replica.num_starts == number:
                replica.start()
                self._dispatch()

        after(self.clock, seconds, start)

    def stop(self, replica: Replica) -> None:
        """End a replica that drained: what it has still is handed back, to be run elsewhere."""
        self._put_back(replica.lose(), 0.0)

    def lose(self, replica: Replica) -> None:
        """Lose a replica with all it had: the store hears of it when leases end."""
        lost = replica.lose()
        given_up = [job for job in lost if job.num_attempts == MAX_ATTEMPTS]
        self.run.num_failed += len(given_up)
        self._close(len(given_up))
        self._put_back([job for job in lost if job.num_attempts < MAX_ATTEMPTS], LEASE_SECONDS)

    def remove(self, replica: Replica) -> None:
        """Give a GPU back; its replica was stopped."""
        self.replicas.remove(replica)
        self.run.gpu_seconds += self.clock.now
        self.run.busy_seconds += replica.busy_seconds

    @property
    def ready(self) -> list[Replica]:
        """Those who take requests."""
        return [replica for replica in self.replicas if replica.is_taking]

    def go(self, asks: Sequence[Ask], seconds: float = 0.0) -> Run:
        """Let all requests arrive and end, and at least so many seconds go by."""
        self.clock.process(self._arrive(asks, seconds))
        self.clock.run(self._is_over)
        for replica in list(self.replicas):
            self.remove(replica)
        self.run.seconds = self.clock.now
        self.run.store_busy_seconds = self.store.busy_seconds if self.store else 0.0
        return self.run

    def _arrive(self, asks: Sequence[Ask], seconds: float) -> Process:
        self.num_open = 1  # the traffic itself: it is over when all came and all ended
        for ask in asks:
            yield self.clock.timeout(ask.time - self.clock.now)
            job = Job(ask)
            self.run.jobs.append(job)
            self.num_open += 1
            self._send(job)
        yield self.clock.timeout(max(0.0, seconds - self.clock.now))
        self._close(1)

    def _send(self, job: Job) -> None:
        if self.store is not None:
            self.store.submit(job)
            return
        ready = self.ready
        ready[self._num_sent % len(ready)].take(job)
        self._num_sent += 1

    def _dispatch(self) -> None:
        """Let whoever has room claim what waits: all hear of it at once, and chance says who is first."""
        if self.store is None:
            return
        while self.store.num_queued and (able := [r for r in self.replicas if r.has_room]):
            replica = self._dice.choice(able)
            job, seconds = self.store.claim()
            replica.take(job, seconds)

    def _put_back(self, jobs: list[Job], seconds: float) -> None:
        if self.store is not None:
            self.store.put_back(jobs, seconds)
        elif jobs:
            raise RuntimeError("who called a replica without a store would have to call again")

    def _begun(self, _: Replica, __: Job) -> None:
        self._dispatch()

    def _ended(self, _: Replica, job: Job) -> None:
        if self.store is not None:
            told, held = job.ended_at - job.first_token_at, job.ended_at - job.taken_at
            self.store.note(count_writes(told, held) - 1)  # the claim was written before
        self._close(1)

    def _close(self, number: int) -> None:
        self.num_open -= number
        if not self.num_open:
            self._is_over.succeed()

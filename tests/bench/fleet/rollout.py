"""What is done to replicas: a new version, and what happens to them: a lost GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from bench.fleet.clock import Process
    from bench.fleet.fleet import Fleet
    from bench.fleet.replica import Replica

LEAVE_SECONDS = 10.0
"""Until all who balance know: IDEFICS2_GRPC_DRAIN_DELAY_SECONDS of the manifest."""
DRAIN_SECONDS = 30.0
"""What running answers get: IDEFICS2_GRPC_DRAIN_TIMEOUT_SECONDS."""
LOOK_SECONDS = 1.0


def drain(fleet: Fleet, replica: Replica) -> Process:
    """Let a replica end its answers, as long as it may; hand back the rest."""
    replica.is_ending = True
    yield fleet.clock.timeout(LEAVE_SECONDS)
    replica.is_taking = False
    end = fleet.clock.now + DRAIN_SECONDS
    while replica.jobs and fleet.clock.now < end:
        yield fleet.clock.timeout(LOOK_SECONDS)
    fleet.stop(replica)


def end_replica(fleet: Fleet, replica: Replica) -> Process:
    """Drain a replica and give its GPU back."""
    yield from drain(fleet, replica)
    if replica in fleet.replicas:
        fleet.remove(replica)


def roll_out(fleet: Fleet, at: float, start_seconds: float) -> Process:
    """Replace all replicas of a time, one after the other, each on the GPU of the one before."""
    yield fleet.clock.timeout(at - fleet.clock.now)
    for replica in list(fleet.replicas):
        if replica in fleet.replicas and not replica.is_ending:
            yield from drain(fleet, replica)
            fleet.start(replica, start_seconds)
            yield fleet.clock.timeout(start_seconds)


def lose_gpu(fleet: Fleet, at: float, repair_seconds: float) -> Process:
    """Lose the replica that has most to do; another takes its place after a while."""
    yield fleet.clock.timeout(at - fleet.clock.now)
    if fleet.ready:
        replica = max(fleet.ready, key=lambda replica: (len(replica.jobs), -replica.number))
        fleet.lose(replica)
        fleet.start(replica, repair_seconds)


def lose_gpus(fleet: Fleet, dice: Random, seconds_between: float, repair_seconds: float) -> Process:
    """Lose one after the other: each lasts `seconds_between` on average."""
    while True:
        rate = max(1, len(fleet.replicas)) / seconds_between
        yield from lose_gpu(fleet, fleet.clock.now + dice.expovariate(rate), repair_seconds)

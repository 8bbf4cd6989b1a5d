"""Loads on the real service, and the same on the simulation.

Both see the same requests at the same times, the load generator's lateness included, other programs that take
as much of the machine, and the same pace of its cores from second to second.
"""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.fleet.fleet import Fleet
from bench.fleet.neighbours import Neighbours
from bench.fleet.surroundings import PaceMeter, Surroundings, find_usual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.fleet.callers import Callers
    from bench.fleet.loads import Load
    from bench.fleet.profile import Profile
    from bench.fleet.traffic import Ask


@dataclass(frozen=True)
class Observed:
    """How a load went."""

    rate: float
    """Answers a second."""
    to_first: Sequence[float] = ()
    """Seconds from when each request was sent to its first token."""
    to_end: Sequence[float] = ()
    """And to its end."""

    @property
    def first_p50(self) -> float:
        """Half of the requests had their first token in so many seconds."""
        return find_percentile(self.to_first, 50)

    @property
    def first_p90(self) -> float:
        """And 90 of a hundred in so many."""
        return find_percentile(self.to_first, 90)

    @property
    def end_p50(self) -> float:
        """Half of the requests ended in so many seconds."""
        return find_percentile(self.to_end, 50)

    @property
    def end_p90(self) -> float:
        """And 90 of a hundred in so many."""
        return find_percentile(self.to_end, 90)


@dataclass(frozen=True)
class Trial:
    """One load, once, on the real service."""

    load: str
    asks: Sequence[Ask]
    """As they were sent."""
    latest: float
    """Seconds that one of them was sent after its time."""
    around: Surroundings
    """What else went on."""
    observed: Observed


def observe(asks: Sequence[Ask], firsts: Sequence[float], ends: Sequence[float]) -> Observed:
    """Sum up a load: when each request had its first token and its end."""
    return Observed(
        len(asks) / max(ends),
        [first - ask.time for ask, first in zip(asks, firsts, strict=True)],
        [end - ask.time for ask, end in zip(asks, ends, strict=True)],
    )


def find_percentile(seconds: Sequence[float], percent: int) -> float:
    """Return what so many of a hundred do not exceed; of fewer than a hundred, nothing beyond the longest."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


async def try_all(callers: Callers, loads: Sequence[Load], num_rounds: int) -> list[Trial]:
    """Run loads on the real service, all of them in turns, so that what drifts drifts for all."""
    trials = [await _try(callers, load) for _ in range(num_rounds) for load in loads]
    usual = find_usual([trial.around.paces for trial in trials])
    return [dataclasses.replace(trial, around=trial.around.relative_to(usual)) for trial in trials]


async def _try(callers: Callers, load: Load) -> Trial:
    neighbours = Neighbours(callers.pid)
    with PaceMeter() as meter:
        answers = await callers.ask_all(load.asks)
    around = Surroundings(neighbours.measure(), meter.read(callers.begun))
    sent = sorted(answers, key=lambda answer: answer.sent)
    asks = [dataclasses.replace(answer.ask, time=answer.sent) for answer in sent]
    observed = observe(asks, [answer.first_token for answer in sent], [answer.end for answer in sent])
    latest = max(answer.sent - answer.ask.time for answer in answers)
    return Trial(load.name, asks, latest, around, observed)


def simulate(profile: Profile, trial: Trial) -> Observed:
    """Run what was sent on one simulated replica, around which the same goes on."""
    fleet = Fleet(profile, around=trial.around)
    fleet.add()
    jobs = fleet.go(trial.asks).jobs
    return observe(trial.asks, [job.first_token_at for job in jobs], [job.ended_at for job in jobs])

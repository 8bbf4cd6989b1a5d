"""A profile of this machine with the embedded checkpoint, fitted to the real service.

A figure alone cannot be measured through the whole service, whose processes share the machine's cores. So the
simulation gets the same loads, and its figures are moved, one at a time, until it agrees best.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.fleet.fleet import Fleet
from bench.stopwatch import percentile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.fleet.callers import Answered, Callers
    from bench.fleet.loads import Load
    from bench.fleet.profile import Profile

Figure = str | int
"""Of a profile: a field, or the number of one of its `token_points`."""
FITTED: tuple[Figure, ...] = (
    0, 1, 2, 3, "context_seconds", "look_seconds", "crop_seconds", "patch_seconds",
    "host_seconds", "megapixel_seconds", "way_seconds", "pause_seconds",
)  # fmt: skip
COMPARED = (("first_p50", 2.0), ("end_p50", 2.0), ("first_p90", 1.0), ("end_p90", 1.0))
"""What the fit looks at, and how much it weighs: a p99 of a short load is chance."""
STEPS = (1.6, 1.25, 1.1, 1.04)
"""By how much a figure is moved: first far, then less and less."""
FARTHEST = 50.0
"""By how much it may move in all: what has no influence on any load must not vanish."""


@dataclass(frozen=True)
class Observed:
    """How a load went, in seconds and requests a second."""

    rate: float
    first_p50: float
    first_p90: float
    end_p50: float
    end_p90: float
    end_p99: float


def observe(firsts: Sequence[float], ends: Sequence[float], last_end: float) -> Observed:
    """Sum up a load: seconds of each request, and when the last one ended."""
    return Observed(
        rate=len(ends) / last_end,
        first_p50=percentile(firsts, 50),
        first_p90=percentile(firsts, 90),
        end_p50=percentile(ends, 50),
        end_p90=percentile(ends, 90),
        end_p99=percentile(ends, 99),
    )


async def measure(callers: Callers, loads: Sequence[Load], num_rounds: int) -> dict[str, Observed]:
    """Run loads on the real service, all of them in turns, so that what drifts drifts for all.

    Returns:
        By name: the median of the rounds.

    """
    rounds: dict[str, list[Observed]] = {load.name: [] for load in loads}
    for _ in range(num_rounds):
        for load in loads:
            rounds[load.name].append(_observe_answers(await callers.ask_all(load.asks)))
    return {name: _find_middle(runs) for name, runs in rounds.items()}


def _find_middle(runs: list[Observed]) -> Observed:
    columns = zip(*map(dataclasses.astuple, runs), strict=True)
    return Observed(*(statistics.median(values) for values in columns))


def _observe_answers(answers: Sequence[Answered]) -> Observed:
    last_end = max(answer.ask.time + answer.end for answer in answers)
    return observe([answer.first_token for answer in answers], [answer.end for answer in answers], last_end)


def simulate(profile: Profile, load: Load) -> Observed:
    """Run a load on one simulated replica."""
    fleet = Fleet(profile)
    fleet.add()
    jobs = fleet.go(load.asks).jobs
    firsts = [job.first_token_at - job.ask.time for job in jobs]
    return observe(firsts, [job.ended_at - job.ask.time for job in jobs], max(job.ended_at for job in jobs))


def find_error(profile: Profile, measured: Mapping[str, Observed], loads: Sequence[Load]) -> float:
    """Return how far the simulation is from what was measured: the mean square of the ratios' logarithms."""
    squares = []
    for load in loads:
        there, here = measured[load.name], simulate(profile, load)
        for name, weight in COMPARED:
            squares.append(weight * math.log(getattr(here, name) / getattr(there, name)) ** 2)
    return sum(squares) / len(squares)


def fit(profile: Profile, measured: Mapping[str, Observed], loads: Sequence[Load]) -> Profile:
    """Move each figure up and down, for as long as that helps."""
    best, error = profile, find_error(profile, measured, loads)
    for step in STEPS:
        for figure in FITTED * 2:
            for factor in (step, 1 / step):
                moved = move(best, figure, factor)
                while is_near(moved, profile) and (found := find_error(moved, measured, loads)) < error:
                    best, error = moved, found
                    moved = move(best, figure, factor)
        print(f"fit: steps of {step:g}, typical error {100 * math.sqrt(error):.0f} %", flush=True)
    return best


def is_near(moved: Profile, profile: Profile) -> bool:
    """Tell whether no figure went too far."""
    ratios = (read_figure(moved, figure) / read_figure(profile, figure) for figure in FITTED)
    return all(1 / FARTHEST <= ratio <= FARTHEST for ratio in ratios)


def read_figure(profile: Profile, figure: Figure) -> float:
    """Return the seconds of one figure."""
    if isinstance(figure, int):
        return profile.token_points[figure][1]
    return float(getattr(profile, figure))


def move(profile: Profile, figure: Figure, factor: float) -> Profile:
    """Change one figure."""
    moved = read_figure(profile, figure) * factor
    if isinstance(figure, str):
        changed: dict[str, Any] = {figure: moved}
        return dataclasses.replace(profile, **changed)
    points = list(profile.token_points)
    points[figure] = (points[figure][0], moved)
    return dataclasses.replace(profile, token_points=tuple(points))

"""A profile of this machine with the embedded checkpoint, fitted to the real service.

A figure alone cannot be measured through the whole service, whose processes share the machine's cores. So the
simulation gets the same loads, and its figures are moved, one at a time, until it agrees best.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from bench.fleet.trials import simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.fleet.profile import Profile
    from bench.fleet.trials import Observed, Trial

Figure = str | int
"""Of a profile: a field, or the number of one of its `token_points`."""
FITTED: tuple[Figure, ...] = (
    0, 1, 2, 3, "context_seconds", "reading_step_seconds", "look_seconds", "crop_seconds", "patch_seconds",
    "host_seconds", "beside_seconds", "message_seconds", "megapixel_seconds", "way_seconds",
)  # fmt: skip
COMPARED = (("first_p50", 2.0), ("end_p50", 2.0), ("first_p90", 1.0), ("end_p90", 1.0))
"""What the fit looks at, and how much it weighs: a p99 of a short load is chance."""
STEPS = (1.6, 1.25, 1.1, 1.04)
"""By how much a figure is moved: first far, then less and less."""
FARTHEST = 10.0
"""By how much it may move in all: what has no influence on any load must not vanish."""


def find_error(profile: Profile, trials: Sequence[Trial]) -> float:
    """Return how far the simulation is from what was measured: the mean square of the ratios' logarithms.

    Of the trials of one load, the median counts.
    """
    pairs: defaultdict[str, list[tuple[Observed, Observed]]] = defaultdict(list)
    for trial in trials:
        pairs[trial.load].append((simulate(profile, trial), trial.observed))
    squares = [
        weight
        * math.log(statistics.median(getattr(here, name) / getattr(there, name) for here, there in some)) ** 2
        for some in pairs.values()
        for name, weight in COMPARED
    ]
    return sum(squares) / len(squares)


def fit(profile: Profile, trials: Sequence[Trial]) -> Profile:
    """Move each figure up and down, for as long as that helps."""
    best, error = profile, find_error(profile, trials)
    for step in STEPS:
        for figure in FITTED * 2:
            for factor in (step, 1 / step):
                moved = move(best, figure, factor)
                while is_near(moved, profile) and (found := find_error(moved, trials)) < error:
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

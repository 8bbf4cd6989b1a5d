"""A profile of this machine with the embedded checkpoint, fitted to the real service.

A figure alone cannot be measured through the whole service, whose processes share the machine's cores. So the
simulation gets the same loads, and its figures are moved until it agrees best.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from bench.fleet.trials import simulate
from scipy.optimize import least_squares

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
FARTHEST = 10.0
"""By how much a figure may move in all: what has no influence on any load must not vanish."""
TRIED = 0.04
"""By which part a figure is moved to see what that changes: below, a whole step more or less of one request
would pass for a slope."""
MAX_ROUNDS = 20


def find_error(profile: Profile, trials: Sequence[Trial]) -> float:
    """Return how far the simulation is from what was measured, typically: the ratios' logarithm."""
    return math.sqrt(statistics.mean(miss**2 for miss in find_misses(profile, trials)))


def find_misses(profile: Profile, trials: Sequence[Trial]) -> list[float]:
    """Return the logarithm of simulated over measured for each compared figure of each load, weighted.

    Of the trials of one load, the median counts.
    """
    pairs: defaultdict[str, list[tuple[Observed, Observed]]] = defaultdict(list)
    for trial in trials:
        pairs[trial.load].append((simulate(profile, trial), trial.observed))
    return [
        math.sqrt(weight)
        * math.log(statistics.median(getattr(here, name) / getattr(there, name) for here, there in some))
        for some in pairs.values()
        for name, weight in COMPARED
    ]


def fit(profile: Profile, trials: Sequence[Trial]) -> Profile:
    """Move all figures at once, by least squares, for as long as that helps."""

    def move_all(factors: Sequence[float]) -> Profile:
        moved = profile
        for figure, factor in zip(FITTED, factors, strict=True):
            moved = move(moved, figure, factor)
        return moved

    found = least_squares(
        lambda factors: find_misses(move_all(factors), trials),
        [1.0] * len(FITTED),
        bounds=(1 / FARTHEST, FARTHEST),
        diff_step=TRIED,
        max_nfev=MAX_ROUNDS,
    )
    fitted = move_all(found.x.tolist())
    print(f"fit: typical error {100 * find_error(fitted, trials):.1f} %", flush=True)
    return fitted


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

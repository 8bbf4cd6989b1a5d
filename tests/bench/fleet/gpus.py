"""The profile of a GPU: estimated, until `make bench-gpu` has measured one."""

from __future__ import annotations

import dataclasses
import re
import statistics

from bench.fleet.profile import Points, Profile, ProfileFile, read_profile
from bench.results import FOLDER, read

ESTIMATED = "h100"
SOURCE = "measured: make bench-gpu, tests/bench/results/gpu.json"
_STEP = re.compile(r"a step of (\d+) sequences at (\d+) tokens")
_PICTURE = re.compile(r"\S.*, (whole|split): (\d+) patches")
_CROPS = {"whole": 1, "split": 5}
LOOK_FIGURES = ("look_seconds", "crop_seconds", "patch_seconds", "patch_pair_seconds")


def read_gpu_profile() -> ProfileFile:
    """Read the estimated profile, with what was measured in the place of what was guessed."""
    estimated = read_profile(ESTIMATED)
    if not (FOLDER / "gpu.json").exists():
        return estimated
    results = read("gpu")
    values = {row.name: row.value / 1000 for row in results.rows if row.unit == "ms"}
    return ProfileFile(
        title=f"{results.title}; prompts and what is around the engine, estimated",
        is_measured=True,
        profile=replace_measured(estimated.profile, values),
        sources={**estimated.sources, **dict.fromkeys(("token_points", *LOOK_FIGURES), SOURCE)},
    )


def replace_measured(profile: Profile, seconds: dict[str, float]) -> Profile:
    """Take steps as they were measured, and scale what pictures take to what was measured of some."""
    steps = [(match, value) for name, value in seconds.items() if (match := _STEP.match(name))]
    points = [
        (float(match[1]), value - int(match[1]) * int(match[2]) * profile.context_seconds)
        for match, value in steps
    ]
    pictures = [(match, value) for name, value in seconds.items() if (match := _PICTURE.match(name))]
    ratios = [
        value / profile.seconds_to_look([int(match[2]) // _CROPS[match[1]]] * _CROPS[match[1]])
        for match, value in pictures
    ]
    factor = statistics.median(ratios) if ratios else 1.0
    scaled = {figure: getattr(profile, figure) * factor for figure in LOOK_FIGURES}
    return dataclasses.replace(profile, token_points=_join(points, profile.token_points), **scaled)


def _join(measured: list[tuple[float, float]], estimated: Points) -> Points:
    """Go on as the estimate does behind what was measured: a prompt has more tokens than a batch."""
    if not measured:
        return estimated
    most, last = max(measured)
    beyond = tuple((tokens, max(last, seconds)) for tokens, seconds in estimated if tokens > most)
    return (*sorted(measured), *beyond)

"""Whether what is held grows. Pure: samples in, a verdict out.

Memory is judged by its slope, as the median of the slopes between all pairs of samples (Theil and Sen),
which a few peaks do not move; its spread is that of 95 % confidence. A run of less than half an hour cannot
tell a MB an hour from noise: there, memory is at fault only if its slope is above a looser bound for sure.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from scipy.stats import theilslopes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from load.soak.samples import Sample

MOST_SLOPE, MOST_SHORT_SLOPE = 1.0, 120.0
"""MiB per hour."""
LONG_SECONDS = 1800.0
"""How long a run must be judged for the first of them."""
_LEAST_SLACK, _SLACK = 2.0, 0.1
"""What is flat may differ by so many between the first and the last third, or by such a share."""
_IN_USE = {"asyncio tasks", "rows in the store", "uploaded files and their parts"}
"""They come and go with the load, so they vary more."""
_SLACK_IN_USE = 0.5
_QUIET_SLACK = 4
"""How many more descriptors, threads or tasks there may be when it is quiet again: pools fill up."""


class Slope(NamedTuple):
    """How memory of one role moves, in MiB per hour."""

    value: float
    low: float
    high: float


class Level(NamedTuple):
    """How many of something there are: the medians of the first and of the last third."""

    first: float
    last: float
    slack: float
    """How much more is as good as flat."""


@dataclass(frozen=True)
class Verdict:
    """What came out of a soak."""

    seconds: float
    """How long it was judged, after the warm-up."""
    slopes: dict[str, Slope]
    levels: dict[str, Level]
    faults: tuple[str, ...]

    @property
    def is_long(self) -> bool:
        """Whether it can tell a MB an hour."""
        return self.seconds >= LONG_SECONDS

    @property
    def most_slope(self) -> float:
        """The bound of memory's slopes."""
        return MOST_SLOPE if self.is_long else MOST_SHORT_SLOPE


def judge(
    samples: Sequence[Sample],
    quiet: tuple[Sample, Sample],
    warm_up_seconds: float,
    problems: Mapping[str, int],
) -> Verdict:
    """Find what grows after the warm-up.

    Args:
        samples: Under load.
        quiet: When nobody called: before all of it, though each kind of call was made, and after it.
        warm_up_seconds: How long not to judge.
        problems: Answers that nobody should get, by kind, and how often.

    """
    warm = [sample for sample in samples if sample.at >= warm_up_seconds]
    seconds = warm[-1].at - warm[0].at
    slopes = {role: _fit(warm, role) for role in warm[-1].roles}
    levels = dict(_find_levels(warm))
    verdict = Verdict(seconds, slopes, levels, ())
    faults = (
        *(f"{count} times {what}" for what, count in problems.items()),
        *_growing(verdict),
        *_rising(levels),
        *_left_over(*quiet),
    )
    return Verdict(seconds, slopes, levels, faults)


def _fit(samples: Sequence[Sample], role: str) -> Slope:
    present = [sample for sample in samples if role in sample.roles]
    hours = [sample.at / 3600 for sample in present]
    fit = theilslopes([sample.roles[role].memory for sample in present], hours)
    return Slope(float(fit.slope), float(fit.low_slope), float(fit.high_slope))


def _growing(verdict: Verdict) -> Iterator[str]:
    for role, slope in verdict.slopes.items():
        surely = slope.value if verdict.is_long else slope.low
        if surely >= verdict.most_slope:
            spread = f"{slope.low:.1f} to {slope.high:.1f}"
            yield f"memory of {role} grows by {slope.value:.1f} MiB an hour ({spread})"


def _find_levels(samples: Sequence[Sample]) -> Iterator[tuple[str, Level]]:
    for role in samples[-1].roles:
        held = [sample.roles[role] for sample in samples if role in sample.roles]
        yield f"descriptors of {role}", _level([each.descriptors for each in held], _SLACK)
        yield f"threads of {role}", _level([each.threads for each in held], _SLACK)
    for what in samples[-1].counts:
        slack = _SLACK_IN_USE if what in _IN_USE else _SLACK
        yield what, _level([sample.counts[what] for sample in samples], slack)


def _level(counts: Sequence[int], slack: float) -> Level:
    third = max(len(counts) // 3, 1)
    first, last = median(counts[:third]), median(counts[-third:])
    return Level(first, last, max(_LEAST_SLACK, slack * first))


def _rising(levels: Mapping[str, Level]) -> Iterator[str]:
    for what, level in levels.items():
        if level.last - level.first > level.slack:
            yield f"{what}: {level.first:g} became {level.last:g}"


def _left_over(before: Sample, after: Sample) -> Iterator[str]:
    """Find what calls left behind when all have ended."""
    pairs = {"asyncio tasks": (before.counts["asyncio tasks"], after.counts["asyncio tasks"])}
    for role, held in before.roles.items():
        if role in after.roles:
            pairs[f"descriptors of {role}"] = held.descriptors, after.roles[role].descriptors
            pairs[f"threads of {role}"] = held.threads, after.roles[role].threads
    for what, (first, last) in pairs.items():
        if last - first > _QUIET_SLACK:
            yield f"{what}, when it was quiet: {first} became {last}"

"""Whether what is held grows. Pure: a record in, a verdict out.

Memory is judged by its slope, as the median of the slopes between all pairs of samples (Theil and Sen),
which a few peaks do not move; its spread is that of 95 % confidence. A run that is judged for less than half
an hour cannot tell a MB an hour from noise, nor a slower service from a busier machine. There, memory is at
fault only if its slope is above a looser bound for sure; times, and what is held while visitors come, are not
judged; and what is held when they have gone is, as in a long one.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from load.soak.record import FILES, LATE_FILES, LATE_ROWS, REGIONS, ROWS, TASKS, TEMPORARY
from scipy.stats import theilslopes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from load.soak.record import Record, Sample, Visit

MOST_SLOPE, MOST_SHORT_SLOPE = 0.95, 300.0
"""MiB per hour; the first is a MB."""
LONG_SECONDS = 1800.0
"""How long a run must be judged for the first of them."""
LEAST_RATE = 0.5
"""Visits a second: what fewer leave behind would not be seen."""
MOST_END_SECONDS = 60.0
_LEAST_SLACK, _SLACK = 2.0, 0.1
"""What is flat may differ by so many between the first and the last third, or by such a share."""
_IN_USE = {TASKS, ROWS, FILES}
"""They come and go with the load, so they vary more."""
_SLACK_IN_USE = 0.5
_LEAST_SLACK_SECONDS, _SLACK_OF_TIMES = 0.02, 0.5
_QUIET_SLACK = 4
"""How many more descriptors, threads or tasks there may be when it is quiet again: pools come and go.

Each kind of visit is made more often than that even in a short run, so what one leaves each time is found.
"""
_EXACT = (LATE_ROWS, LATE_FILES, TEMPORARY, REGIONS)
"""Of these there may not be one more."""


class Slope(NamedTuple):
    """How memory of one role moves, in MiB per hour."""

    value: float
    low: float
    high: float


class Level(NamedTuple):
    """How many of something there are, or how long it takes: medians of the first and of the last third."""

    first: float
    last: float
    slack: float
    """How much more is as good as flat."""

    @property
    def is_rising(self) -> bool:
        """Whether it is not flat."""
        return self.last - self.first > self.slack


@dataclass(frozen=True)
class Verdict:
    """What came out of a soak."""

    seconds: float
    """How long it was judged, after the warm-up."""
    slopes: dict[str, Slope]
    levels: dict[str, Level]
    times: dict[str, Level]
    """By kind of visit, in seconds."""
    faults: tuple[str, ...] = ()

    @property
    def is_long(self) -> bool:
        """Whether it can tell a MB an hour."""
        return self.seconds >= LONG_SECONDS

    @property
    def most_slope(self) -> float:
        """The bound of memory's slopes."""
        return MOST_SLOPE if self.is_long else MOST_SHORT_SLOPE


def judge(record: Record, warm_up_seconds: float) -> Verdict:
    """Find what grows after the warm-up, and what went wrong at any time."""
    warm = [sample for sample in record.samples if sample.at >= warm_up_seconds]
    visits = [visit for visit in record.visits if visit.at >= warm_up_seconds]
    slopes = {role: _fit(warm, role) for role in _steady_roles(warm)}
    verdict = Verdict(warm[-1].at - warm[0].at, slopes, dict(_find_levels(warm)), _find_times(visits))
    before, after = record.quiet
    faults = (*_find_wrong(record), *_find_growing(verdict), *find_left(before, after))
    return Verdict(verdict.seconds, slopes, verdict.levels, verdict.times, faults)


def find_left(before: Sample, after: Sample) -> Iterator[str]:
    """Find what calls left behind when all have ended."""
    for what in _EXACT:
        first, last = before.counts[what], after.counts[what]
        if last > (0 if what in {LATE_ROWS, LATE_FILES} else first):
            yield f"{what}, when it was quiet: {first} became {last}"
    pairs = {TASKS: (before.counts[TASKS], after.counts[TASKS])}
    for role, held in before.roles.items():
        if role in after.roles:
            pairs[f"descriptors of {role}"] = held.descriptors, after.roles[role].descriptors
            pairs[f"threads of {role}"] = held.threads, after.roles[role].threads
    for what, (first, last) in pairs.items():
        if last - first > _QUIET_SLACK:
            yield f"{what}, when it was quiet: {first} became {last}"


def _find_wrong(record: Record) -> Iterator[str]:
    """Find what should not have been, however long it was looked at."""
    for what, count in record.problems.items():
        yield f"{count} times {what}"
    rate = len(record.visits) / record.seconds
    if rate < LEAST_RATE:
        yield f"only {rate:.2f} visits a second: that shows nothing"
    if record.status:
        yield f"the end with status {record.status}"
    if record.num_left:
        yield f"{record.num_left} files or regions of shared memory were left after the end"
    if record.end_seconds > MOST_END_SECONDS:
        yield f"an end that took {record.end_seconds:.0f} s"


def _find_growing(verdict: Verdict) -> Iterator[str]:
    for role, slope in verdict.slopes.items():
        surely = slope.value if verdict.is_long else slope.low
        if surely >= verdict.most_slope:
            spread = f"{slope.low:.1f} to {slope.high:.1f}"
            yield f"memory of {role} grows by {slope.value:.1f} MiB an hour ({spread})"
    if verdict.is_long:
        for what, level in verdict.levels.items():
            if level.is_rising:
                yield f"{what}: {level.first:g} became {level.last:g}"
        for kind, level in verdict.times.items():
            if level.is_rising:
                yield f"{kind} takes longer: {level.first:.3f} s became {level.last:.3f} s"


def _steady_roles(samples: Sequence[Sample]) -> list[str]:
    """Name whoever is there at the beginning and at the end."""
    return [role for role in samples[-1].roles if role in samples[0].roles]


def _fit(samples: Sequence[Sample], role: str) -> Slope:
    present = [sample for sample in samples if role in sample.roles]
    hours = [sample.at / 3600 for sample in present]
    fit = theilslopes([sample.roles[role].memory for sample in present], hours)
    return Slope(float(fit.slope), float(fit.low_slope), float(fit.high_slope))


def _find_levels(samples: Sequence[Sample]) -> Iterator[tuple[str, Level]]:
    for role in _steady_roles(samples):
        held = [sample.roles[role] for sample in samples if role in sample.roles]
        yield f"descriptors of {role}", _level([each.descriptors for each in held], _SLACK)
        yield f"threads of {role}", _level([each.threads for each in held], _SLACK)
    for what in samples[-1].counts:
        slack = _SLACK_IN_USE if what in _IN_USE else _SLACK
        yield what, _level([sample.counts[what] for sample in samples], slack)


def _find_times(visits: Sequence[Visit]) -> dict[str, Level]:
    kinds = sorted({visit.kind for visit in visits})
    times = {kind: [visit.seconds for visit in visits if visit.kind == kind] for kind in kinds}
    return {kind: _level(each, _SLACK_OF_TIMES, _LEAST_SLACK_SECONDS) for kind, each in times.items()}


def _level(values: Sequence[float], slack: float, least_slack: float = _LEAST_SLACK) -> Level:
    third = max(len(values) // 3, 1)
    first, last = median(values[:third]), median(values[-third:])
    return Level(first, last, max(least_slack, slack * first))

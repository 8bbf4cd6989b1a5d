"""Everything at once for long, in search of what grows: `make soak`, or `make soak MINUTES=3`.

The whole service with its embedded Triton and checkpoint runs as a process, as its users start it. Figures
are kept of a long run only: a short one cannot tell a MB an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import NO_GOAL, Goal, Row, gather, make_row, write
from bench.tables import render
from load.soak.judge import MOST_END_SECONDS, find_left, judge
from load.soak.record import TASKS, Record
from load.soak.samples import Sampler
from load.soak.visitors import KEEP_SECONDS, NUM_KINDS, Visitors
from processes import Started, running_service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from load.soak.judge import Level, Slope, Verdict
    from load.soak.record import Sample

TITLE = "What grows under a mixed load"
COMMAND = "make soak"
RATE = 3.0
"""Visitors a second: what two cores answer without a growing line."""
WARM_UP_SHARE, MOST_WARM_UP_SECONDS = 1 / 3, 900.0
LOOK_SECONDS, QUIET_SECONDS, MOST_QUIET_SECONDS = 5.0, 10.0, 60.0
TELL_SECONDS = 120.0
CACHE_BYTES = 2**20


def main() -> int:
    """Run it, keep the figures, show them; 1 where something grows."""
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    seconds = 60 * parser.parse_args().minutes
    warm_up = min(WARM_UP_SHARE * seconds, MOST_WARM_UP_SECONDS)
    record = asyncio.run(run(seconds))
    verdict = judge(record, warm_up)
    rows = make_rows(record, verdict, warm_up)
    _say("\n" + render(write("soak", TITLE, rows) if verdict.is_long else gather(TITLE, rows)))
    for fault in verdict.faults:
        _say(fault)
    length = f"{verdict.seconds / 60:.1f} minutes after {warm_up / 60:.1f} of warm-up"
    _say(f"{'something is wrong' if verdict.faults else 'nothing grows'}: judged over {length}")
    if not verdict.is_long:
        _say(f"too short to tell a MB an hour: memory was only held to {verdict.most_slope:g} MiB/h")
    return 1 if verdict.faults else 0


async def run(seconds: float) -> Record:
    """Let visitors come for so long, look at the programs meanwhile, and end them."""
    record = Record(seconds)
    variables = {
        "IDEFICS2_STORE_KEEP_SECONDS": str(KEEP_SECONDS),
        "IDEFICS2_FILE_KEEP_SECONDS": str(KEEP_SECONDS),
        "IDEFICS2_FILE_KEEP_UNFINISHED_SECONDS": str(KEEP_SECONDS),
        # So small that they are full before anything is judged.
        "IDEFICS2_MODEL_MAX_IMAGE_CACHE_BYTES": str(CACHE_BYTES),
        "IDEFICS2_MODEL_MAX_PREFIX_CACHE_BYTES": str(CACHE_BYTES),
    }
    with tempfile.TemporaryDirectory(prefix="idefics2-soak-") as name:
        folder = Path(name)
        with running_service(folder, **variables) as service:
            started = Started(service, await asyncio.to_thread(service.wait_until_ready))
            async with Visitors(started.ready) as visitors:
                await _look_at_all(visitors, Sampler(started, folder, KEEP_SECONDS), record)
            began = time.monotonic()
            record.status = await asyncio.to_thread(service.stop, signal.SIGTERM)
            record.end_seconds = time.monotonic() - began
            record.num_left = len(service.leftovers())
    return record


async def _look_at_all(visitors: Visitors, sampler: Sampler, record: Record) -> None:
    """Look before, while and after visitors come."""
    try:
        await visitors.crowd()
        await visitors.come(RATE, NUM_KINDS / RATE)
        before = await _look_when_quiet(sampler)
        num_before, began = len(visitors.visits), time.monotonic()
        coming = asyncio.create_task(visitors.come(RATE, record.seconds))
        while not coming.done():
            record.samples.append(await asyncio.to_thread(sampler.look, time.monotonic() - began))
            _tell(record.samples)
            await asyncio.wait((coming,), timeout=LOOK_SECONDS)
        await coming
        record.visits = [visit._replace(at=visit.at - began) for visit in visitors.visits[num_before:]]
        record.problems = dict(visitors.problems)
        record.quiet = [before, await _look_when_quiet(sampler, before)]
    finally:
        sampler.close()


def _tell(samples: Sequence[Sample]) -> None:
    """Say every so often what each program holds: whoever waits for an hour wants to see where it goes."""
    *before, last = samples
    if before and last.at // TELL_SECONDS > before[-1].at // TELL_SECONDS:
        held = ", ".join(f"{role} {use.memory:.2f}" for role, use in last.roles.items())
        _say(f"after {last.at / 60:.0f} min, MiB: {held}")


async def _look_when_quiet(sampler: Sampler, before: Sample | None = None) -> Sample:
    """Look once nothing is left of calls, what is cancelled ends late; or once that has taken too long.

    As long as there is nothing `before` to compare with: once nothing changes.
    """
    deadline = time.monotonic() + MOST_QUIET_SECONDS
    while True:
        earlier = await asyncio.to_thread(sampler.look, 0.0) if before is None else before
        await asyncio.sleep(QUIET_SECONDS)
        sample = await asyncio.to_thread(sampler.look, 0.0)
        if not list(find_left(earlier, sample)) or time.monotonic() > deadline:
            return sample


def make_rows(soak: Record, verdict: Verdict, warm_up: float) -> tuple[Row, ...]:
    """Write the figures."""
    load = f"up to {RATE:g} visitors a second"
    roles = verdict.slopes
    return (
        _row(
            f"{load}: time that is judged, after {warm_up / 60:.1f} min of warm-up",
            verdict.seconds / 60,
            "min",
        ),
        _row(f"{load}: visits", len(soak.visits), "visits"),
        _row(f"{load}: visits that went wrong", sum(soak.problems.values()), "visits", Goal(below=1)),
        *(row for role, slope in roles.items() for row in _make_memory_rows(role, slope, soak, verdict)),
        *(_make_level_row(what, level, verdict) for what, level in verdict.levels.items()),
        *(_make_time_row(kind, level, verdict) for kind, level in verdict.times.items()),
        _make_quiet_row(soak),
        _row("SIGTERM, until all processes are gone", soak.end_seconds, "s", Goal(below=MOST_END_SECONDS)),
        _row("left afterwards: files, shared memory", soak.num_left, "of them", Goal(below=1)),
    )


def _make_memory_rows(role: str, slope: Slope, soak: Record, verdict: Verdict) -> tuple[Row, ...]:
    last = next(sample.roles[role].memory for sample in reversed(soak.samples) if role in sample.roles)
    spread = f"95 %: {slope.low:.1f} to {slope.high:.1f}"
    goal = Goal(below=verdict.most_slope) if verdict.is_long else NO_GOAL
    return (
        _row(f"memory of {role}, at the end", last, "MiB"),
        _row(f"memory of {role}, slope ({spread})", slope.value, "MiB/h", goal),
    )


def _make_level_row(what: str, level: Level, verdict: Verdict) -> Row:
    row = make_row(f"{what}: last third, beside the first", level.last, "of them", peer=level.first or None)
    return _add_goal(row, f"<= {level.first + level.slack:g}", level, verdict)


def _make_time_row(kind: str, level: Level, verdict: Verdict) -> Row:
    first, last = 1000 * level.first, 1000 * level.last
    row = make_row(f"`{kind}`, p50: last third, beside the first", last, "ms", peer=first)
    return _add_goal(row, f"<= {1000 * (level.first + level.slack):.0f}", level, verdict)


def _add_goal(row: Row, goal: str, level: Level, verdict: Verdict) -> Row:
    """Say what is flat, where that is judged."""
    if not verdict.is_long:
        return replace(row, command=COMMAND)
    return replace(row, goal=goal, goal_met=not level.is_rising, command=COMMAND)


def _make_quiet_row(soak: Record) -> Row:
    first, last = (sample.counts[TASKS] for sample in soak.quiet)
    row = make_row("asyncio tasks when it is quiet again, beside before", last, "of them", peer=first)
    return replace(row, command=COMMAND)


def _row(name: str, value: float, unit: str, goal: Goal = NO_GOAL) -> Row:
    return replace(make_row(name, value, unit, goal=goal), command=COMMAND)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a command prints


if __name__ == "__main__":
    sys.exit(main())

"""Everything at once for long, in search of what grows: `make soak`, or `MINUTES=3 make soak`.

The whole service with its embedded Triton and checkpoint runs as a process, as its users start it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import NO_GOAL, Goal, Row, make_row, write
from bench.tables import render
from load.soak.judge import judge
from load.soak.samples import Sampler
from load.soak.visitors import KEEP_SECONDS, NUM_KINDS, Visitors
from processes import Started, running_service

if TYPE_CHECKING:
    from load.soak.judge import Level, Slope, Verdict
    from load.soak.samples import Sample

TITLE = "What grows under a mixed load"
COMMAND = "make soak"
RATE = 3.0
"""Visitors a second: what two cores answer without a growing line."""
WARM_UP_SHARE, MOST_WARM_UP_SECONDS = 1 / 3, 900.0
LOOK_SECONDS, QUIET_SECONDS = 5.0, 10.0
CACHE_BYTES = 2**20
MOST_END_SECONDS = 60.0


@dataclass
class Soak:
    """What was seen of one."""

    samples: list[Sample] = field(default_factory=list)
    quiet: list[Sample] = field(default_factory=list)
    """Before and after all of them."""
    num_visits: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    end_seconds: float = 0.0
    status: int = 0
    num_left: int = 0
    """Files and regions of shared memory that are still there after the end."""


def main() -> int:
    """Run it, keep the figures, show them; 1 where something grows."""
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    seconds = 60 * parser.parse_args().minutes
    warm_up = min(WARM_UP_SHARE * seconds, MOST_WARM_UP_SECONDS)
    soak = asyncio.run(run(seconds))
    before, after = soak.quiet
    verdict = judge(soak.samples, (before, after), warm_up, _find_problems(soak))
    _say("\n" + render(write("soak", TITLE, make_rows(soak, verdict, warm_up))))
    for fault in verdict.faults:
        _say(fault)
    length = f"{verdict.seconds / 60:.1f} minutes after {warm_up / 60:.1f} of warm-up"
    _say(f"{'something is wrong' if verdict.faults else 'nothing grows'}: judged over {length}")
    if not verdict.is_long:
        _say(f"too short to tell a MB an hour: memory was only held to {verdict.most_slope:g} MiB/h")
    return 1 if verdict.faults else 0


async def run(seconds: float) -> Soak:
    """Let visitors come for so long, look at the programs meanwhile, and end them."""
    soak = Soak()
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
                await _look_at_all(visitors, Sampler(started, folder), soak, seconds)
            soak.num_visits, soak.problems = visitors.num_done, visitors.problems
            began = time.monotonic()
            soak.status = await asyncio.to_thread(service.stop, signal.SIGTERM)
            soak.end_seconds = time.monotonic() - began
            soak.num_left = len(service.leftovers())
    return soak


async def _look_at_all(visitors: Visitors, sampler: Sampler, soak: Soak, seconds: float) -> None:
    """Look before, while and after visitors come."""
    try:
        await visitors.come(RATE, NUM_KINDS / RATE)
        soak.quiet.append(await _look_when_quiet(sampler, QUIET_SECONDS))
        began, coming = time.monotonic(), asyncio.create_task(visitors.come(RATE, seconds))
        while not coming.done():
            soak.samples.append(await asyncio.to_thread(sampler.look, time.monotonic() - began))
            await asyncio.wait((coming,), timeout=LOOK_SECONDS)
        await coming
        soak.quiet.append(await _look_when_quiet(sampler, QUIET_SECONDS))
    finally:
        sampler.close()


async def _look_when_quiet(sampler: Sampler, seconds: float) -> Sample:
    """Look once all that was cancelled has been given time to end."""
    await asyncio.sleep(seconds)
    return await asyncio.to_thread(sampler.look, 0.0)


def _find_problems(soak: Soak) -> dict[str, int]:
    """Count what should not have been, by what it was."""
    problems = dict(soak.problems)
    if soak.status:
        problems[f"the end with status {soak.status}"] = 1
    if soak.num_left:
        problems["something left after the end"] = soak.num_left
    if soak.end_seconds > MOST_END_SECONDS:
        problems[f"an end that took {soak.end_seconds:.0f} s"] = 1
    return problems


def make_rows(soak: Soak, verdict: Verdict, warm_up: float) -> tuple[Row, ...]:
    """Write the figures."""
    load = f"{RATE:g} visitors a second"
    roles = verdict.slopes
    return (
        _row(
            f"{load}: time that is judged, after {warm_up / 60:.1f} min of warm-up",
            verdict.seconds / 60,
            "min",
        ),
        _row(f"{load}: visits", soak.num_visits, "visits"),
        _row(f"{load}: visits that went wrong", sum(soak.problems.values()), "visits", Goal(below=1)),
        *(row for role, slope in roles.items() for row in _make_memory_rows(role, slope, soak, verdict)),
        *(_make_level_row(what, level) for what, level in verdict.levels.items()),
        _make_quiet_row(soak),
        _row("SIGTERM, until all processes are gone", soak.end_seconds, "s", Goal(below=MOST_END_SECONDS)),
        _row("left afterwards: files, shared memory", soak.num_left, "of them", Goal(below=1)),
    )


def _make_memory_rows(role: str, slope: Slope, soak: Soak, verdict: Verdict) -> tuple[Row, ...]:
    last = next(sample.roles[role].memory for sample in reversed(soak.samples) if role in sample.roles)
    spread = f"95 %: {slope.low:.1f} to {slope.high:.1f}"
    goal = Goal(below=verdict.most_slope) if verdict.is_long else NO_GOAL
    return (
        _row(f"memory of {role}, at the end", last, "MiB"),
        _row(f"memory of {role}, slope ({spread})", slope.value, "MiB/h", goal),
    )


def _make_level_row(what: str, level: Level) -> Row:
    row = make_row(f"{what}: last third, beside the first", level.last, "of them", peer=level.first)
    most = level.first + level.slack
    return replace(row, goal=f"<= {most:g}", goal_met=level.last <= most, command=COMMAND)


def _make_quiet_row(soak: Soak) -> Row:
    first, last = (sample.counts["asyncio tasks"] for sample in soak.quiet)
    row = make_row("asyncio tasks when it is quiet again, beside before", last, "of them", peer=first)
    return replace(row, command=COMMAND)


def _row(name: str, value: float, unit: str, goal: Goal = NO_GOAL) -> Row:
    return replace(make_row(name, value, unit, goal=goal), command=COMMAND)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a command prints


if __name__ == "__main__":
    sys.exit(main())

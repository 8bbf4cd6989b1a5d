"""What it costs that requests wait: the stores with up to 100,000 of them, and a front that is watched.

Calls are timed one at a time, on a store that does nothing else: `make bench-queue`. Each engine keeps what
it acknowledges, as in production, so the disk has its share; what a bare write to it takes stands beside.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import statistics
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import uvloop
from bench.backlog import PAYLOAD, Backlog, count_appends, time_appends, time_calls, time_starts
from bench.results import NO_GOAL, Goal, Row, make_row, write
from bench.stopwatch import percentile, time_disk
from bench.stores import ENGINES, prepare_place
from bench.tables import render
from bench.watchers import NUM_RUNNING, NUM_WATCHERS, watch_many
from idefics2_service import logs
from idefics2_service.settings import LogSettings
from store.submissions import claim

if TYPE_CHECKING:
    from bench.stopwatch import Stopwatch
    from bench.stores import Place
    from bench.watchers import Watched
    from idefics2_service.store.interface import RequestStore

TITLE = "What it costs that requests wait"
COMMAND = "make bench-queue"
SIZES = (100, 1_000, 10_000, 100_000)
RESTARTED_SIZE = 10_000
NUM_RUNS = 3
NUM_CALLS = 400
NUM_STARTS = 5
NUM_APPENDS = 1_000
NUM_APPENDS_EACH = 100
NEEDED_APPENDS = NUM_RUNNING * 4
"""A second: a run writes its text four times in one."""
CALLS = {"submit": Goal(below=10), "claim": Goal(below=10), "get": Goal(below=3), "list_page": NO_GOAL}
"""Milliseconds that each may take, 99 times of 100."""
FLAT = Goal(most_ratio=2)
"""Of the median: what is rare comes from the disk and from the machine, however many wait."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one engine."""

    calls: dict[int, list[Stopwatch]]
    """By how many waited; one of each run."""
    starts: list[float]
    """Seconds."""
    appends: list[float]
    """Milliseconds."""
    append_rates: list[float]
    """Appends a second."""

    def find(self, size: int, call: str, percent: int) -> float:
        """Return the milliseconds of a call with so many waiting: the median of the runs."""
        return statistics.median(percentile(run.milliseconds[call], percent) for run in self.calls[size])


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = [*measure_disk(), *(row for engine in ENGINES for row in measure(engine))]
    print("\n" + render(write("queue", TITLE, tuple(replace(row, command=COMMAND) for row in rows))))
    return 0


def measure_disk() -> list[Row]:
    """Write as much as a submission has, as safely, and nothing else."""
    name = f"a bare write of {len(PAYLOAD):,} bytes to this disk"
    return make_spread(name, time_disk(PAYLOAD, NUM_RUNS * NUM_CALLS))


def measure(engine: str) -> list[Row]:
    """Measure one engine, and a front over it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        with prepare_place(engine) as place:
            measured = runner.run(measure_store(place))
        with prepare_place(engine) as place:
            watched = runner.run(watch_many(place))
    name = ENGINES[engine]
    return [
        *make_call_rows(name, measured),
        *make_work_rows(name, measured),
        *make_watch_rows(name, watched),
    ]


async def measure_store(place: Place) -> Measured:
    """Let more and more wait; then begin some of them."""
    backlog, calls, starts = Backlog(), {}, []
    for size in SIZES:
        async with place.open_store() as store:
            await backlog.fill(store, size)
            place.wait_until_quiet()
            calls[size] = [await time_calls(store, backlog, NUM_CALLS) for _ in range(NUM_RUNS)]
        print(f"{size:,} queued: measured", flush=True)
        if size == RESTARTED_SIZE:
            starts = await time_starts(place, backlog.choose(0), NUM_STARTS)
    async with place.open_store() as store:
        return Measured(calls, starts, *await measure_work(store))


async def measure_work(store: RequestStore) -> tuple[list[float], list[float]]:
    """Return what appends take one at a time, and how many a second all workers make together."""
    appends = await time_appends(store, await claim(store), NUM_APPENDS)
    rates = []
    for _ in range(NUM_RUNS):
        claims = [await claim(store) for _ in range(NUM_RUNNING)]
        rates.append(await count_appends(store, claims, NUM_APPENDS_EACH))
    return appends, rates


def make_call_rows(engine: str, measured: Measured) -> list[Row]:
    """Make rows of each call with each number that waits, and of whether this number tells."""
    rows = []
    for size, (call, goal) in itertools.product(SIZES, CALLS.items()):
        name = f"{engine}, {size:,} queued: {call}"
        rows.append(make_row(f"{name}, p50", measured.find(size, call, 50), "ms"))
        rows.append(make_row(f"{name}, p99", measured.find(size, call, 99), "ms", goal=goal))
    few, many = SIZES[0], SIZES[-1]
    for call in ("submit", "claim"):
        value, peer = measured.find(many, call, 50), measured.find(few, call, 50)
        name = f"{engine}, {many:,} queued beside {few:,}: {call}, p50"
        rows.append(make_row(name, value, "ms", peer=peer, goal=FLAT))
    return rows


def make_work_rows(engine: str, measured: Measured) -> list[Row]:
    """Make rows of what workers write, and of the start."""
    append = f"{engine}, {SIZES[-1]:,} queued: append"
    rate = f"{append}, by {NUM_RUNNING} requests that run"
    start = f"{engine}, {RESTARTED_SIZE:,} queued: from the store's start to its first answer"
    return [
        *make_spread(append, measured.appends),
        make_row(rate, statistics.median(measured.append_rates), "1/s", goal=Goal(above=NEEDED_APPENDS)),
        make_row(start, statistics.median(measured.starts), "s", goal=Goal(below=2)),
    ]


def make_watch_rows(engine: str, watched: Watched) -> list[Row]:
    """Make rows of a front's watchers."""
    name = f"{engine}, {NUM_WATCHERS:,} watchers of one front"
    late = f"{name}, {NUM_RUNNING} of their requests run: from an event to its arrival"
    memory = make_row(f"{name}: memory of each", watched.bytes_each / 1024, "KiB")
    return [memory, *make_spread(late, watched.milliseconds)]


def make_spread(name: str, milliseconds: list[float]) -> list[Row]:
    """Make rows of what is usual and of what is rare."""
    return [make_row(f"{name}, p{percent}", percentile(milliseconds, percent), "ms") for percent in (50, 99)]


if __name__ == "__main__":
    sys.exit(main())

"""Too much: more calls than the model can answer, one key beside a heavy one, callers who do not read, and
requests that are cancelled.

The fronts are processes of their own, over a model that keeps a steady pace; what is cancelled runs on the
real engine: `make bench-overload`, or `make bench-overload PART=neighbours` to try one part and keep nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import statistics
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import uvloop
from bench import http_readers, readers
from bench.cancels import NUM_CANCELS, measure_cancels
from bench.floods import CAPACITY, FLOOD_SECONDS, MAX_WAITING, RATE, measure_flood
from bench.neighbours import LONG_SECONDS, NUM_CALLS, NUM_HEAVY, measure_neighbours
from bench.results import Goal, Row, gather, make_row, write
from bench.stopwatch import percentile
from bench.tables import render
from idefics2_service import logs
from idefics2_service.settings import LogSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from bench.cancels import Cancels
    from bench.floods import Flood
    from bench.neighbours import Calls
    from bench.readers import Prepare, Stalled


TITLE = "Too much to do, nobody who reads, and cancelled requests"
COMMAND = "make bench-overload"
MB = 1e6
KINDS = {
    "GenerateStream": readers.stream,
    "WatchRequest": readers.watch,
    "DownloadFile": readers.download,
}
HTTP_KINDS: dict[str, Prepare] = {
    "/stream": http_readers.stream,
    "/status/stream": http_readers.follow,
    "/cdn/files": http_readers.download,
}


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, help="try this one alone, and keep nothing")
    only = parser.parse_args().part
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    gc.freeze()  # what we imported is not what is measured
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        parts = [PARTS[only]] if only else PARTS.values()
        rows = tuple(replace(row, command=COMMAND) for part in parts for row in runner.run(part()))
    print("\n" + render(gather(TITLE, rows) if only else write("overload", TITLE, rows)))
    return 0


async def try_floods() -> list[Row]:
    """Measure ten times too many calls."""
    return make_flood_rows(await measure_flood())


async def try_neighbours() -> list[Row]:
    """Measure a light key beside a heavy one."""
    return make_neighbour_rows(*await measure_neighbours())


async def try_readers() -> list[Row]:
    """Measure callers who do not read."""
    return await measure_kinds({kind: readers.over_grpc(prepare) for kind, prepare in KINDS.items()})


async def try_http_readers() -> list[Row]:
    """Measure callers over HTTP who do not read."""
    return await measure_kinds(HTTP_KINDS)


async def measure_kinds(kinds: dict[str, Prepare]) -> list[Row]:
    """Measure one kind of readers after the other."""
    stalled = {kind: await readers.measure_readers(prepare) for kind, prepare in kinds.items()}
    return [row for kind in stalled for row in make_reader_rows(kind, stalled[kind])]


async def try_cancels() -> list[Row]:
    """Measure requests that are cancelled."""
    return make_cancel_rows(await measure_cancels())


PARTS: dict[str, Callable[[], Coroutine[None, None, list[Row]]]] = {
    "floods": try_floods,
    "neighbours": try_neighbours,
    "readers": try_readers,
    "http_readers": try_http_readers,
    "cancels": try_cancels,
}


def make_flood_rows(flood: Flood) -> list[Row]:
    """Make rows of ten times too many calls."""
    print(
        f"outcomes: {dict(flood.outcomes)}; CPU of the front: {flood.num_cpu_seconds:.2f} s a second",
        flush=True,
    )
    name = f"{RATE:g} calls a second for {FLOOD_SECONDS:g} s, where {CAPACITY:g} can be answered"
    refusals = [1000 * seconds for seconds in flood.refusal_seconds]
    answered, refused = flood.outcomes["OK"], flood.outcomes["QUEUE_FULL"]
    others = sum(flood.outcomes.values()) - answered - refused
    return [
        make_row(f"{name}: answered", answered, "calls"),
        make_row(f"{name}: refused", refused, "calls"),
        make_row(f"{name}: neither, or refused without details", others, "calls", goal=Goal(below=1)),
        make_row(f"{name}: deepest line", flood.deepest, "requests", goal=Goal(below=MAX_WAITING // 2 + 1)),
        make_row(f"{name}: refusal, p50", percentile(refusals, 50), "ms"),
        make_row(f"{name}: refusal, p99", percentile(refusals, 99), "ms", goal=Goal(below=20)),
        make_row(f"{name}: memory on top", flood.memory_bytes / MB, "MB", goal=Goal(below=50)),
        make_row(
            f"{name}: afterwards, until an answer is normal", flood.calm_seconds, "s", goal=Goal(below=5)
        ),
    ]


def make_neighbour_rows(alone: Calls, beside: Calls) -> list[Row]:
    """Make rows of a light key beside a heavy one."""
    name = f"a key's short calls beside another's {NUM_HEAVY} at a time for answers of {LONG_SECONDS:g} s"
    alone_milliseconds, milliseconds = (1000 * statistics.median(c.seconds) for c in (alone, beside))
    return [
        make_row(f"{name}: p50, beside it alone", milliseconds, "ms", peer=alone_milliseconds),
        make_row(f"{name}: wait for a turn, p50", statistics.median(beside.waits), "s", goal=Goal(below=1)),
        make_row(
            f"{name}: wait for a turn, longest of {NUM_CALLS}",
            max(beside.waits),
            "s",
            goal=Goal(below=LONG_SECONDS),
        ),
    ]


def make_reader_rows(kind: str, stalled: Stalled) -> list[Row]:
    """Make rows of callers who do not read."""
    name = f"{readers.NUM_READERS} callers of {kind} who do not read"
    least, most = readers.STALL_SECONDS, readers.STALL_SECONDS + 5
    alone, beside = stalled.alone_milliseconds, stalled.beside_milliseconds
    return [
        make_row(f"{name}: memory on top", stalled.memory_bytes / MB, "MB", goal=Goal(below=50)),
        make_row(
            f"{name}: a call of others, p99, beside them alone",
            beside,
            "ms",
            peer=alone,
            goal=Goal(most_ratio=1.2),
        ),
        make_row(
            f"{name}: all given up, of those {least:g} s are theirs",
            stalled.drop_seconds,
            "s",
            goal=Goal(below=most),
        ),
    ]


def make_cancel_rows(cancels: Cancels) -> list[Row]:
    """Make rows of requests that are cancelled."""
    worst, next_begins = f"(worst of {NUM_CANCELS})", "the engine begins the next one"
    stages = (
        (cancels.resolving, "in RESOLVING: the host hears", Goal(below=50)),
        (
            cancels.reading,
            f"in that PREFILL: {next_begins}",
            Goal(below=round(100 + max(cancels.prefill), 1)),
        ),
        (cancels.decode, f"in DECODE: {next_begins}", Goal(below=round(100 + cancels.step, 1))),
    )
    return [
        make_row("a step of the engine, with one sequence (mean)", cancels.step, "ms"),
        make_row("a prefill of eight pictures", max(cancels.prefill), "ms"),
        *(
            make_row(f"{way} {what} {worst}", max(milliseconds), "ms", goal=goal)
            for times, what, goal in stages
            for way, milliseconds in times.items()
        ),
        make_row(
            f"cancelled in QUEUED, in the line or the engine: begun, of {cancels.num_waited}",
            cancels.num_begun,
            "requests",
            goal=Goal(below=1),
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())

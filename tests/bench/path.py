"""How long a caller waits, through the whole path and beside a direct call of Triton: `make bench`.

The service's start is timed as an operator sees it. For the calls, a Triton and a front run as two
processes, as in production; both ways of calling end at that one Triton, in turns, so that what drifts
drifts for both.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
import time
from dataclasses import dataclass

import grpc
from bench.calls import FrontCalls, TritonCalls, resolve_request
from bench.programs import run_service, run_triton
from bench.results import Goal, Row, make_row, write
from bench.tables import render
from idefics2_service import logs
from idefics2_service.settings import LogSettings

TITLE = "How long a caller waits"
NUM_STARTS = 3
NUM_WARM_UPS = 20
NUM_STREAMS = 100
NUM_PAIRS = 250
MAX_CALLS_SECONDS = 75.0

Pair = tuple[float, float]
"""Milliseconds of one answer: through the front, and directly."""


@dataclass(frozen=True)
class Calls:
    """What was measured of calls, in milliseconds, one item for each answer."""

    first_token: list[float]
    """From the call to the first text delta."""
    token: list[float]
    """From the first text delta to the last, by the tokens between them."""
    pairs: list[Pair]


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    starts = asyncio.run(measure_starts())
    calls = asyncio.run(measure_calls())
    print("\n" + render(write("path", TITLE, make_rows(starts, calls))))
    return 0


async def measure_starts() -> list[float]:
    """Start the service again and again; return seconds of all starts but the first, which fills caches."""
    starts = []
    for number in range(NUM_STARTS + 1):
        async with run_service() as started:
            starts.append(time.perf_counter() - started.service.start_time)
        print(f"start {number + 1}: {starts[-1]:.2f} s", flush=True)
    return starts[1:]


async def measure_calls() -> Calls:
    """Ask one question many times, never two at a time."""
    async with (
        asyncio.timeout(MAX_CALLS_SECONDS),
        run_triton() as url,
        run_service("--triton-url", url) as started,
        grpc.aio.insecure_channel(started.ready.grpc) as front_channel,
        grpc.aio.insecure_channel(url) as triton_channel,
    ):
        front = FrontCalls(front_channel, started.ready.api_key)
        triton = TritonCalls(triton_channel, await resolve_request())
        await measure_pairs(front, triton, NUM_WARM_UPS)
        first_token, token = await measure_streams(front)
        return Calls(first_token, token, await measure_pairs(front, triton, NUM_PAIRS))


async def measure_streams(front: FrontCalls) -> tuple[list[float], list[float]]:
    """Return milliseconds to the first text delta and for each token after it, of NUM_STREAMS answers."""
    firsts, tokens = [], []
    for _ in range(NUM_STREAMS):
        # By the whole answer: single gaps lie, where two deltas came as one message.
        (first, num_first), *_, (last, num_last) = await front.stream()
        firsts.append(first * 1000)
        tokens.append((last - first) * 1000 / (num_last - num_first))
    return firsts, tokens


async def measure_pairs(front: FrontCalls, triton: TritonCalls, count: int) -> list[Pair]:
    """Return `count` pairs; who comes first changes, for the second may meet what the first left to do."""
    pairs: list[Pair] = []
    for number in range(count):
        if number % 2:
            direct, through = await triton.answer(), await front.answer()
        else:
            through, direct = await front.answer(), await triton.answer()
        pairs.append((through * 1000, direct * 1000))
    return pairs


def make_rows(starts: list[float], calls: Calls) -> tuple[Row, ...]:
    """Make medians of what was measured."""
    front = summarize("whole answer through the front", [front for front, _ in calls.pairs])
    direct = summarize("whole answer, direct call", [direct for _, direct in calls.pairs])
    first_token = summarize("time to the first token", calls.first_token)
    token = summarize("each token after it", calls.token)
    added = summarize("the front adds", [front - direct for front, direct in calls.pairs])
    return (
        make_row("second start of `serve`", statistics.median(starts), "s", goal=Goal(below=20)),
        make_row("time to the first token", first_token, "ms", goal=Goal(below=150)),
        make_row("each token after it", token, "ms"),
        make_row("whole answer, beside a direct call of Triton", front, "ms", peer=direct),
        make_row("what the front adds to a direct call of Triton", added, "ms", goal=Goal(below=5)),
    )


def summarize(name: str, samples: list[float]) -> float:
    """Print the spread of milliseconds and return their median."""
    low, *_, high = statistics.quantiles(samples, n=10)
    median = statistics.median(samples)
    print(f"{name}: median {median:.2f} ms, p10 {low:.2f}, p90 {high:.2f}, of {len(samples)}")
    return median


if __name__ == "__main__":
    sys.exit(main())

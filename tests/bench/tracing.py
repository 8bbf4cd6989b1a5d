"""What traces cost, kept and not: `make bench-tracing`.

Two fronts stand before one Triton, one of them with all its traces kept, and are asked in turns, so that what
drifts drifts for both. Spans go to a server of ours that takes them and looks at none.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc
import psutil
from bench.calls import FrontCalls
from bench.load import NUM_STREAMS, NUM_TOKENS, read
from bench.programs import run_service, run_triton
from bench.results import Goal, Row, make_row, write
from bench.tables import render
from bench.workloads import ask_alike, draw_pictures
from idefics2.v1 import generation_pb2_grpc
from idefics2_service import logs
from idefics2_service.requests import Stage
from idefics2_service.settings import LogSettings
from idefics2_service.tracing.spans import NO_TRACER, Kind, current_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2_engine.requests import Request
    from processes import Started

TITLE = "What traces cost"
COMMAND = "make bench-tracing"
NUM_WARM_UPS = 20
NUM_PAIRS = 300
NUM_RUNS = 5
NUM_TRIES = 20_000
_CHANNEL_OPTIONS = (("grpc.max_receive_message_length", -1),)


@dataclass
class Side:
    """A front, and what was measured of it."""

    calls: FrontCalls
    channel: grpc.aio.Channel
    started: Started
    answers: list[float] = field(default_factory=list)
    """Milliseconds of each."""
    rates: list[float] = field(default_factory=list)
    """Tokens a second, of each run under load."""
    load: float = 0.0
    """The front's processor seconds under load."""

    def count_seconds(self) -> float:
        """Count the processor's seconds that the front has taken so far."""
        times = psutil.Process(self.started.service.process.pid).cpu_times()
        return float(times.user + times.system)


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plain, traced, num_sent = asyncio.run(measure())
    rows = make_rows(plain, traced, num_sent)
    print("\n" + render(write("tracing", TITLE, tuple(replace(row, command=COMMAND) for row in rows))))
    return 0


async def measure() -> tuple[Side, Side, int]:
    """Ask both fronts in turns; return both, and how many bytes of spans came."""
    async with (
        run_collector() as (url, sizes),
        run_triton() as triton,
        run_side("--triton-url", triton) as plain,
        run_side("--triton-url", triton, IDEFICS2_TRACE_ENDPOINT=url) as traced,
    ):
        await measure_answers(plain, traced, NUM_WARM_UPS)
        plain.answers, traced.answers = [], []
        await measure_answers(plain, traced, NUM_PAIRS)
        load = ask_alike(draw_pictures(NUM_STREAMS), NUM_TOKENS)
        for run in range(2 * NUM_RUNS + 2):
            await measure_load((plain, traced)[run % 2], load, run, is_kept=run >= 2)  # one each
        await asyncio.to_thread(traced.started.service.stop)  # at its end it sends what it has left
        return plain, traced, sum(sizes)


@asynccontextmanager
async def run_collector() -> AsyncIterator[tuple[str, list[int]]]:
    """Take spans as bytes: to read them would cost us. Yield where, and the size of each batch."""
    sizes: list[int] = []

    async def take(batch: bytes, _: object) -> bytes:
        sizes.append(len(batch))
        return b""

    server = grpc.aio.server()
    handlers = {"Export": grpc.unary_unary_rpc_method_handler(take)}
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}", sizes
    finally:
        await server.stop(0)


@asynccontextmanager
async def run_side(*options: str, **variables: str) -> AsyncIterator[Side]:
    """Run a front, and connect to it."""
    async with (
        run_service(*options, **variables) as started,
        grpc.aio.insecure_channel(started.ready.grpc, options=_CHANNEL_OPTIONS) as channel,
    ):
        yield Side(FrontCalls(channel, started.ready.api_key), channel, started)


async def measure_answers(plain: Side, traced: Side, count: int) -> None:
    """Ask both the same, never two at a time; who comes first changes."""
    for number in range(count):
        for side in (plain, traced) if number % 2 else (traced, plain):
            side.answers.append(1000 * await side.calls.answer())


async def measure_load(side: Side, load: list[Request], run: int, *, is_kept: bool) -> None:
    """Read many streams at a time, all of them new to the model."""
    stub: Any = generation_pb2_grpc.GenerationServiceStub(side.channel)
    metadata = (("authorization", f"Key {side.started.ready.api_key}"),)
    worked, begun = side.count_seconds(), time.perf_counter()
    await asyncio.gather(*(read(stub, metadata, request, run) for request in load))
    if is_kept:
        side.rates.append(len(load) * NUM_TOKENS / (time.perf_counter() - begun))
        side.load += side.count_seconds() - worked


def measure_nothing() -> float:
    """Return the seconds that a request spends on spans where nobody collects."""
    started = time.perf_counter()
    for _ in range(NUM_TRIES):
        with NO_TRACER.begin("call", Kind.SERVER, {}, {"a": 1}), current_span().begin("run") as run:
            for stage in Stage:
                run.begin(stage.value).end()
            with run.begin("triton", Kind.CLIENT) as triton:
                triton.add_ended([(stage.value, 0.1) for stage in Stage])
            run.describe({"b": 2})
    return (time.perf_counter() - started) / NUM_TRIES


def make_rows(plain: Side, traced: Side, num_sent: int) -> list[Row]:
    """Make medians of what was measured."""
    answer = statistics.median(plain.answers)
    name = f"{NUM_STREAMS} streams of {NUM_TOKENS} tokens"
    num_answers = NUM_PAIRS + NUM_WARM_UPS + NUM_STREAMS * (NUM_RUNS + 1)
    num_streams = NUM_STREAMS * NUM_RUNS
    return [
        make_row("spans of a request where nobody collects, beside a whole answer", 1000 * measure_nothing(),
                 "ms", peer=answer, goal=Goal(most_ratio=0.001)),
        make_row("whole answer with its trace kept, beside one without", statistics.median(traced.answers),
                 "ms", peer=answer, goal=Goal(most_ratio=1.03)),
        make_row(f"{name} with their traces kept, beside those without", statistics.median(traced.rates),
                 "tokens/s", peer=statistics.median(plain.rates), goal=Goal(least_ratio=0.97)),
        make_row("the front's processor time for such a stream, kept, beside one without",
                 1000 * traced.load / num_streams, "ms", peer=1000 * plain.load / num_streams),
        make_row("what is sent of a trace", num_sent / num_answers / 1000, "kB"),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

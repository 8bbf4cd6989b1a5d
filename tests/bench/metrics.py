"""What metrics cost: a scrape, a request's and a step's figures, and showing them: `make bench-metrics`."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import psutil
from bench.engine import make_engine, time_steps
from bench.programs import run_triton
from bench.results import Goal, Row, make_row, write
from bench.tables import render
from bench.transport import MODEL, TALKING, ask
from fakes.backend import FakeBackend
from fakes.script import Script
from idefics2_engine.meters import Meters, StepMeter
from idefics2_engine.scheduler import Plan
from idefics2_service import errors, logs, outcomes
from idefics2_service.app import App
from idefics2_service.events import Finished
from idefics2_service.metrics import Metrics
from idefics2_service.requests import FinishReason, GenerateOutput, RequestName, Usage
from idefics2_service.settings import LogSettings, Settings
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TITLE = "What metrics cost"
COMMAND = "make bench-metrics"
NUM_KEYS = 100
NUM_SCRAPES = 50
NUM_SEQUENCES = 64
NUM_TRIES = 20_000
NUM_RUNS, NUM_PAIRS = 5, 8
MAX_SHOWING_SECONDS = 150.0
"""Three times what it takes on a quiet machine."""
STAGES = dict.fromkeys(("resolving", "queued", "prefill", "decode", "preprocessing", "vision", "total"), 0.1)
OUTPUT = GenerateOutput("A", FinishReason.END_OF_TURN, Usage(49, 38, 10), STAGES, "bench", 0)


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = [
        *asyncio.run(measure_scrape()),
        measure_request(),
        measure_step(),
        *asyncio.run(measure_showing()),
    ]
    print("\n" + render(write("metrics", TITLE, tuple(replace(row, command=COMMAND) for row in rows))))
    return 0


async def measure_scrape() -> list[Row]:
    """Time scrapes of a front on which all that can happen has happened, for many keys."""
    with tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder:
        settings = Settings.read({}, {"grpc.port": 0, "http.port": 0, "data.folder": folder})
        async with App(settings, FakeBackend(Script())) as app, httpx.AsyncClient() as client:
            fill(app.metrics)
            seconds = [await scrape(client, app.http_address) for _ in range(NUM_SCRAPES)]
            series = sum(not line.startswith(b"#") for line in app.metrics.render().splitlines())
    name = f"a scrape of a front with {NUM_KEYS} keys"
    return [
        make_row(f"{name}, median", statistics.median(seconds) * 1000, "ms", goal=Goal(below=20)),
        make_row(f"{name}, slowest of {NUM_SCRAPES}", max(seconds) * 1000, "ms"),
        make_row(f"series of a front with {NUM_KEYS} keys", series, "series", goal=Goal(below=5_000)),
    ]


def fill(metrics: Metrics) -> None:
    """Let everything happen once: all errors, all keys, all stages, all methods and routes."""
    reasons = [e.reason for e in vars(errors).values() if getattr(e, "reason", "")]
    for number, reason in itertools.product(
        range(2 * NUM_KEYS), ("OK", "REQUEST_CANCELLED", "INTERNAL_ERROR")
    ):
        metrics.record_key(f"key-{number}", reason, OUTPUT.usage)
    for reason in reasons:
        metrics.requests.labels(reason).inc()
        metrics.refused.labels(reason).inc()
    for kind in ("attached", "submitted"):
        metrics.record_output(OUTPUT, kind, 1.0)
    for number, code in itertools.product(range(30), ("OK", "UNAVAILABLE", "CANCELLED")):
        metrics.handled.labels("idefics2.v1.Service", f"Method{number}", code).inc()
        metrics.handling.labels("idefics2.v1.Service", f"Method{number}").observe(1)
        metrics.http_handled.labels("GET", f"/route/{number}", code).inc()
        metrics.http_handling.labels("GET", f"/route/{number}").observe(1)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        metrics.image_bytes.labels(kind).observe(1)


async def scrape(client: httpx.AsyncClient, address: str) -> float:
    """Return the seconds of a whole scrape."""
    started = time.perf_counter()
    answer = await client.get(f"http://{address}/metrics")
    answer.raise_for_status()
    return time.perf_counter() - started


def measure_request() -> Row:
    """Time what the front records of a request, without its line in the log."""
    metrics, end = Metrics(), Finished(OUTPUT)
    names = [RequestName(f"key-{number}", "one") for number in range(NUM_KEYS)]

    def record() -> None:
        for name in names:
            outcomes.record(name, end, 1.0, metrics)

    seconds = time_call(record, NUM_TRIES // NUM_KEYS) / NUM_KEYS
    return make_row("what the front records of a request", seconds * 1e6, "us")


def measure_step() -> Row:
    """Time what the engine records of a step, beside the step."""
    engine = make_engine()
    step = statistics.median(time_steps(engine, NUM_SEQUENCES) for _ in range(NUM_RUNS))
    engine.close()
    meter = StepMeter(Meters())
    everybody: list[Any] = [None] * NUM_SEQUENCES  # only how many counts
    plan = Plan(decoding=everybody)

    def record() -> None:
        begun = time.monotonic()
        meter.begin(plan)
        meter.end(plan, begun)

    seconds = time_call(record, NUM_TRIES)
    name = f"what the engine records of a step of {NUM_SEQUENCES} sequences, beside the step"
    return make_row(name, seconds * 1e6, "us", peer=step * 1e6, goal=Goal(most_ratio=0.01))


def time_call(call: Callable[[], None], times: int) -> float:
    """Return the seconds of one of many calls."""
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


async def measure_showing() -> list[Row]:
    """Compare a Triton that shows an engine's figures, all new each second, with one that does not."""
    async with (
        asyncio.timeout(MAX_SHOWING_SECONDS),
        run_side("all") as showing,
        run_side("nothing") as silent,
    ):
        for number in range(NUM_PAIRS):
            for side in (showing, silent) if number % 2 else (silent, showing):
                await side.measure()
    name = f"a step of 20 ms that tells {NUM_SEQUENCES} streams"
    return [
        make_row(f"{name}, with figures shown, beside one without", 1000 * statistics.median(showing.steps),
                 "ms", peer=1000 * statistics.median(silent.steps), goal=Goal(most_ratio=1.01)),
        make_row("processor time of Triton, its stub and the engine with figures shown, beside without",
                 statistics.median(showing.loads), "s/s", peer=statistics.median(silent.loads)),
    ]  # fmt: skip


class Side:
    """A Triton with the paced engine; both sides run all the time and work in turns."""

    def __init__(self, channel: grpc.aio.Channel, processes: set[psutil.Process]) -> None:
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._processes = processes
        self.steps: list[float] = []
        """Seconds."""
        self.loads: list[float] = []
        """Seconds of processor time a second."""

    async def ask(self) -> float:
        """Read as many streams as there may be at a time; return the seconds of a step."""
        return (await ask(self._stub, NUM_SEQUENCES, TALKING))[0].step_seconds

    async def measure(self) -> None:
        """Ask, and keep what it took."""
        before, started = self._count_seconds(), time.perf_counter()
        self.steps.append(await self.ask())
        self.loads.append((self._count_seconds() - before) / (time.perf_counter() - started))

    def _count_seconds(self) -> float:
        family = [child for process in self._processes for child in process.children(recursive=True)]
        times = [process.cpu_times() for process in (*self._processes, *family)]
        return sum(time.user + time.system for time in times)


@asynccontextmanager
async def run_side(shows: str) -> AsyncIterator[Side]:
    """Run a Triton with the paced engine, which has answered once."""
    before = set(psutil.Process().children())
    with tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder:
        model = Path(folder) / "idefics2"
        (model / "1").mkdir(parents=True)
        shutil.copy(MODEL / "config.pbtxt", model)
        for name in ("model.py", "engine.py"):
            shutil.copy(Path(__file__).parent / "paced" / name, model / "1")
        variables = {"IDEFICS2_BENCH_MODEL": str(MODEL / "1"), "IDEFICS2_BENCH_SHOWS": shows}
        async with run_triton(folder, variables) as url, grpc.aio.insecure_channel(url) as channel:
            side = Side(channel, set(psutil.Process().children()) - before)
            await side.ask()
            yield side


if __name__ == "__main__":
    sys.exit(main())

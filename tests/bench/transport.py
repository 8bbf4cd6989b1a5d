"""What sending costs the engine, through the real Triton to a client that reads: `make bench`.

The engine is one in which a step waits for 20 ms, as for a device; all else is the model's own: its loop, its
outbox, Triton's python backend, and a client on the same cores. In turns, steps tell their tokens or do not.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
from bench.programs import run_triton
from bench.results import NO_GOAL, Goal, Row, make_row, write
from bench.tables import render
from idefics2_service import logs
from idefics2_service.events import TextDelta
from idefics2_service.settings import LogSettings
from idefics2_service.triton import tensors
from idefics2_service.triton.tensors import RequestWriter
from tritonclient.grpc import service_pb2_grpc

TITLE = "What sending costs the engine"
MODEL = Path(__file__).parents[2] / "triton_models/idefics2"
STREAMS = {64: 1.1, 128: 1.2}
"""How many at a time, and how much longer a step may be with them."""
NUM_STEPS = 120
NUM_RUNS = 3
SILENT, TALKING = 1, 0


@dataclass(frozen=True)
class Told:
    """What one stream was told."""

    step_seconds: float
    """Median, by the engine."""
    first_seconds: float
    """From making the first token to reading it."""
    late_seconds: float
    """The same of all tokens, median."""


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("\n" + render(write("transport", TITLE, tuple(asyncio.run(measure())))))
    return 0


async def measure() -> list[Row]:
    """Let so many streams talk and be silent, in turns."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder:
        model = Path(folder) / "idefics2"
        (model / "1").mkdir(parents=True)
        shutil.copy(MODEL / "config.pbtxt", model)
        for name in ("model.py", "engine.py"):
            shutil.copy(Path(__file__).parent / "paced" / name, model / "1")
        environment = {"IDEFICS2_BENCH_MODEL": str(MODEL / "1")}
        async with run_triton(folder, environment) as url, grpc.aio.insecure_channel(url) as channel:
            for count, bound in STREAMS.items():
                rows += await compare(service_pb2_grpc.GRPCInferenceServiceStub(channel), count, bound)
    return rows


async def compare(stub: service_pb2_grpc.GRPCInferenceServiceStub, count: int, bound: float) -> list[Row]:
    """Compare steps that tell with steps that do not."""
    silent, talking, firsts, lates = [], [], [], []
    for _ in range(NUM_RUNS):
        silent.append((await ask(stub, count, SILENT))[0].step_seconds * 1000)
        told = await ask(stub, count, TALKING)
        talking.append(told[0].step_seconds * 1000)
        firsts.append(statistics.median(t.first_seconds for t in told) * 1000)
        lates.append(statistics.median(t.late_seconds for t in told) * 1000)
    name = f"a step of 20 ms that tells {count} streams"
    return [
        make_row(f"{name}, beside one that tells nobody", statistics.median(talking), "ms",
                 peer=statistics.median(silent), goal=Goal(most_ratio=bound)),
        make_row(f"{name}: from its end to its reading, first token", statistics.median(firsts), "ms",
                 goal=NO_GOAL),
        make_row(f"{name}: from its end to its reading, all tokens", statistics.median(lates), "ms"),
    ]  # fmt: skip


async def ask(stub: service_pb2_grpc.GRPCInferenceServiceStub, count: int, seed: int) -> list[Told]:
    """Open so many streams at once and read all that they tell."""
    return list(await asyncio.gather(*(read(stub, count, seed) for _ in range(count))))


async def read(stub: service_pb2_grpc.GRPCInferenceServiceStub, count: int, seed: int) -> Told:
    """Read one stream, as the front does: on a stream of its own."""
    writer = RequestWriter("idefics2", "bench").texts("prompt", b"bench")
    writer.numbers("max_new_tokens", "INT32", NUM_STEPS).numbers("top_k", "INT32", count)
    message = writer.numbers("seed", "UINT64", seed).message
    call = stub.ModelStreamInfer()
    await call.write(message)
    await call.done_writing()
    lates: list[float] = []
    text = ""
    async for response in call:
        now = time.monotonic()
        for event in tensors.read_events(response.infer_response, ()):
            if isinstance(event, TextDelta):
                text += event.text
        made = [float(word) for word in text.partition("{")[0].split()]
        lates += [now - moment for moment in made[len(lates) :]]
    report = json.loads("{" + text.partition("{")[2].partition("}")[0] + "}")
    if seed == SILENT:
        return Told(report["step_seconds"], 0.0, 0.0)
    return Told(report["step_seconds"], lates[0], statistics.median(lates))


if __name__ == "__main__":
    sys.exit(main())

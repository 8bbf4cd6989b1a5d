"""How much memory the programs take, which is what their manifests ask for: `make bench`."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any

import grpc
import psutil
from bench.load import MAX_CALL_SECONDS, NUM_STREAMS, NUM_TOKENS, read
from bench.programs import run_service
from bench.results import Row, make_row, write
from bench.tables import render
from bench.workloads import ask_alike, draw_pictures
from idefics2.v1 import generation_pb2_grpc
from idefics2_service import logs
from idefics2_service.settings import LogSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from processes import Started

TITLE = "How much memory the programs take, with the embedded checkpoint"
NUM_ROUNDS = 3
LOOK_SECONDS = 0.2
_CHANNEL_OPTIONS = (("grpc.max_receive_message_length", -1),)

Footprint = tuple[float, float]
"""MiB of the front, and of Triton with the model: what they share with others is shared out between them."""


def main() -> int:
    """Measure everything, keep it, show it."""
    logs.configure(LogSettings(level="warning"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = asyncio.run(measure())
    print("\n" + render(write("footprint", TITLE, rows)))
    return 0


async def measure() -> tuple[Row, ...]:
    """Look at them before the first request, and while they answer many."""
    async with run_service() as started:
        front, triton = look(started)
        load = asyncio.create_task(run_load(started))
        looks = [found async for found in look_until(started, load)]
    most_front, most_triton = (max(column) for column in zip(*looks, strict=True))
    name = f"while it answers {NUM_STREAMS} requests, at most"
    return (
        make_row("the front, at its start", front, "MiB"),
        make_row(f"the front, {name}", most_front, "MiB"),
        make_row("Triton with the model, at its start", triton, "MiB"),
        make_row(f"Triton with the model, {name}", most_triton, "MiB"),
    )


def look(started: Started) -> Footprint:
    """Add up the memory of the front, and that of all processes below it."""
    service = psutil.Process(started.service.process.pid)
    return _measure([service]), _measure(started.service.tree())


async def look_until(started: Started, load: asyncio.Task[None]) -> AsyncIterator[Footprint]:
    """Look again and again until the load is over."""
    while not load.done():
        yield await asyncio.to_thread(look, started)
        await asyncio.wait((load,), timeout=LOOK_SECONDS)
    await load


async def run_load(started: Started) -> None:
    """Ask about many pictures at a time, and again about others."""
    requests = ask_alike(draw_pictures(NUM_STREAMS), NUM_TOKENS)
    metadata = (("authorization", f"Key {started.ready.api_key}"),)
    async with (
        asyncio.timeout(NUM_ROUNDS * MAX_CALL_SECONDS),
        grpc.aio.insecure_channel(started.ready.grpc, options=_CHANNEL_OPTIONS) as channel,
    ):
        stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
        for number in range(NUM_ROUNDS):
            await asyncio.gather(*(read(stub, metadata, request, number) for request in requests))


def _measure(processes: list[psutil.Process]) -> float:
    """Add up proportional set sizes; a process that is gone meanwhile has none."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


if __name__ == "__main__":
    sys.exit(main())

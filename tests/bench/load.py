"""The whole service under many streams, beside the bare engine with the same load: `make bench`."""

from __future__ import annotations

import asyncio
import itertools
import signal
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
from bench.engine import make_engine
from bench.programs import run_service
from bench.results import Goal, Row, make_row, write
from bench.tables import render
from bench.workloads import ask_alike, draw_pictures
from idefics2.v1 import generation_pb2, generation_pb2_grpc
from idefics2_engine.loop import EngineLoop
from idefics2_engine.requests import is_last
from idefics2_service import logs
from idefics2_service.settings import LogSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.engine import Engine
    from idefics2_engine.requests import Event, Request

TITLE = "The whole service under load"
NUM_STREAMS = 64
NUM_TOKENS = 128
LENGTHS = (NUM_TOKENS, 512)
"""Of answers, in tokens; the longer one is what the API gives where nobody asks for a length."""
NUM_RUNS = 5
NUM_WARM_UPS = 2
MAX_CALL_SECONDS = 120.0
_CHANNEL_OPTIONS = (("grpc.max_receive_message_length", -1),)


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = make_rows(asyncio.run(measure(draw_pictures(NUM_STREAMS))))
    print("\n" + render(write("load", TITLE, tuple(rows))))
    return 0


def make_rows(rates: dict[int, tuple[float, float]]) -> Iterator[Row]:
    """Make a row of each length."""
    for num_tokens, (bare, whole) in rates.items():
        name = (
            f"{NUM_STREAMS} streams of {num_tokens} tokens through the whole service, beside the bare engine"
        )
        yield make_row(name, whole, "tokens/s", peer=bare, goal=Goal(least_ratio=0.9))


async def measure(pictures: list[bytes]) -> dict[int, tuple[float, float]]:
    """Return, by length of answers, the usual tokens a second of the bare engine and of the service.

    They take turns.
    """
    engine = make_engine()
    rates: dict[int, tuple[float, float]] = {}
    runs = itertools.count()
    async with run_service() as started:
        metadata = (("authorization", f"Key {started.ready.api_key}"),)
        async with grpc.aio.insecure_channel(started.ready.grpc, options=_CHANNEL_OPTIONS) as channel:
            stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
            for num_tokens in LENGTHS:
                load, bare, whole = ask_alike(pictures, num_tokens), [], []
                for _ in range(NUM_WARM_UPS + NUM_RUNS):
                    engine.images.clear()
                    engine.prefixes.clear()
                    bare.append(await asyncio.to_thread(run_engine, engine, load))
                    whole.append(await read_all(stub, metadata, load, next(runs)))
                rates[num_tokens] = find_usual(bare), find_usual(whole)
    engine.close()
    return rates


def find_usual(rates: list[float]) -> float:
    """Return the median of what was measured when all was warm."""
    return statistics.median(rates[NUM_WARM_UPS:])


class Counter:
    """Counts the requests that have ended."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.is_done = threading.Event()

    def tell(self, _: str, event: Event) -> None:
        """As the loop's emit, called by the engine's thread alone."""
        self._left -= is_last(event)
        if not self._left:
            self.is_done.set()


def count_tokens(load: list[Request]) -> int:
    """Count what all answers have together."""
    return sum(request.sampling.max_new_tokens for request in load)


def run_engine(engine: Engine, load: list[Request]) -> float:
    """Return tokens a second of a load that arrives at once, told to nobody."""
    told = Counter(len(load))
    loop = EngineLoop(engine, told.tell)
    started = time.perf_counter()
    for request in load:
        loop.submit(request)
    told.is_done.wait()
    seconds = time.perf_counter() - started
    loop.close()
    return count_tokens(load) / seconds


async def read_all(stub: Any, metadata: tuple[tuple[str, str], ...], load: list[Request], run: int) -> float:
    """Return tokens a second of a load that arrives at once, each stream read to its end."""
    begun = time.perf_counter()
    # Other files and words each time, so that nothing is known of them, as in the peer.
    await asyncio.gather(*(read(stub, metadata, request, run) for request in load))
    return count_tokens(load) / (time.perf_counter() - begun)


async def read(stub: Any, metadata: tuple[tuple[str, str], ...], request: Request, run: int) -> None:
    """Read one answer to its end."""
    num_tokens = request.sampling.max_new_tokens
    message = generation_pb2.GenerateRequest(
        prompt=f"{run}: {request.prompt}",
        images=[generation_pb2.Image(data=request.images[0] + bytes([run]))],
        max_new_tokens=num_tokens,
        min_new_tokens=num_tokens,
        temperature=0,
    )
    last = None
    async for event in stub.GenerateStream(message, metadata=metadata, timeout=MAX_CALL_SECONDS):
        last = event
    if last is None or last.finished.response.usage.num_generated_tokens != num_tokens:
        raise RuntimeError(f"a stream ended with {last}")


if __name__ == "__main__":
    sys.exit(main())

"""A GenerationService that answers at once, and holds streams until as many are open as there shall be.

A process of its own: says on which port it answers, serves until its input ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import grpc
import uvloop
from idefics2.v1.generation_pb2 import (
    CountTokensResponse,
    Event,
    Finished,
    GenerateRequest,
    GenerateResponse,
    TextDelta,
)
from idefics2.v1.generation_pb2_grpc import GenerationServiceServicer, add_GenerationServiceServicer_to_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NUM_STREAMS_VARIABLE = "BENCH_NUM_STREAMS"
ANSWER = GenerateResponse(output="A red circle.")


class AnsweringServicer(GenerationServiceServicer):
    """Knows the answer."""

    def __init__(self, num_streams: int) -> None:
        self._barrier = asyncio.Barrier(num_streams)

    async def Generate(  # noqa: N802  # the proto's name
        self, request: GenerateRequest, context: Any
    ) -> GenerateResponse:
        """Answer."""
        await context.send_initial_metadata((("x-request-id", "bench"),))
        return ANSWER

    async def GenerateStream(  # noqa: N802  # the proto's name
        self, request: GenerateRequest, context: Any
    ) -> AsyncIterator[Event]:
        """Say one word, wait for all the others, and end."""
        await context.send_initial_metadata((("x-request-id", "bench"),))
        yield Event(text_delta=TextDelta(text="A"))
        await self._barrier.wait()
        yield Event(finished=Finished(response=ANSWER))

    async def CountTokens(  # noqa: N802  # the proto's name
        self, request: GenerateRequest, context: Any
    ) -> CountTokensResponse:
        """Count nothing."""
        return CountTokensResponse()


async def main() -> None:
    """Serve until nobody holds our standard input any more."""
    server = grpc.aio.server()
    servicer = AnsweringServicer(int(os.environ[NUM_STREAMS_VARIABLE]))
    add_GenerationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())

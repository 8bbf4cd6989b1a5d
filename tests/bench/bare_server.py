"""A grpc.aio server that does nothing with what it is sent: the best that ours could be.

A process of its own: says on which port it answers, serves until its input ends.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import grpc
import uvloop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpc.aio import ServicerContext

    Context = ServicerContext[bytes, bytes]

NUM_CHUNKS = 90
CHUNK = bytes(2**20)
OPTIONS = (("grpc.max_receive_message_length", -1),)


async def drop(messages: AsyncIterator[bytes], _: Context) -> bytes:
    """Read all messages."""
    async for _message in messages:
        pass
    return b""


async def send(_: bytes, __: Context) -> AsyncIterator[bytes]:
    """Send as many as a file has."""
    for _number in range(NUM_CHUNKS):
        yield CHUNK


async def main() -> None:
    """Serve until nobody holds our standard input any more."""
    server = grpc.aio.server(options=OPTIONS)
    handlers = {
        "Drop": grpc.stream_unary_rpc_method_handler(drop),
        "Send": grpc.unary_stream_rpc_method_handler(send),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bare", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())

"""GenerationService: each method converts, calls the core, converts back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from idefics2.v1 import generation_pb2, generation_pb2_grpc

from idefics2_service.errors import InternalError
from idefics2_service.events import Failed, Finished
from idefics2_service.requests import Deadlines, RequestName
from idefics2_service.rpc.convert import (
    read_generate_request,
    write_count_tokens_response,
    write_event,
    write_generate_response,
)
from idefics2_service.rpc.interceptor import current_caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2_service.generation import Generation
    from idefics2_service.rpc.status import ServicerContext

SERVICE_NAME = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"].full_name


class GenerationServicer(generation_pb2_grpc.GenerationServiceServicer):
    """The wire's side of Generation."""

    def __init__(self, generation: Generation) -> None:
        """Serve `generation`."""
        self._generation = generation

    async def Generate(  # the proto's name
        self, request: generation_pb2.GenerateRequest, context: ServicerContext
    ) -> generation_pb2.GenerateResponse:
        """Answer when all is done."""
        given = read_generate_request(request)
        del request  # its bytes are in `given`: held once is enough
        async with self._generation.attach(_name(), given, _deadlines(context)) as events:
            async for event in events:
                match event.happening:
                    case Finished(output):
                        return write_generate_response(output)
                    case Failed(error):
                        raise error
        raise InternalError("the request ended without its last event")

    async def GenerateStream(
        self, request: generation_pb2.GenerateRequest, context: ServicerContext
    ) -> AsyncIterator[generation_pb2.Event]:
        """Tell of each event."""
        given = read_generate_request(request)
        del request  # its bytes are in `given`: held once is enough
        async with self._generation.attach(_name(), given, _deadlines(context)) as events:
            async for event in events:
                if isinstance(event.happening, Failed):
                    raise event.happening.error
                yield write_event(event)

    async def CountTokens(
        self, request: generation_pb2.GenerateRequest, context: ServicerContext
    ) -> generation_pb2.CountTokensResponse:
        """Count without running."""
        count, fits = await self._generation.count_tokens(_name().key_id, read_generate_request(request))
        return write_count_tokens_response(count, fits=fits)


def _name() -> RequestName:
    caller = current_caller.get()
    return RequestName(caller.key_id, caller.request_id)


def _deadlines(context: ServicerContext) -> Deadlines:
    """Put the call's deadline on the event loop's clock."""
    remaining = context.time_remaining()
    return Deadlines(end=None if remaining is None else asyncio.get_running_loop().time() + remaining)

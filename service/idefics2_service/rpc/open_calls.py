"""Calls of health and reflection: nobody is asked for a key, so each address has only a share of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from idefics2_service.errors import CallsFull, ServiceError
from idefics2_service.rpc.messages import parse_message
from idefics2_service.rpc.status import abort
from idefics2_service.rpc.streams import receive_one
from idefics2_service.shares import Shares

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from google.protobuf.message import Message

    from idefics2_service.rpc.status import ServicerContext

OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
MAX_OPEN = 1_024
"""Of each method, at a time: watches of health, which last, take nothing from those who only ask for it."""


class OpenCalls:
    """Who is in the middle of one."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._of_methods: defaultdict[str, Shares] = defaultdict(lambda: Shares(MAX_OPEN))

    def wrap(self, name: str, handler: Any) -> Any:  # grpc's handlers are untyped
        """Return a method's handler, which counts a call before a message of it came: it may never come."""
        places = self._of_methods[name]

        async def answer(messages: AsyncIterator[bytes], context: ServicerContext) -> None:
            try:
                with _place(places, context.peer()):
                    await _answer(handler, messages, context)
            except ServiceError as error:
                await abort(context, error)

        return grpc.stream_stream_rpc_method_handler(answer, response_serializer=handler.response_serializer)


@contextmanager
def _place(places: Shares, peer: str) -> Iterator[None]:
    """Hold the place of a call; `peer` is `ipv4:address:port`, or what grpc calls others."""
    address = peer.rpartition(":")[0]
    if not places.has_room(address):
        held = places.describe(address, "address")
        message = f"too many calls of this method, which needs no key, are open: {held}"
        raise CallsFull(message, bound=str(places.capacity), value=str(places.num_taken))
    places.take(address)
    try:
        yield
    finally:
        places.give_back(address)


async def _answer(handler: Any, messages: AsyncIterator[bytes], context: ServicerContext) -> None:
    async with aclosing(_begin(handler, messages, context)) as answers:
        async for message in answers:
            try:
                await context.write(message)
            except grpc.aio.BaseError as error:
                raise asyncio.CancelledError from error


async def _begin(
    handler: Any, messages: AsyncIterator[bytes], context: ServicerContext
) -> AsyncGenerator[Message, None]:
    """Yield what a method answers, whatever its kind."""
    if handler.request_streaming:
        parsed = (parse_message(handler, data) async for data in messages)
        answers = handler.stream_stream(parsed, context)
    elif handler.response_streaming:
        answers = handler.unary_stream(parse_message(handler, await receive_one(context)), context)
    else:
        yield await handler.unary_unary(parse_message(handler, await receive_one(context)), context)
        return
    async with aclosing(answers):
        async for answer in answers:
            yield answer

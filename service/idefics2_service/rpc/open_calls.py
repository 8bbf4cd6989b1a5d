"""Calls of health and reflection: nobody is asked for a key, so each address has only a share of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from idefics2_service.errors import CallsFull, RequestMalformed, ServiceError
from idefics2_service.rpc.messages import parse_message
from idefics2_service.rpc.status import abort
from idefics2_service.rpc.streams import receive_one
from idefics2_service.shares import Shares

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator

    from google.protobuf.message import Message

    from idefics2_service.gate import Gate
    from idefics2_service.rpc.status import ServicerContext
    from idefics2_service.settings import GrpcSettings

OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
MAX_OPEN = 1_024
"""Of each method, at a time: watches of health, which last, take nothing from those who only ask for it."""
MAX_MESSAGE_BYTES = 4_096
"""Names of services, files and symbols are far shorter. Parsed, messages may take dozens of times as many."""


class OpenCalls:
    """Who is in the middle of one."""

    def __init__(self, gate: Gate, settings: GrpcSettings) -> None:
        """Begin with nobody; what is slow to come counts in `gate` for the address it comes from."""
        self._gate, self._settings = gate, settings
        self._of_methods: defaultdict[str, Shares] = defaultdict(lambda: Shares(MAX_OPEN))

    def wrap(self, name: str, handler: Any) -> Any:  # grpc's handlers are untyped
        """Return a method's handler, which counts a call before a message of it came: it may never come."""
        places = self._of_methods[name]

        async def answer(messages: AsyncIterator[bytes], context: ServicerContext) -> None:
            address = _find_address(context.peer())
            hold = partial(self._gate.hold, address, self._settings.max_receive_bytes)
            receive = partial(receive_one, context, self._settings.message_timeout_seconds, hold)
            try:
                with _place(places, address):
                    await _answer(handler, messages, context, receive)
            except ServiceError as error:
                await abort(context, error.without_frames())

        return grpc.stream_stream_rpc_method_handler(answer, response_serializer=handler.response_serializer)


def _find_address(peer: str) -> str:
    """Return where a call came from; `peer` is `ipv4:address:port`, or what grpc calls others."""
    return peer.rpartition(":")[0]


@contextmanager
def _place(places: Shares, address: str) -> Iterator[None]:
    """Hold the place of a call."""
    if not places.has_room(address):
        held = places.describe(address, "address")
        message = f"too many calls of this method, which needs no key, are open: {held}"
        raise CallsFull(message, bound=str(places.capacity), value=str(places.num_taken))
    places.take(address)
    try:
        yield
    finally:
        places.give_back(address)


async def _answer(
    handler: Any,
    messages: AsyncIterator[bytes],
    context: ServicerContext,
    receive: Callable[[], Awaitable[bytes]],
) -> None:
    async with aclosing(_begin(handler, messages, context, receive)) as answers:
        async for message in answers:
            try:
                await context.write(message)
            except grpc.aio.BaseError as error:
                raise asyncio.CancelledError from error


async def _begin(
    handler: Any,
    messages: AsyncIterator[bytes],
    context: ServicerContext,
    receive: Callable[[], Awaitable[bytes]],
) -> AsyncGenerator[Message, None]:
    """Yield what a method answers, whatever its kind."""
    if handler.request_streaming:
        parsed = (_parse(handler, data) async for data in messages)
        answers = handler.stream_stream(parsed, context)
    elif handler.response_streaming:
        answers = handler.unary_stream(_parse(handler, await receive()), context)
    else:
        yield await handler.unary_unary(_parse(handler, await receive()), context)
        return
    async with aclosing(answers):
        async for answer in answers:
            yield answer


def _parse(handler: Any, data: bytes) -> Message:
    if len(data) > MAX_MESSAGE_BYTES:
        message = f"a message of this method has at most {MAX_MESSAGE_BYTES} bytes, not {len(data)}"
        raise RequestMalformed(message, bound=str(MAX_MESSAGE_BYTES), value=str(len(data)))
    return parse_message(handler, data)

"""Calls of health and reflection: nobody is asked for a key, so each address has only a share of them."""

from __future__ import annotations

from collections import defaultdict
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc

from idefics2_service.addresses import find_neighbourhood
from idefics2_service.errors import CallsFull, ReaderStalled, RequestMalformed, ServiceError
from idefics2_service.rpc.messages import parse_message
from idefics2_service.rpc.status import abort
from idefics2_service.rpc.streams import WINDOW_BYTES, leave, receive_next, sending
from idefics2_service.shares import Shares

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator

    from google.protobuf.message import Message

    from idefics2_service.gate import Gate
    from idefics2_service.metrics import Metrics
    from idefics2_service.rpc.status import ServicerContext
    from idefics2_service.settings import GrpcSettings

    Receive = Callable[[], Awaitable[bytes | None]]

OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
MAX_OPEN = 1_024
"""Of each method, at a time: watches of health, which last, take nothing from those who only ask for it."""
MAX_MESSAGE_BYTES = 4_096
"""Names of services, files and symbols are far shorter. Parsed, messages may take dozens of times as many."""


class OpenCalls:
    """Who is in the middle of one."""

    def __init__(self, gate: Gate, metrics: Metrics, settings: GrpcSettings) -> None:
        """Begin with nobody; what is slow to come counts in `gate` for the address it comes from."""
        self._gate, self._metrics, self._settings = gate, metrics, settings
        self._of_methods: defaultdict[str, Shares] = defaultdict(lambda: Shares(MAX_OPEN))

    def wrap(self, name: str, handler: Any) -> Any:  # grpc's handlers are untyped
        """Return a method's handler, which counts a call before a message of it came: it may never come."""
        places = self._of_methods[name]
        ahead_bytes = WINDOW_BYTES if handler.request_streaming else 0

        async def answer(messages: AsyncIterator[bytes], context: ServicerContext) -> None:
            address = _find_address(context.peer())
            hold = partial(self._gate.hold_for_stranger, address, self._settings.max_receive_bytes)
            receive = partial(receive_next, messages, self._settings.message_timeout_seconds, hold)
            try:
                with _place(places, address), self._gate.hold_for_stranger(address, ahead_bytes):
                    await self._answer(handler, receive, context)
            except ReaderStalled as error:
                self._metrics.stalled.labels(name).inc()
                await leave(context, error.without_frames())
            except ServiceError as error:
                await abort(context, error.without_frames())

        return grpc.stream_stream_rpc_method_handler(answer, response_serializer=handler.response_serializer)

    async def _answer(self, handler: Any, receive: Receive, context: ServicerContext) -> None:
        stall_seconds = self._settings.stall_timeout_seconds
        async with (
            sending(context, stall_seconds) as sender,
            aclosing(_begin(handler, receive, context)) as answers,
        ):
            async for message in answers:
                await sender.write(message)


def _find_address(peer: str) -> str:
    """Return where a call came from.

    `peer` is `ipv4:address:port`, `ipv6:%5Baddress%5D:port`, or what grpc calls others.
    """
    host = unquote(peer.rpartition(":")[0].partition(":")[2])
    return find_neighbourhood(host.removeprefix("[").removesuffix("]"))


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


async def _begin(handler: Any, receive: Receive, context: ServicerContext) -> AsyncGenerator[Message, None]:
    """Yield what a method answers, whatever its kind."""
    messages = _read(handler, receive)
    if handler.request_streaming:
        answers = handler.stream_stream(messages, context)
    elif handler.response_streaming:
        answers = handler.unary_stream(await _read_only(messages), context)
    else:
        yield await handler.unary_unary(await _read_only(messages), context)
        return
    async with aclosing(messages), aclosing(answers):
        async for answer in answers:
            yield answer


async def _read_only(messages: AsyncIterator[Message]) -> Message:
    """Return the only message of a call, once nothing can follow: what does would lie there, uncounted."""
    message = await anext(messages, None)
    if message is None or await anext(messages, None) is not None:
        raise RequestMalformed("the call must have one message")
    return message


async def _read(handler: Any, receive: Receive) -> AsyncGenerator[Message, None]:
    """Yield the messages of a call, each bounded before it is parsed."""
    while (data := await receive()) is not None:
        if len(data) > MAX_MESSAGE_BYTES:
            message = f"a message of this method has at most {MAX_MESSAGE_BYTES} bytes, not {len(data)}"
            raise RequestMalformed(message, bound=str(MAX_MESSAGE_BYTES), value=str(len(data)))
        yield parse_message(handler, data)

"""The one interceptor: who calls, under which id, and how every error becomes a status."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import ExitStack, aclosing, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from idefics2_service.errors import (
    InternalError,
    MethodUnknown,
    ReaderStalled,
    SenderStalled,
    ServiceError,
)
from idefics2_service.keys.records import Face
from idefics2_service.requests import is_request_id
from idefics2_service.rpc.messages import find_chunk, parse_message
from idefics2_service.rpc.open_calls import OPEN_SERVICES, OpenCalls
from idefics2_service.rpc.status import REQUEST_ID_KEY, abort
from idefics2_service.rpc.streams import hear_out, leave, receive_next, receive_one, sending
from idefics2_service.tracing.spans import Kind, current_span
from idefics2_service.tracing.w3c import TRACE_HEADERS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager

    from google.protobuf.message import Message

    from idefics2_service.gate import Gate
    from idefics2_service.keys.records import Key
    from idefics2_service.metrics import Metrics
    from idefics2_service.rpc.status import ServicerContext
    from idefics2_service.settings import GrpcSettings
    from idefics2_service.tracing.spans import Span, Tracer, Value

logger = structlog.get_logger(__name__)

NEVER_COUNTED = {"CancelRequest", "CancelOperation", "DeleteFile"}
"""Methods that give something back: no limit keeps a key from calling them."""


@dataclass(frozen=True)
class Caller:
    """Who calls, and under which id."""

    request_id: str
    key_id: str


current_caller: ContextVar[Caller] = ContextVar("current_caller")


@dataclass
class _Call:
    """One call of a method."""

    service: str
    name: str
    """Of the method."""
    handler: Any  # grpc's handlers are untyped
    messages: AsyncIterator[bytes]
    context: ServicerContext
    request_id: str
    _is_greeted: bool = False

    async def greet(self) -> None:
        """Tell the id, once. Not before there is a message: gRPC repeats a refusal only if no header came.

        Raises:
            asyncio.CancelledError: there is no caller any more.

        """
        if self._is_greeted:
            return
        self._is_greeted = True
        try:
            await self.context.send_initial_metadata(((REQUEST_ID_KEY, self.request_id),))
        except grpc.aio.BaseError as error:
            raise asyncio.CancelledError from error


class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic when it runs
    """Wraps every method; those of health and reflection by a thinner wrap, without a key.

    Each becomes one that receives a stream: grpc would read a message whole before it asks who sends it.
    """

    def __init__(self, gate: Gate, metrics: Metrics, settings: GrpcSettings, tracer: Tracer) -> None:
        """Let in who passes `gate`, record in `metrics`, give up who stalls for as long as is set."""
        self._tracer = tracer
        self._gate = gate
        self._metrics = metrics
        self._settings = settings
        self._open_calls = OpenCalls(gate, metrics, settings)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # grpc's handlers are untyped
        """Return the method's handler, wrapped."""
        service, _, name = handler_call_details.method.strip("/").rpartition("/")
        handler = await continuation(handler_call_details)
        if handler is None:
            return grpc.stream_unary_rpc_method_handler(_refuse_unknown)
        if service in OPEN_SERVICES:
            return self._open_calls.wrap(name, handler)
        make, work = grpc.stream_unary_rpc_method_handler, self._answer_once
        if handler.request_streaming:
            work = self._receive
        elif handler.response_streaming:
            make, work = grpc.stream_stream_rpc_method_handler, self._send

        async def answer(messages: AsyncIterator[bytes], context: ServicerContext) -> Any:
            if _is_too_late(context):
                self._metrics.handled.labels(service, name, "DEADLINE_EXCEEDED").inc()
                raise asyncio.CancelledError
            metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
            call = _Call(service, name, handler, messages, context, _request_id(metadata))
            with self._begin_span(call):
                return await self._answer(call, metadata.get("authorization"), work)

        return make(answer, response_serializer=handler.response_serializer)

    def _begin_span(self, call: _Call) -> Span:
        """Begin a span in the caller's trace; of its state, which may come in parts, all."""
        headers: dict[str, str] = {}
        for key, value in call.context.invocation_metadata() or ():
            if key in TRACE_HEADERS:
                headers[key] = ",".join(filter(None, (headers.get(key), str(value))))
        about: dict[str, Value] = {
            "rpc.system.name": "grpc",
            "rpc.method": f"{call.service}/{call.name}",
            "idefics2.request_id": call.request_id,
        }
        return self._tracer.begin(f"{call.service}/{call.name}", Kind.SERVER, headers, about)

    async def _answer_once(self, call: _Call, key: Key) -> Any:
        """Answer one message by another."""
        data = await self._receive_one(call, key)
        with self._gate.hold(key.id, len(data)):
            answering = call.handler.unary_unary(parse_message(call.handler, data), call.context)
            del data  # for as long as the answer takes, its bytes are held once, parsed
            message = await answering
        self._gate.check(key)
        await call.greet()
        return message

    async def _send(self, call: _Call, key: Key) -> None:
        """Answer one message by a stream, as long as the caller reads it and its key is in force."""
        data = await self._receive_one(call, key)
        with self._gate.hold(key.id, len(data)):
            answers = call.handler.unary_stream(parse_message(call.handler, data), call.context)
            del data
            stall_seconds = self._settings.stall_timeout_seconds
            async with sending(call.context, stall_seconds) as sender, aclosing(answers):
                async for answer in answers:
                    self._gate.check(key)
                    await call.greet()
                    await sender.write(answer)
        await call.greet()  # there may have been no message

    async def _receive_one(self, call: _Call, key: Key) -> bytes:
        hold = partial(self._hold_largest, key)
        return await receive_one(call.context, self._settings.message_timeout_seconds, hold)

    async def _receive(self, call: _Call, key: Key) -> Any:
        """Answer a stream by one message."""
        seconds, held = self._settings.message_timeout_seconds, ExitStack()

        @cache
        def hold() -> AbstractContextManager[object]:
            """Hold the largest message from the first slow one on: who is refused has sent little."""
            held.enter_context(self._hold_largest(key))
            return nullcontext()

        async def read() -> AsyncGenerator[Message | memoryview, None]:
            while (data := await receive_next(call.messages, seconds, hold)) is not None:
                self._gate.check(key)
                yield find_chunk(data) or parse_message(call.handler, data)  # only uploads are streams

        try:
            with held:
                async with aclosing(read()) as messages:
                    answer = await call.handler.stream_unary(messages, call.context)
        except SenderStalled:
            raise
        except ServiceError:
            await hear_out(call.messages)
            raise
        await hear_out(call.messages)
        self._gate.check(key)
        await call.greet()
        return answer

    def _hold_largest(self, key: Key) -> AbstractContextManager[object]:
        return self._gate.hold(key.id, self._settings.max_receive_bytes)

    async def _answer(
        self, call: _Call, authorization: str | None, work: Callable[[_Call, Key], Awaitable[Any]]
    ) -> Any:
        """Let the caller in and work; turn whatever is raised into a status; count and time the call."""
        started, code = time.monotonic(), "OK"
        try:
            is_counted = call.name not in NEVER_COUNTED
            with self._gate.admit(authorization, Face.GRPC, is_counted=is_counted) as key:
                current_caller.set(Caller(call.request_id, key.id))
                return await work(call, key)
        except (asyncio.CancelledError, GeneratorExit):  # the caller left: while we worked, or while we sent
            code = "CANCELLED"
            raise
        except ServiceError as error:
            failure = error.without_frames()
            code = failure.code
        except Exception:
            logger.exception("call failed", request_id=call.request_id, method=call.name)
            failure = InternalError(f"the service failed; its log has the details under {call.request_id}")
            code = failure.code
        finally:
            current_span().describe({"rpc.response.status_code": code})
            self._metrics.handled.labels(call.service, call.name, code).inc()
            self._metrics.handling.labels(call.service, call.name).observe(time.monotonic() - started)
        return await self._refuse(call, failure)

    async def _refuse(self, call: _Call, failure: ServiceError) -> None:
        """End a call with an error; never returns normally."""
        current_span().fail(failure.reason)
        if isinstance(failure, ReaderStalled):
            self._metrics.stalled.labels(call.name).inc()
            await leave(call.context, failure, call.request_id)
        await abort(call.context, failure, call.request_id)


async def _refuse_unknown(_: AsyncIterator[bytes], context: ServicerContext) -> None:
    """Answer a call of a method that does not exist; reflection's clients probe for one, without a key.

    Its message is not waited for: it may never come.
    """
    await abort(context, MethodUnknown("this server has no such method"))


def _is_too_late(context: ServicerContext) -> bool:
    """Tell whether nobody waits any more; of the calls that are read first after an outage, most are such."""
    seconds_left = context.time_remaining()
    return seconds_left is not None and seconds_left <= 0


def _request_id(metadata: dict[str, str]) -> str:
    given = metadata.get(REQUEST_ID_KEY, "")
    return given if is_request_id(given) else uuid.uuid4().hex

"""The one interceptor: who calls, under which id, and how every error becomes a status."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from idefics2_service.errors import InternalError, MethodUnknown, ReaderStalled, ServiceError
from idefics2_service.keys.records import Face
from idefics2_service.rpc.messages import find_chunk, parse_message
from idefics2_service.rpc.status import abort
from idefics2_service.rpc.streams import hear_out, leave, receive_one, sending

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from google.protobuf.message import Message

    from idefics2_service.gate import Gate
    from idefics2_service.keys.records import Key
    from idefics2_service.metrics import Metrics
    from idefics2_service.rpc.status import ServicerContext

logger = structlog.get_logger(__name__)

OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
NEVER_COUNTED = {"CancelRequest", "CancelOperation", "DeleteFile"}
"""Methods that give something back: no limit keeps a key from calling them."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class Caller:
    """Who calls, and under which id."""

    request_id: str
    key_id: str


current_caller: ContextVar[Caller] = ContextVar("current_caller")


class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic when it runs
    """Wraps every method but those of health and reflection.

    Each becomes one that receives a stream: grpc would read a message whole before it asks who sends it.
    """

    def __init__(self, gate: Gate, metrics: Metrics, stall_seconds: float) -> None:
        """Let in who passes `gate`, record in `metrics`, give up who reads nothing for `stall_seconds`."""
        self._gate = gate
        self._metrics = metrics
        self._stall_seconds = stall_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # grpc's handlers are untyped
        """Return the method's handler, wrapped."""
        service, _, method = handler_call_details.method.strip("/").rpartition("/")
        handler = await continuation(handler_call_details)
        if service in OPEN_SERVICES:
            return handler
        if handler is None:
            return grpc.unary_unary_rpc_method_handler(_refuse)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                self._wrap_client_stream(handler, service, method),
                response_serializer=handler.response_serializer,
            )
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._wrap_stream(handler, service, method), response_serializer=handler.response_serializer
            )
        return grpc.stream_unary_rpc_method_handler(
            self._wrap_unary(handler, service, method), response_serializer=handler.response_serializer
        )

    def _wrap_unary(self, handler: Any, service: str, method: str) -> Any:
        async def answer(messages: AsyncIterator[bytes], context: ServicerContext) -> Any:
            async with self._answering(service, method, context) as key:
                data = await receive_one(messages)
                with self._gate.hold(key, len(data)):
                    message = await handler.unary_unary(parse_message(handler, data), context)
                self._gate.check(key)
                return message

        return answer

    def _wrap_stream(self, handler: Any, service: str, method: str) -> Any:
        async def answer(messages: AsyncIterator[bytes], context: ServicerContext) -> None:
            async with self._answering(service, method, context) as key:
                data = await receive_one(messages)
                with self._gate.hold(key, len(data)):
                    await self._send(
                        handler.unary_stream(parse_message(handler, data), context), key, context
                    )

        return answer

    async def _send(self, answers: AsyncGenerator[Any, None], key: Key, context: ServicerContext) -> None:
        """Send a stream, as long as its caller reads it and its key is in force."""
        async with sending(context, self._stall_seconds) as sender, aclosing(answers):
            async for answer in answers:
                self._gate.check(key)
                await sender.write(answer)

    def _wrap_client_stream(self, handler: Any, service: str, method: str) -> Any:
        async def receive(stream: AsyncIterator[bytes], context: ServicerContext) -> Any:
            async with self._answering(service, method, context) as key:

                async def read() -> AsyncGenerator[Message | memoryview, None]:
                    async for data in stream:
                        self._gate.check(key)
                        yield find_chunk(data) or parse_message(handler, data)  # only uploads are streams

                try:
                    async with aclosing(read()) as messages:
                        answer = await handler.stream_unary(messages, context)
                except ServiceError:
                    await hear_out(stream)
                    raise
                await hear_out(stream)
                return answer

        return receive

    @asynccontextmanager
    async def _answering(self, service: str, method: str, context: ServicerContext) -> AsyncIterator[Key]:
        """Set the caller, and turn whatever is raised into a status; count and time the call."""
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        request_id = _request_id(metadata)
        started, code = time.monotonic(), "OK"
        try:
            await context.send_initial_metadata((("x-request-id", request_id),))
            is_counted = method not in NEVER_COUNTED
            with self._gate.admit(metadata.get("authorization"), Face.GRPC, is_counted=is_counted) as key:
                current_caller.set(Caller(request_id, key.id))
                yield key
        except (asyncio.CancelledError, GeneratorExit):  # the caller left: while we worked, or while we sent
            code = "CANCELLED"
            raise
        except ReaderStalled as error:
            code = error.code
            self._metrics.stalled.labels(method).inc()
            await leave(context, error)
        except ServiceError as error:
            code = error.code
            await abort(context, error)
        except Exception:
            code = InternalError.code
            logger.exception("call failed", request_id=request_id, method=method)
            message = f"the service failed; its log has the details under {request_id}"
            await abort(context, InternalError(message))
        finally:
            self._metrics.handled.labels(service, method, code).inc()
            self._metrics.handling.labels(service, method).observe(time.monotonic() - started)


async def _refuse(_: bytes, context: ServicerContext) -> None:
    """Answer a call of a method that does not exist; reflection's clients probe for one, without a key."""
    await abort(context, MethodUnknown("this server has no such method"))


def _request_id(metadata: dict[str, str]) -> str:
    given = metadata.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

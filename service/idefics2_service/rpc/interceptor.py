"""The one interceptor: who calls, under which id, and how every error becomes a status.

It also parses the call's message: a text that is not Unicode would otherwise be answered by the library,
without details.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from contextlib import aclosing, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from idefics2_service.errors import (
    InternalError,
    MethodUnknown,
    RequestMalformed,
    ServiceError,
    TextNotUnicode,
)
from idefics2_service.keys.records import Face
from idefics2_service.rpc.status import abort

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from google.protobuf.descriptor import Descriptor

    from idefics2_service.gate import Gate
    from idefics2_service.keys.records import Key
    from idefics2_service.metrics import Metrics
    from idefics2_service.rpc.status import ServicerContext

logger = structlog.get_logger(__name__)

OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
NEVER_COUNTED = {"CancelRequest", "CancelOperation", "DeleteFile"}
"""Methods that give something back: no limit keeps a key from calling them."""
_HEAR_OUT_SECONDS = 5.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class Caller:
    """Who calls, and under which id."""

    request_id: str
    key_id: str


current_caller: ContextVar[Caller] = ContextVar("current_caller")


class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic when it runs
    """Wraps every method but those of health and reflection."""

    def __init__(self, gate: Gate, metrics: Metrics) -> None:
        """Let in who passes `gate`, record in `metrics`."""
        self._gate = gate
        self._metrics = metrics

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
            return grpc.unary_stream_rpc_method_handler(
                self._wrap_stream(handler, service, method), response_serializer=handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._wrap_unary(handler, service, method), response_serializer=handler.response_serializer
        )

    def _wrap_unary(self, handler: Any, service: str, method: str) -> Any:
        async def answer(data: bytes, context: ServicerContext) -> Any:
            async with self._answering(service, method, context) as key:
                message = await handler.unary_unary(_parse(handler.request_deserializer, data), context)
                self._gate.check(key)
                return message

        return answer

    def _wrap_stream(self, handler: Any, service: str, method: str) -> Any:
        async def answer(data: bytes, context: ServicerContext) -> AsyncIterator[Any]:
            async with self._answering(service, method, context) as key:
                request = _parse(handler.request_deserializer, data)
                async with aclosing(handler.unary_stream(request, context)) as messages:
                    async for message in messages:
                        self._gate.check(key)
                        yield message

        return answer

    def _wrap_client_stream(self, handler: Any, service: str, method: str) -> Any:
        async def receive(stream: AsyncIterator[bytes], context: ServicerContext) -> Any:
            async with self._answering(service, method, context) as key:

                async def read() -> AsyncGenerator[Message, None]:
                    async for data in stream:
                        self._gate.check(key)
                        yield _parse(handler.request_deserializer, data)

                try:
                    async with aclosing(read()) as messages:
                        answer = await handler.stream_unary(messages, context)
                except ServiceError:
                    await _hear_out(stream)
                    raise
                await _hear_out(stream)
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


async def _hear_out(stream: AsyncIterator[bytes]) -> None:
    """Read what a caller still sends, for a while: grpc.aio's client loses an answer that comes meanwhile."""

    async def read() -> None:
        with suppress(Exception):  # whatever ends the stream: there is nobody left to hear out
            async for _ in stream:
                pass

    # The reading is not cancelled, which would end the call unanswered: it ends with the call.
    await asyncio.wait((asyncio.create_task(read()),), timeout=_HEAR_OUT_SECONDS)


async def _refuse(_: bytes, context: ServicerContext) -> None:
    """Answer a call of a method that does not exist; reflection's clients probe for one, without a key."""
    await abort(context, MethodUnknown("this server has no such method"))


def _request_id(metadata: dict[str, str]) -> str:
    given = metadata.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _parse(parse: Any, data: bytes) -> Message:  # a generated message's FromString
    """Parse a message.

    Raises:
        TextNotUnicode: a text of it is not UTF-8; names the field.
        RequestMalformed: it is not this message at all.

    """
    try:
        message: Message = parse(data)
    except DecodeError as error:
        field = _find_bad_text(parse.__self__.DESCRIPTOR, data)
        if field is None:
            raise RequestMalformed("the call's message cannot be parsed") from error
        raise TextNotUnicode(f"{field} is not valid UTF-8", field=field) from error
    return message


def _find_bad_text(descriptor: Descriptor, data: bytes) -> str | None:
    """Return the first string field of the message that is not UTF-8, by reading all fields as unknown."""
    empty = Empty()
    try:
        empty.ParseFromString(data)
    except DecodeError:
        return None
    for unknown in UnknownFieldSet(empty):  # type: ignore[attr-defined]  # the stubs lack it
        field = descriptor.fields_by_number.get(unknown.field_number)
        if field is None or not isinstance(unknown.data, bytes):
            continue
        if field.type == field.TYPE_STRING and not _is_utf8(unknown.data):
            return field.name
        inner = field.message_type and _find_bad_text(field.message_type, unknown.data)
        if inner:
            return f"{field.name}.{inner}"
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

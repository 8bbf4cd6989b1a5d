"""One request to Triton, on a stream of its own."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from idefics2_service.errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tritonclient.grpc import service_pb2

logger = structlog.get_logger(__name__)

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
END = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it
# What a write or a read on a call that ended raises.
CALL_ERRORS = (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError)


class Conversation:
    """Sends one message and reads the stream to its end, whoever stops listening.

    grpc.aio cuts a call when a task that waits for its next message is cancelled, and Triton may crash
    when a stream is cut while its last response is on the way. So nobody waits on the call but a task of
    its own.
    """

    def __init__(
        self, stub: Any, message: service_pb2.ModelInferRequest, headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        """Begin at once."""
        self._call = stub.ModelStreamInfer(metadata=tuple(headers.items()))
        self._was_sent = False
        self._responses: asyncio.Queue[Any] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read(message))
        # Not by the task itself: one that is cut before its first step runs nothing of its own.
        self._reading.add_done_callback(self._tell_end)

    async def responses(self) -> AsyncIterator[service_pb2.ModelInferResponse]:
        """Yield the responses to the last.

        Raises:
            BackendUnavailable: Triton refused the request, or is lost; unsent where nothing of the message
                was given to a connection.

        """
        while (response := await self._responses.get()) is not END:
            if isinstance(response, BackendUnavailable):
                raise response
            if response.error_message:
                # Our model never uses it: this is Triton's own word, and the same where the model's process
                # was dead before and where it died with this request. So it was sent.
                logger.warning("triton refused a request", error=response.error_message)
                raise BackendUnavailable("the model's server failed the request")
            yield response.infer_response

    @property
    def has_ended(self) -> bool:
        """Whether the stream has ended, one way or another."""
        return self._reading.done()

    async def wait_until_ended(self, timeout_seconds: float | None = None) -> None:
        """Return when the stream has ended, or after `timeout_seconds`."""
        await asyncio.wait((self._reading,), timeout=timeout_seconds)

    def cut(self) -> None:
        """End it at once: for when Triton does not answer any more."""
        self._call.cancel()
        # In grpc.aio, who waits to write to a call that is cancelled before it has begun waits for ever.
        self._reading.cancel()

    async def _read(self, message: service_pb2.ModelInferRequest) -> None:
        await self._call.wait_for_connection()  # what `write` raises does not tell whether there was one
        self._was_sent = True
        await self._call.write(message)
        await self._call.done_writing()
        while (response := await self._call.read()) is not END:
            self._responses.put_nowait(response)

    def _tell_end(self, reading: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if reading.cancelled() else reading.exception()
        if error is None:
            self._responses.put_nowait(END)
            return
        if not isinstance(error, (asyncio.CancelledError, *CALL_ERRORS)):
            logger.error("a conversation with triton failed", exc_info=error)
        kind = BackendUnavailable if self._was_sent else BackendUnavailable.unsent
        lost = kind("the model's server was lost, or does not answer")
        lost.__cause__ = error
        self._responses.put_nowait(lost)

"""Calls over any front: the next one where one does not answer."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from faults.requests.cluster import API_KEY
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from idefics2.v1 import generation_pb2, requests_pb2, requests_pb2_grpc
from pictures import red_circle

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Sequence

CALL_SECONDS = 2.0
"""How long a front may take to answer before another one is asked."""
QUIET_SECONDS = 3.0
"""How long a watcher hears nothing before it goes elsewhere."""
_PAUSE_SECONDS = 0.1
_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))
_METADATA = (("authorization", f"Key {API_KEY}"),)
_LOST = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # so a server ends a call whose deadline it sees sooner than its caller
}
_TRY_AGAIN = {"", "STORE_UNAVAILABLE", "SERVICE_STOPPING"}
"""Reasons for which to call again; none: the service said nothing, only the connection broke."""
_IMAGE = red_circle()


class Caller:
    """Calls a method until somebody answers."""

    def __init__(self, stubs: Sequence[Any], dice: random.Random) -> None:
        """Call over `stubs`, chosen by `dice`."""
        self._stubs = stubs
        self._dice = dice

    async def call(self, method: str, message: Any) -> Any:
        """Return the answer, however long it takes.

        Raises:
            grpc.aio.AioRpcError: the service refused, and would again.

        """
        while True:
            try:
                return await self.call_once(method, message)
            except grpc.aio.AioRpcError as error:
                _forgive(error)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def call_once(self, method: str, message: Any) -> Any:
        """Return what one front answers.

        Raises:
            grpc.aio.AioRpcError: it refused, or did not answer.

        """
        stub = self._dice.choice(self._stubs)
        return await getattr(stub, method)(message, metadata=_METADATA, timeout=CALL_SECONDS)

    async def submit(self, request_id: str, prompt: str, **fields: Any) -> requests_pb2.Request:
        """Submit, again and again, until it is acknowledged."""
        answer: requests_pb2.Request = await self.call(
            "Submit", make_submission(request_id, prompt, **fields)
        )
        return answer

    async def watch(self, request_id: str, after: int = 0) -> AsyncIterator[generation_pb2.Event]:
        """Yield each event once, wherever it can be heard; places in the queue are left out."""
        while True:
            message = requests_pb2.WatchRequestRequest(request_id=request_id, after=after)
            call = self._dice.choice(self._stubs).WatchRequest(message, metadata=_METADATA)
            try:
                while event := await _read(call):
                    if event.sequence:
                        after = event.sequence
                        yield event
                    if event.HasField("finished"):
                        return
            except TimeoutError:
                pass
            except grpc.aio.AioRpcError as error:
                _forgive(error)
            finally:
                call.cancel()
            await asyncio.sleep(_PAUSE_SECONDS)


@asynccontextmanager
async def connect(addresses: Sequence[str], dice: random.Random) -> AsyncIterator[Caller]:
    """Open a channel to each front."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=_OPTIONS))
            for address in addresses
        ]
        yield Caller([requests_pb2_grpc.RequestServiceStub(channel) for channel in channels], dice)


def make_submission(request_id: str, prompt: str, **fields: Any) -> requests_pb2.SubmitRequest:
    """Write a submission; `fields` are of the submission."""
    question = generation_pb2.GenerateRequest(prompt=prompt, images=[generation_pb2.Image(data=_IMAGE)])
    return requests_pb2.SubmitRequest(request_id=request_id, input=question, **fields)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Read why the service refused; empty where it was not the service that spoke."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it needs
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return info.reason
    return ""


def _forgive(error: grpc.aio.AioRpcError) -> None:
    """Raise the error again, unless somebody else may answer."""
    if error.code() not in _LOST or reason_of(error) not in _TRY_AGAIN:
        raise error


async def _read(call: Any) -> generation_pb2.Event | None:
    """Read the next event; None at the end of the stream.

    Raises:
        TimeoutError: nothing was heard for a while.

    """
    async with asyncio.timeout(QUIET_SECONDS):
        event = await call.read()
    return event if isinstance(event, generation_pb2.Event) else None

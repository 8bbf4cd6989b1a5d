"""The asyncio channel to one service, and the three ways to call over it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
from idefics2.v1.files_pb2_grpc import FileServiceStub
from idefics2.v1.generation_pb2_grpc import GenerationServiceStub
from idefics2.v1.requests_pb2_grpc import RequestServiceStub

from idefics2_client.caller import Caller
from idefics2_client.connection import make_upload_channel
from idefics2_client.errors import Cancelled, Idefics2Error
from idefics2_client.failures import read_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from idefics2.v1.files_pb2_grpc import FileServiceAsyncStub
    from idefics2.v1.generation_pb2_grpc import GenerationServiceAsyncStub
    from idefics2.v1.requests_pb2_grpc import RequestServiceAsyncStub

    from idefics2_client.retry import Patience

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")


class AsyncConnection(Caller):
    """One channel; it belongs to the event loop of its first call. Another one, for uploads alone."""

    _upload_channel: grpc.Channel | None = None
    _closing: asyncio.Task[None] | None = None

    @cached_property
    def _last_calls(self) -> set[asyncio.Task[None]]:
        """They cancel what was left by who waited for it."""
        return set()

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        credentials, settings = self._endpoint.credentials, self._retry.channel_options
        if credentials:
            return grpc.aio.secure_channel(self.target, credentials, settings)
        return grpc.aio.insecure_channel(self.target, settings)

    @cached_property
    def _generation(self) -> GenerationServiceAsyncStub:
        return GenerationServiceStub(self._channel)

    @cached_property
    def _requests(self) -> RequestServiceAsyncStub:
        return RequestServiceStub(self._channel)

    @cached_property
    def _files(self) -> FileServiceAsyncStub:
        return FileServiceStub(self._channel)

    @cached_property
    def _uploads(self) -> FileServiceStub:
        """A stub of the blocking kind: grpc.aio's loses the answer to an upload that is refused half-way."""
        self._upload_channel = make_upload_channel(self._endpoint, self._retry)
        return FileServiceStub(self._upload_channel)

    async def __aenter__(self) -> Self:
        """Return the client, to be closed at the end of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """End the connection, and with it every call that still runs, but those that cancel what was left."""
        self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)  # though who closes is cancelled meanwhile

    async def _close(self) -> None:
        if self._last_calls:
            await asyncio.wait(self._last_calls)
        self._is_closed = True
        if self._upload_channel is not None:
            self._upload_channel.close()
        await self._channel.close(None)

    async def _ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Question, _Answer],
        question: _Question,
        patience: Patience,
    ) -> _Answer:
        """Call once; return the answer."""
        with self._reading_errors():
            return await method(question, **self._terms(patience))

    async def _insist(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Question, _Answer],
        question: _Question,
        patience: Patience,
    ) -> _Answer:
        """Call until there is an answer, or an error that will stay."""
        while True:
            try:
                answer = await self._ask(method, question, patience)
            except Idefics2Error as error:
                pause = patience.pause_after(error)
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:
                patience.restore()
                return answer

    async def _follow(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[_Question, _Answer],
        question: _Question,
        patience: Patience,
    ) -> AsyncGenerator[_Answer, None]:
        """Call once; yield what comes."""
        call = method(question, **self._terms(patience))
        try:
            with self._reading_errors():
                async for message in call:
                    yield message
        finally:
            call.cancel()

    async def _settle(self, call: grpc.Future[_Answer]) -> _Answer:
        """Return the answer to a call of the blocking kind that was begun."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end(_: grpc.Future[_Answer]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        call.add_done_callback(end)
        try:
            await ended.wait()
            with self._reading_errors():
                return call.result()
        finally:
            call.cancel()

    @contextmanager
    def _reading_errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            # It is the call itself, in whose frames are the call and what was asked.
            raise read_error(error, self._endpoint) from error.with_traceback(None)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled the caller: grpc says so of calls whose channel was closed.
            raise Cancelled("the client was closed", code="CANCELLED") from error

"""The asyncio channel to one service, and the three ways to call over it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
from idefics2.v1.generation_pb2_grpc import GenerationServiceStub
from idefics2.v1.requests_pb2_grpc import RequestServiceStub

from idefics2_client.caller import Caller
from idefics2_client.errors import Cancelled, Idefics2Error
from idefics2_client.failures import read_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from idefics2.v1.generation_pb2_grpc import GenerationServiceAsyncStub
    from idefics2.v1.requests_pb2_grpc import RequestServiceAsyncStub

    from idefics2_client.retry import Patience

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")


class AsyncConnection(Caller):
    """One channel; it belongs to the event loop of its first call."""

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.target, self._retry.channel_options)

    @cached_property
    def _generation(self) -> GenerationServiceAsyncStub:
        return GenerationServiceStub(self._channel)

    @cached_property
    def _requests(self) -> RequestServiceAsyncStub:
        return RequestServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        """Return the client, to be closed at the end of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """End the connection, and with it every call that still runs."""
        self._is_closed = True
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
                await asyncio.sleep(patience.pause_after(error))
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

    @contextmanager
    def _reading_errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise read_error(error, self.target) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled the caller: grpc says so of calls whose channel was closed.
            raise Cancelled("the client was closed", code="CANCELLED") from error

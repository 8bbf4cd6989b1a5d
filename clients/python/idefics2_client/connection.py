"""The blocking channel to one service, and the three ways to call over it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
from idefics2.v1.generation_pb2_grpc import GenerationServiceStub
from idefics2.v1.requests_pb2_grpc import RequestServiceStub

from idefics2_client.caller import Caller
from idefics2_client.errors import Idefics2Error
from idefics2_client.failures import read_error

if TYPE_CHECKING:
    from collections.abc import Generator

    from idefics2_client.retry import Patience, Retry

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")


class Connection(Caller):
    """One channel; threads may share it."""

    def __init__(
        self, target: str | None = None, api_key: str | None = None, *, retry: Retry | None = None
    ) -> None:
        """Make ready to call; see `Caller`."""
        super().__init__(target, api_key, retry=retry)
        self._channel = grpc.insecure_channel(self.target, self._retry.channel_options)
        self._generation = GenerationServiceStub(self._channel)
        self._requests = RequestServiceStub(self._channel)

    def __enter__(self) -> Self:
        """Return the client, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the connection, and with it every call that still runs."""
        self._is_closed = True
        self._channel.close()

    def _ask(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Question, _Answer],
        question: _Question,
        patience: Patience,
    ) -> _Answer:
        """Call once; return the answer."""
        call: grpc.Future[_Answer] = method.future(question, **self._terms(patience))
        try:
            return call.result()
        except grpc.RpcError as error:
            raise read_error(error, self.target) from error
        finally:
            call.cancel()  # nothing to a call that has ended; Ctrl-C leaves one that has not

    def _insist(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Question, _Answer],
        question: _Question,
        patience: Patience,
    ) -> _Answer:
        """Call until there is an answer, or an error that will stay."""
        while True:
            try:
                answer = self._ask(method, question, patience)
            except Idefics2Error as error:
                time.sleep(patience.pause_after(error))
            else:
                patience.restore()
                return answer

    def _follow(
        self,
        method: grpc.UnaryStreamMultiCallable[_Question, _Answer],
        question: _Question,
        patience: Patience,
    ) -> Generator[_Answer, None, None]:
        """Call once; yield what comes."""
        call = method(question, **self._terms(patience))
        try:
            yield from call
        except grpc.RpcError as error:
            raise read_error(error, self.target) from error
        finally:
            call.cancel()  # type: ignore[no-untyped-call]  # untyped in the stubs

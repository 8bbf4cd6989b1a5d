"""The blocking channel to one service, and the three ways to call over it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

import grpc
from idefics2.v1.files_pb2_grpc import FileServiceStub
from idefics2.v1.generation_pb2_grpc import GenerationServiceStub
from idefics2.v1.requests_pb2_grpc import RequestServiceStub

from idefics2_client.caller import Caller
from idefics2_client.errors import Idefics2Error
from idefics2_client.failures import read_error

if TYPE_CHECKING:
    from collections.abc import Generator

    from idefics2_client.caller import ClientOptions
    from idefics2_client.endpoint import Endpoint
    from idefics2_client.retry import Patience, Retry

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")
_UPLOAD_BUFFER_BYTES = 2**18
"""grpc's own default; with as much as calls of large pictures need, each upload would take 32 MiB more."""


class Connection(Caller):
    """A channel for calls with one answer, one for streams, one for uploads and what is asked before them.

    Threads may share them.
    """

    def __init__(
        self, target: str | None = None, api_key: str | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        """Make ready to call; see `Caller`."""
        super().__init__(target, api_key, **options)
        self._channel = make_channel(self._endpoint, self._retry)
        self._generation = GenerationServiceStub(self._channel)
        self._requests = RequestServiceStub(self._channel)
        self._files = FileServiceStub(self._channel)
        # Where grpc itself may make calls again, a stream that is cut as it begins may never end: grpcio 1.81
        # to 1.85 lose what was to be received of it.
        self._stream_channel = make_channel(self._endpoint, self._retry, ("grpc.enable_retries", 0))
        self._generation_streams = GenerationServiceStub(self._stream_channel)
        self._request_streams = RequestServiceStub(self._stream_channel)
        self._file_streams = FileServiceStub(self._stream_channel)
        self._upload_channel = make_upload_channel(self._endpoint, self._retry)
        self._uploads = FileServiceStub(self._upload_channel)

    def __enter__(self) -> Self:
        """Return the client, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the connections, and with them every call that still runs."""
        self._is_closed = True
        self._channel.close()
        self._stream_channel.close()
        self._upload_channel.close()

    def _ask(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Question, _Answer],
        question: _Question,
        patience: Patience,
    ) -> _Answer:
        """Call once; return the answer."""
        return self._wait(method.future(question, **self._terms(patience)))

    def _wait(self, call: grpc.Future[_Answer]) -> _Answer:
        """Return the answer to a call that was begun."""
        try:
            return call.result()
        except grpc.RpcError as error:
            # It is the call itself, in whose frames are the call and what was asked.
            raise read_error(error, self._endpoint) from error.with_traceback(None)
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
                pause = patience.pause_after(error)
                if pause is None:
                    raise
                time.sleep(pause)
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
            # It is the call itself, in whose frames are the call and what was asked.
            raise read_error(error, self._endpoint) from error.with_traceback(None)
        finally:
            call.cancel()  # type: ignore[no-untyped-call]  # untyped in the stubs


def make_upload_channel(endpoint: Endpoint, retry: Retry) -> grpc.Channel:
    """Make a channel for uploads, of which grpc keeps little: no upload is made again by grpc itself."""
    return make_channel(endpoint, retry, ("grpc.per_rpc_retry_buffer_size", _UPLOAD_BUFFER_BYTES))


def make_channel(endpoint: Endpoint, retry: Retry, *more: tuple[str, int]) -> grpc.Channel:
    """Make a blocking channel, where `more` overrules options; it connects at its first call."""
    options = tuple({**dict(retry.channel_options), **dict(more)}.items())
    if endpoint.credentials:
        return grpc.secure_channel(endpoint.target, endpoint.credentials, options)
    return grpc.insecure_channel(endpoint.target, options)

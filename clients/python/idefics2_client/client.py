"""The blocking client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar, Unpack

import grpc
from idefics2.v1 import generation_pb2_grpc

from idefics2_client.endpoint import Endpoint
from idefics2_client.errors import read_error
from idefics2_client.requests import Options, make_request

if TYPE_CHECKING:
    from collections.abc import Generator

    from idefics2.v1.generation_pb2 import CountTokensResponse, Event, GenerateRequest, GenerateResponse

    from idefics2_client.images import ImageSource

_Answer = TypeVar("_Answer")


class Client:
    """Asks one service; threads may share it.

    Every method takes an image (path, bytes, URL or data URI), a prompt and `Options` by name, and raises
    `Idefics2Error` where there is no answer. `timeout_seconds` bounds the whole call, waiting for a turn
    included; None waits as long as it takes.
    """

    def __init__(self, target: str | None = None, api_key: str | None = None) -> None:
        """Make ready to call; the connection is made at the first call.

        Args:
            target: `host:port`; else IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051.
            api_key: `<id>.<secret>`; else IDEFICS2_API_KEY, else FAL_KEY, else calls have none.

        Raises:
            AuthenticationFailed: the key holds characters that no key has.

        """
        self._endpoint = Endpoint.find(target, api_key)
        self._channel = grpc.insecure_channel(self._endpoint.target)
        self._stub = generation_pb2_grpc.GenerationServiceStub(self._channel)

    @property
    def target(self) -> str:
        """Where the service is, `host:port`."""
        return self._endpoint.target

    def __enter__(self) -> Self:
        """Return the client, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the connection, and with it every call that still runs."""
        self._channel.close()

    def generate(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[Options],
    ) -> GenerateResponse:
        """Return the answer when it is complete.

        Raises:
            Idefics2Error: see `idefics2_client.errors`.

        """
        return self._wait(self._stub.Generate, make_request(image, prompt, options), timeout_seconds)

    def stream(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[Options],
    ) -> Generator[Event, None, None]:
        """Yield each event as it happens, `finished` last. Closing the generator cancels the call.

        The request is made at once, the call with the first `next`.

        Raises:
            Idefics2Error: see `idefics2_client.errors`.

        """
        return self._follow(make_request(image, prompt, options), timeout_seconds)

    def count_tokens(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[Options],
    ) -> CountTokensResponse:
        """Return what the request would cost, without running it.

        Raises:
            Idefics2Error: see `idefics2_client.errors`.

        """
        return self._wait(self._stub.CountTokens, make_request(image, prompt, options), timeout_seconds)

    def _wait(
        self,
        method: grpc.UnaryUnaryMultiCallable[GenerateRequest, _Answer],
        request: GenerateRequest,
        timeout_seconds: float | None,
    ) -> _Answer:
        call: grpc.Future[_Answer] = method.future(
            request, timeout=timeout_seconds, metadata=self._endpoint.metadata
        )
        try:
            return call.result()
        except grpc.RpcError as error:
            raise read_error(error, self.target) from error
        finally:
            call.cancel()  # nothing to a call that has ended; Ctrl-C leaves one that has not

    def _follow(
        self, request: GenerateRequest, timeout_seconds: float | None
    ) -> Generator[Event, None, None]:
        call = self._stub.GenerateStream(request, timeout=timeout_seconds, metadata=self._endpoint.metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise read_error(error, self.target) from error
        finally:
            call.cancel()  # type: ignore[no-untyped-call]  # untyped in the stubs

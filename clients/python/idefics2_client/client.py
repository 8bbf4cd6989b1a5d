"""The blocking client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from idefics2_client.requests import Options, make_request
from idefics2_client.watch import RequestWatch

if TYPE_CHECKING:
    from collections.abc import Generator

    from idefics2.v1.generation_pb2 import CountTokensResponse, Event, GenerateResponse

    from idefics2_client.images import ImageSource


class Client(RequestWatch):
    """Asks one service; threads may share it.

    Questions take an image (see `ImageSource`), a prompt and `Options` by name. Local images are part of the
    request as long as they have 8 MB together; what is beyond is uploaded first. All methods raise
    `Idefics2Error` where there is no answer. `timeout_seconds` bounds the whole call, waiting for a turn
    included; None waits as long as it takes.
    """

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
        patience = self._patience(timeout_seconds)
        request = self._compose(make_request, image, prompt, options, patience)
        return self._ask(self._generation.Generate, request, patience)

    def stream(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[Options],
    ) -> Generator[Event, None, None]:
        """Yield each event as it happens, `finished` last. Closing the generator cancels the call.

        The request is made at once, uploads included, the call with the first `next`.

        Raises:
            Idefics2Error: see `idefics2_client.errors`.

        """
        patience = self._patience(timeout_seconds)
        request = self._compose(make_request, image, prompt, options, patience)
        return self._follow(self._generation_streams.GenerateStream, request, patience)

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
        patience = self._patience(timeout_seconds)
        request = self._compose(make_request, image, prompt, options, patience)
        return self._ask(self._generation.CountTokens, request, patience)

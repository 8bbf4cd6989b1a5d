"""The asyncio client's calls for requests that outlive them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from idefics2.v1.requests_pb2 import CancelRequestRequest, GetRequestRequest, ListRequestsRequest, State

from idefics2_client.aio.file_calls import AsyncFileCalls
from idefics2_client.names import read_name
from idefics2_client.requests import make_message
from idefics2_client.submission import SubmitOptions, make_submission

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from idefics2.v1.requests_pb2 import Request

    from idefics2_client.images import ImageSource
    from idefics2_client.names import StateName


class AsyncRequestCalls(AsyncFileCalls):
    """Submit, ask for, cancel, list."""

    async def submit(
        self,
        image: ImageSource,
        prompt: str,
        *,
        timeout_seconds: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Request:
        """Hand in a request and return where it stands; it goes on whoever leaves.

        With a `request_id` of your own it is safe to submit again what may or may not have arrived.

        Raises:
            AlreadyExists: the name is that of a request with other content.
            Idefics2Error: see `idefics2_client.errors`.

        """
        patience = self._patience(timeout_seconds)
        submission = await self._compose(make_submission, image, prompt, options, patience)
        return await self._ask(self._requests.Submit, submission, patience)

    async def get_request(
        self, request_id: str, *, logs: bool = False, timeout_seconds: float | None = None
    ) -> Request:
        """Return where a request stands; with `logs`, what its log says too.

        Raises:
            NotFound: there is none of this name.
            Idefics2Error: see `idefics2_client.errors`.

        """
        question = make_message(GetRequestRequest, request_id=request_id, include_logs=logs)
        return await self._ask(self._requests.GetRequest, question, self._patience(timeout_seconds))

    async def cancel(self, request_id: str, *, timeout_seconds: float | None = None) -> Request:
        """Cancel a request and return where it stands: for a moment it may still be running.

        One that has ended stays as it is.

        Raises:
            NotFound: there is none of this name.
            Idefics2Error: see `idefics2_client.errors`.

        """
        question = make_message(CancelRequestRequest, request_id=request_id)
        return await self._ask(self._requests.CancelRequest, question, self._patience(timeout_seconds))

    def list_requests(
        self,
        state: StateName | None = None,
        *,
        page_size: int | None = None,
        timeout_seconds: float | None = None,
    ) -> AsyncGenerator[Request, None]:
        """Yield the key's requests that are still known, newest first; a page is fetched when it is needed.

        Args:
            state: only those; None: all.
            page_size: how many to fetch at once, 1 to 1,000; None: 50.
            timeout_seconds: bounds each page.

        Raises:
            Idefics2Error: see `idefics2_client.errors`.

        """
        number = read_name(State.DESCRIPTOR, state, "state")
        question = make_message(ListRequestsRequest, state=number, page_size=page_size)
        return self._turn_pages(question, timeout_seconds)

    async def _turn_pages(
        self, question: ListRequestsRequest, timeout_seconds: float | None
    ) -> AsyncGenerator[Request, None]:
        is_last = False
        while not is_last:
            page = await self._ask(self._requests.ListRequests, question, self._patience(timeout_seconds))
            for request in page.requests:
                yield request
            question.page_token = page.next_page_token
            is_last = not page.next_page_token

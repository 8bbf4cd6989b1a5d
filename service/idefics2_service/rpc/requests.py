"""RequestService: each method converts, calls the core, converts back."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from idefics2.v1 import requests_pb2, requests_pb2_grpc

from idefics2_service.rpc.convert import write_event, write_generate_response
from idefics2_service.rpc.interceptor import current_caller
from idefics2_service.rpc.pages import read_page_size, read_page_token, write_page_token
from idefics2_service.rpc.records import read_state, read_submit_request, write_logs, write_request
from idefics2_service.submissions import name_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2.v1 import generation_pb2

    from idefics2_service.requests import RequestName
    from idefics2_service.rpc.status import ServicerContext
    from idefics2_service.submissions import Submissions

SERVICE_NAME = requests_pb2.DESCRIPTOR.services_by_name["RequestService"].full_name


class RequestServicer(requests_pb2_grpc.RequestServiceServicer):
    """The wire's side of Submissions."""

    def __init__(self, submissions: Submissions) -> None:
        """Serve `submissions`."""
        self._submissions = submissions

    async def Submit(
        self, request: requests_pb2.SubmitRequest, context: ServicerContext
    ) -> requests_pb2.Request:
        """Take a request."""
        given = read_submit_request(request)
        del request  # its bytes are in `given`: held once is enough
        return write_request(await self._submissions.submit(_key_id(), given))

    async def GetRequest(
        self, request: requests_pb2.GetRequestRequest, context: ServicerContext
    ) -> requests_pb2.Request:
        """Tell where a request stands."""
        record = await self._submissions.get(_name(request.request_id))
        message = write_request(record)
        if request.include_logs:
            message.logs.extend(write_logs(await self._submissions.read_logs(record)))
        return message

    async def WatchRequest(
        self, request: requests_pb2.WatchRequestRequest, context: ServicerContext
    ) -> AsyncIterator[generation_pb2.Event]:
        """Tell of each event."""
        async with aclosing(self._submissions.watch(_name(request.request_id), request.after)) as events:
            async for event in events:
                yield write_event(event)

    async def GetResult(
        self, request: requests_pb2.GetResultRequest, context: ServicerContext
    ) -> generation_pb2.GenerateResponse:
        """Return the answer."""
        return write_generate_response(await self._submissions.result(_name(request.request_id)))

    async def CancelRequest(
        self, request: requests_pb2.CancelRequestRequest, context: ServicerContext
    ) -> requests_pb2.Request:
        """Cancel a request."""
        return write_request(await self._submissions.cancel(_name(request.request_id)))

    async def ListRequests(
        self, request: requests_pb2.ListRequestsRequest, context: ServicerContext
    ) -> requests_pb2.ListRequestsResponse:
        """List requests."""
        key_id, state = _key_id(), read_state(request.state)
        list_name = state and state.value
        before = read_page_token(request.page_token, key_id, list_name, int)
        limit = read_page_size(request.page_size)
        page = await self._submissions.list_page(key_id, state, limit, before)
        return requests_pb2.ListRequestsResponse(
            requests=[write_request(record) for record in page.records],
            next_page_token=write_page_token(key_id, list_name, page.next_before),
        )


def _key_id() -> str:
    return current_caller.get().key_id


def _name(request_id: str) -> RequestName:
    return name_request(_key_id(), request_id)

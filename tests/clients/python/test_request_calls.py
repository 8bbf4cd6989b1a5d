"""What both clients promise of requests that outlive the call, one call at a time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from fakes.generation_server import make_response
from fakes.request_server import make_request
from fakes.scripted_server import make_status
from idefics2.v1.generation_pb2 import GenerateRequest
from idefics2.v1.requests_pb2 import (
    PRIORITY_LOW,
    STATE_RUNNING,
    CancelRequestRequest,
    GetRequestRequest,
    GetResultRequest,
    ListRequestsRequest,
    ListRequestsResponse,
    LoggedLine,
    SubmitRequest,
)
from idefics2_client import AlreadyExists, InvalidRequest, NotFinished, ServiceUnavailable

if TYPE_CHECKING:
    from fakes.request_server import RequestServer
    from idefics2_client import AsyncClient

URL = "https://example.com/cat.png"


async def test_submit_returns_where_the_request_stands(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(make_request("QUEUED", queue_position=3))
    taken = await caller.submit(URL, "What?", request_id="r-1", priority="low", temperature=0)
    assert taken == make_request("QUEUED", queue_position=3)
    expected = GenerateRequest(image_url=URL, prompt="What?", temperature=0)
    assert server.requests == [SubmitRequest(request_id="r-1", input=expected, priority=PRIORITY_LOW)]
    assert server.metadata[0]["authorization"] == "Key local.key"


async def test_submit_leaves_the_name_to_the_service(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(make_request())
    await caller.submit(URL, "What?")
    assert server.requests[0].request_id == ""


async def test_submit_sends_once(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(make_status("UNAVAILABLE", "STORE_UNAVAILABLE", "why"))
    with pytest.raises(ServiceUnavailable):
        await caller.submit(URL, "What?")


async def test_a_name_that_is_taken_is_refused(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(make_status("ALREADY_EXISTS", "REQUEST_ID_TAKEN", "why"))
    with pytest.raises(AlreadyExists):
        await caller.submit(URL, "What?", request_id="r-1")


@pytest.mark.parametrize("logs", [False, True])
async def test_get_request_asks_for_logs_only_when_told(
    server: RequestServer, caller: AsyncClient, *, logs: bool
) -> None:
    expected = make_request("RUNNING", logs=[LoggedLine(message="hello")])
    server.expect(expected)
    assert await caller.get_request("r-1", logs=logs) == expected
    assert server.requests == [GetRequestRequest(request_id="r-1", include_logs=logs)]


async def test_result_returns_the_answer(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(make_response("A cat."))
    assert await caller.result("r-1") == make_response("A cat.")
    assert server.requests == [GetResultRequest(request_id="r-1")]


async def test_result_does_not_wait_unless_it_is_told(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(make_status("FAILED_PRECONDITION", "REQUEST_NOT_FINISHED", "it is RUNNING"))
    with pytest.raises(NotFinished, match="RUNNING"):
        await caller.result("r-1")


async def test_cancel_returns_where_the_request_stands(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(make_request("CANCELLED"))
    assert await caller.cancel("r-1") == make_request("CANCELLED")
    assert server.requests == [CancelRequestRequest(request_id="r-1")]


async def test_list_requests_turns_the_pages(server: RequestServer, caller: AsyncClient) -> None:
    pages = [[make_request(request_id=name) for name in names] for names in ("ab", "", "c")]
    for page, token in zip(pages, ("t-1", "t-2", ""), strict=True):
        server.expect(ListRequestsResponse(requests=page, next_page_token=token))
    found = [request async for request in caller.list_requests("running", page_size=2)]
    assert [request.request_id for request in found] == ["a", "b", "c"]
    question = ListRequestsRequest(state=STATE_RUNNING, page_size=2)
    assert [request.page_token for request in server.requests] == ["", "t-1", "t-2"]
    assert server.requests[0] == question
    assert all(
        (one.state, one.page_size) == (two.state, two.page_size) for one, two in pairwise(server.requests)
    )


async def test_list_requests_fetches_no_page_that_nobody_reads(
    server: RequestServer, caller: AsyncClient
) -> None:
    server.expect(ListRequestsResponse(requests=[make_request()], next_page_token="more"))
    requests = caller.list_requests()
    assert await anext(requests) == make_request()
    await requests.aclose()
    assert server.requests == [ListRequestsRequest()]


async def test_a_state_that_there_is_not_is_refused(caller: AsyncClient) -> None:
    state: Any = "done"
    with pytest.raises(InvalidRequest, match="queued, running, succeeded, failed, cancelled") as caught:
        await anext(caller.list_requests(state))
    assert caught.value.field == "state"

"""Every way a call can fail, as one tree of errors."""

from __future__ import annotations

import asyncio
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import idefics2_client
import pytest
from clients.python.callers import KINDS, make_caller
from fakes.generation_server import text
from fakes.request_server import make_failure
from fakes.scripted_server import Hang, make_status
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import status_pb2
from google.rpc.code_pb2 import Code
from idefics2.v1.error_reason_pb2 import ErrorReason
from idefics2.v1.generation_pb2 import Failure
from idefics2_client import (
    AlreadyExists,
    AuthenticationFailed,
    Cancelled,
    DeadlineExceeded,
    Idefics2Error,
    ImageNotFound,
    InvalidRequest,
    NotFinished,
    NotFound,
    Overloaded,
    ServiceFailed,
    ServiceUnavailable,
    SettingInvalid,
    read_failure,
)
from idefics2_client.advice import SPECIAL
from idefics2_client.endpoint import Endpoint
from idefics2_client.failures import read_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fakes.request_server import RequestServer
    from idefics2_client import AsyncClient

URL = "https://example.com/cat.png"
PROTO = Path(__file__).parents[3] / "proto/idefics2/v1/error_reason.proto"


REASONS = [
    ("INVALID_ARGUMENT", "PROMPT_MISSING", InvalidRequest),
    ("UNAUTHENTICATED", "API_KEY_MISSING", AuthenticationFailed),
    ("NOT_FOUND", "REQUEST_NOT_FOUND", NotFound),
    ("ALREADY_EXISTS", "REQUEST_ID_TAKEN", AlreadyExists),
    ("FAILED_PRECONDITION", "REQUEST_NOT_FINISHED", NotFinished),
    ("RESOURCE_EXHAUSTED", "QUEUE_FULL", Overloaded),
    ("CANCELLED", "REQUEST_CANCELLED", Cancelled),
    ("DEADLINE_EXCEEDED", "START_TIMEOUT", DeadlineExceeded),
    ("UNAVAILABLE", "ATTEMPTS_EXHAUSTED", ServiceUnavailable),
    ("UNAVAILABLE", "ATTEMPT_LOST", ServiceUnavailable),
    ("UNIMPLEMENTED", "METHOD_UNKNOWN", ServiceFailed),
    ("INTERNAL", "INTERNAL_ERROR", ServiceFailed),
]


KINDS_OF_CODES = {code: kind for code, _, kind in REASONS} | {"PERMISSION_DENIED": AuthenticationFailed}


def read_code(reason: str) -> str:
    """Return the status code that the contract has beside a reason."""
    lines = PROTO.read_text().splitlines()
    (place,) = (index for index, line in enumerate(lines) if line.startswith(f"  {reason} = "))
    while lines[place - 1].startswith("  //"):
        place -= 1
    found = re.match(r"  // ([A-Z_]+)[.,]", lines[place])
    assert found, f"the comment of {reason} names no code"
    return found[1]


async def generate(caller: AsyncClient, **options: Any) -> object:
    return await caller.generate(URL, "What?", **options)


async def stream(caller: AsyncClient, **options: Any) -> object:
    return [event async for event in caller.stream(URL, "What?", **options)]


async def count_tokens(caller: AsyncClient, **options: Any) -> object:
    return await caller.count_tokens(URL, "What?", **options)


async def submit(caller: AsyncClient, **options: Any) -> object:
    return await caller.submit(URL, "What?", **options)


async def get_request(caller: AsyncClient, **options: Any) -> object:
    return await caller.get_request("r-1", **options)


async def watch(caller: AsyncClient, **options: Any) -> object:
    return [event async for event in caller.watch("r-1", **options)]


async def result(caller: AsyncClient, **options: Any) -> object:
    return await caller.result("r-1", **options)


async def cancel(caller: AsyncClient, **options: Any) -> object:
    return await caller.cancel("r-1", **options)


async def list_requests(caller: AsyncClient, **options: Any) -> object:
    return [request async for request in caller.list_requests(**options)]


EVERY_CALL = (generate, stream, count_tokens, submit, get_request, watch, result, cancel, list_requests)


@pytest.mark.parametrize("call", EVERY_CALL)
async def test_every_method_says_what_the_service_says(
    server: RequestServer, caller: AsyncClient, call: Callable[..., Awaitable[object]]
) -> None:
    server.expect(make_status("INVALID_ARGUMENT", "VALUE_OUT_OF_RANGE", "why", field="top_k"))
    with pytest.raises(InvalidRequest) as caught:
        await call(caller)
    error = caught.value
    assert (error.message, error.code, error.field) == ("why", "INVALID_ARGUMENT", "top_k")
    assert (error.reason, error.request_id) == ("VALUE_OUT_OF_RANGE", "r-1")
    assert error.retry_after_seconds is None
    assert isinstance(error.__cause__, grpc.RpcError)


@pytest.mark.parametrize(("code", "reason", "kind"), REASONS)
async def test_the_code_chooses_the_class(
    server: RequestServer, caller: AsyncClient, code: str, reason: str, kind: type[Idefics2Error]
) -> None:
    server.expect(make_status(code, reason, "why", retry_after_seconds=1.5))
    with pytest.raises(kind) as caught:
        await caller.result("r-1")
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert caught.value.retry_after_seconds == 1.5
    assert type(caught.value) is kind


@pytest.mark.parametrize(("code", "reason", "kind"), REASONS)
def test_a_failure_is_the_same_error_as_the_status(code: str, reason: str, kind: type[Idefics2Error]) -> None:
    error = read_failure(make_failure(code, reason, "why", field="top_k"), "r-7")
    assert type(error) is kind
    assert (error.message, error.code, error.reason) == ("why", code, reason)
    assert (error.field, error.request_id) == ("top_k", "r-7")


def test_a_failure_that_is_newer_than_this_program_is_still_an_error_of_the_tree() -> None:
    failure = Failure(code=99, message="why")
    failure.reason = 999  # type: ignore[assignment]  # what a newer service might send
    error = read_failure(failure)
    assert (type(error), error.code, error.reason) == (ServiceFailed, "UNKNOWN", "999")


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_every_code_without_details_is_an_error_of_the_tree(
    server: RequestServer, caller: AsyncClient, code: grpc.StatusCode
) -> None:
    server.expect(code)
    with pytest.raises(Idefics2Error) as caught:
        await caller.generate(URL, "What?")
    assert (caught.value.code, caught.value.reason) == (code.name, "")
    assert caught.value.message


@pytest.mark.parametrize(
    "packed",
    [
        Packed(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff"),
        Packed(type_url="type.googleapis.com/nobody.Knows", value=b"\xff"),
    ],
)
async def test_details_that_cannot_be_read_are_left_out(
    server: RequestServer, caller: AsyncClient, packed: Packed
) -> None:
    server.expect(status_pb2.Status(code=3, message="why", details=[packed]))
    with pytest.raises(InvalidRequest, match="why"):
        await caller.generate(URL, "What?")


def test_an_error_that_is_no_call_is_still_an_error_of_the_tree() -> None:
    assert isinstance(read_error(grpc.RpcError("odd"), Endpoint("here", "")), ServiceFailed)


async def test_a_domain_that_is_not_ours_gives_no_reason(server: RequestServer, caller: AsyncClient) -> None:
    status = make_status("INTERNAL", "SOMETHING", "from a proxy")
    status.details[0].value = status.details[0].value.replace(b"idefics2", b"proxy.io")
    server.expect(status)
    with pytest.raises(ServiceFailed, match="from a proxy") as caught:
        await caller.generate(URL, "What?")
    assert caught.value.reason == ""


@pytest.mark.parametrize("call", [generate, stream, watch])
async def test_a_timeout_is_told_as_one_and_stops_the_work(
    server: RequestServer, caller: AsyncClient, call: Callable[..., Awaitable[object]]
) -> None:
    server.expect(Hang())
    with pytest.raises(DeadlineExceeded, match="timeout"):
        await call(caller, timeout_seconds=0.3)
    await asyncio.to_thread(server.wait_until_cancelled)


async def test_a_connection_that_breaks_midway_is_told_as_lost(
    server: RequestServer, caller: AsyncClient
) -> None:
    server.expect(text("A"), Hang())
    events = caller.stream(URL, "What?")
    await anext(events)
    server.go_away()
    with pytest.raises(ServiceUnavailable, match="was lost") as caught:
        await anext(events)
    assert caught.value.request_id == "r-1"


@pytest.mark.parametrize("reason", ErrorReason.DESCRIPTOR.values[1:], ids=lambda reason: reason.name)
def test_every_reason_of_the_contract_is_the_error_of_its_code_and_says_what_to_do(reason: Any) -> None:
    code = read_code(reason.name)
    failure = Failure(code=Code.Value(code), message="why", reason=reason.number)
    error = read_failure(failure)
    assert (error.code, error.reason) == (code, reason.name)
    kind = (
        AlreadyExists if reason.name == "FILE_ALREADY_COMPLETE" else KINDS_OF_CODES.get(code, ServiceFailed)
    )
    assert type(error) is kind
    assert error.advice


def test_only_reasons_of_the_contract_have_advice_of_their_own() -> None:
    assert SPECIAL.keys() <= set(ErrorReason.DESCRIPTOR.values_by_name)


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_advice_speaks_of_retry_after_seconds_where_there_is_a_time_alone(code: str) -> None:
    kind = KINDS_OF_CODES[code]
    for seconds in (0.0, 1.5):
        assert "again after retry_after_seconds" in kind("why", code=code, retry_after_seconds=seconds).advice
    assert "again later" in kind("why", code=code).advice
    assert "retry_after_seconds" not in kind("why", code=code).advice


@pytest.mark.parametrize("code", ["UNKNOWN", "UNAVAILABLE"])
def test_nobody_is_told_to_try_again_with_a_setting_that_cannot_be_used(code: str) -> None:
    assert "will fail again" in SettingInvalid("why", code=code).advice


async def test_an_older_service_is_told_as_one(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(grpc.StatusCode.UNIMPLEMENTED)
    with pytest.raises(ServiceFailed, match="older than this client") as caught:
        await caller.generate(URL, "What?")
    assert server.target in caught.value.message
    assert "update" in caught.value.advice


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_does_not_know_the_service_is_told_as_older_or_another(kind: str) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        async with make_caller(kind, target) as caller:
            for call in (caller.generate(URL, "What?"), caller.upload(b"BM"), caller.get_request("r-1")):
                with pytest.raises(ServiceFailed, match="older than this client"):
                    await call
    finally:
        server.stop(None)


async def test_a_service_says_more_by_metadata(server: RequestServer, caller: AsyncClient) -> None:
    missing = {"missing": "abc,def"}
    server.expect(make_status("NOT_FOUND", "FILE_NOT_UPLOADED", "why", metadata=missing))
    with pytest.raises(NotFound) as caught:
        await caller.generate("idefics2://files/abc", "What?")
    assert caught.value.metadata == missing


def test_an_error_survives_the_way_to_another_process() -> None:
    for kind in (Overloaded, ImageNotFound):
        error = pickle.loads(pickle.dumps(kind("busy", retry_after_seconds=2.0)))  # noqa: S301  # our own
        assert (type(error), str(error), error.retry_after_seconds) == (kind, "busy", 2.0)


def test_the_docstring_draws_the_whole_tree() -> None:
    kinds = [kind for kind in vars(idefics2_client).values() if isinstance(kind, type)]
    names = {kind.__name__ for kind in kinds if issubclass(kind, Idefics2Error)}
    assert all(name in str(idefics2_client.errors.__doc__) for name in names)
    assert len(names) == 14

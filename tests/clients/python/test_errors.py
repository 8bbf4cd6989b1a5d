"""Every way a call can fail, as one tree of errors."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import grpc
import idefics2_client
import pytest
from fakes.generation_server import GenerationServer, Hang, make_status, text
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import status_pb2
from idefics2_client import (
    AuthenticationFailed,
    Cancelled,
    Client,
    DeadlineExceeded,
    Idefics2Error,
    InvalidRequest,
    Overloaded,
    ServiceFailed,
    ServiceUnavailable,
)
from idefics2_client.errors import read_error

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "https://example.com/cat.png"


def generate(client: Client, **options: Any) -> object:
    return client.generate(URL, "What?", **options)


def stream(client: Client, **options: Any) -> object:
    return list(client.stream(URL, "What?", **options))


def count_tokens(client: Client, **options: Any) -> object:
    return client.count_tokens(URL, "What?", **options)


calls = pytest.mark.parametrize("call", [generate, stream, count_tokens])


@calls
@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("INVALID_ARGUMENT", "PROMPT_MISSING", InvalidRequest),
        ("UNAUTHENTICATED", "API_KEY_MISSING", AuthenticationFailed),
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", Overloaded),
        ("CANCELLED", "REQUEST_CANCELLED", Cancelled),
        ("DEADLINE_EXCEEDED", "REQUEST_DEADLINE_EXCEEDED", DeadlineExceeded),
        ("UNAVAILABLE", "SERVICE_STOPPING", ServiceUnavailable),
        ("UNIMPLEMENTED", "METHOD_UNKNOWN", ServiceFailed),
        ("INTERNAL", "INTERNAL_ERROR", ServiceFailed),
    ],
)
def test_the_code_chooses_the_class_and_the_service_the_words(
    server: GenerationServer,
    client: Client,
    call: Callable[[Client], object],
    code: str,
    reason: str,
    kind: type[Idefics2Error],
) -> None:
    server.expect(make_status(code, reason, "why"))
    with pytest.raises(kind) as caught:
        call(client)
    error = caught.value
    assert (error.message, error.code, error.reason, error.request_id) == ("why", code, reason, "r-1")
    assert type(error) is kind


def test_the_field_and_the_time_to_wait_come_from_the_details(
    server: GenerationServer, client: Client
) -> None:
    server.expect(make_status("INVALID_ARGUMENT", "VALUE_OUT_OF_RANGE", "why", field="top_k"))
    with pytest.raises(InvalidRequest) as refused:
        generate(client)
    assert (refused.value.field, refused.value.retry_after_seconds) == ("top_k", None)
    server.expect(make_status("RESOURCE_EXHAUSTED", "QUEUE_FULL", "why", retry_after_seconds=1.5))
    with pytest.raises(Overloaded) as busy:
        generate(client)
    assert (busy.value.field, busy.value.retry_after_seconds) == ("", 1.5)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_without_details_is_an_error_of_the_tree(
    server: GenerationServer, client: Client, code: grpc.StatusCode
) -> None:
    server.expect(code)
    with pytest.raises(Idefics2Error) as caught:
        generate(client)
    assert (caught.value.code, caught.value.reason) == (code.name, "")
    assert caught.value.message


@pytest.mark.parametrize(
    "packed",
    [
        Packed(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff"),
        Packed(type_url="type.googleapis.com/nobody.Knows", value=b"\xff"),
    ],
)
def test_details_that_cannot_be_read_are_left_out(
    server: GenerationServer, client: Client, packed: Packed
) -> None:
    server.expect(status_pb2.Status(code=3, message="why", details=[packed]))
    with pytest.raises(InvalidRequest, match="why"):
        generate(client)


def test_an_error_that_is_no_call_is_still_an_error_of_the_tree() -> None:
    assert isinstance(read_error(grpc.RpcError("odd"), "here"), ServiceFailed)


def test_a_domain_that_is_not_ours_gives_no_reason(server: GenerationServer, client: Client) -> None:
    status = make_status("INTERNAL", "SOMETHING", "from a proxy")
    status.details[0].value = status.details[0].value.replace(b"idefics2", b"proxy.io")
    server.expect(status)
    with pytest.raises(ServiceFailed, match="from a proxy") as caught:
        generate(client)
    assert caught.value.reason == ""


@calls
def test_a_timeout_is_told_as_one_and_stops_the_work(
    server: GenerationServer, client: Client, call: Callable[..., object]
) -> None:
    server.expect(Hang())
    with pytest.raises(DeadlineExceeded, match="timeout"):
        call(client, timeout_seconds=0.2)
    server.wait_until_cancelled()


def test_a_connection_that_breaks_midway_is_told_as_lost() -> None:
    with GenerationServer() as server, Client(server.target) as client:
        server.expect(text("A"), grpc.StatusCode.UNAVAILABLE)
        events = client.stream(URL, "What?")
        next(events)
        with pytest.raises(ServiceUnavailable, match="was lost") as caught:
            next(events)
    assert caught.value.request_id == "r-1"


async def test_the_asyncio_interface_has_the_same_errors(server: GenerationServer) -> None:
    server.expect(make_status("INVALID_ARGUMENT", "VALUE_OUT_OF_RANGE", "why", field="top_k"))
    async with grpc.aio.insecure_channel(server.target) as channel:
        method = channel.unary_unary("/idefics2.v1.GenerationService/Generate", bytes, bytes)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"")
    error = read_error(caught.value, server.target)
    assert isinstance(error, InvalidRequest)
    assert (error.message, error.field, error.request_id) == ("why", "top_k", "r-1")


def test_an_error_survives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(Overloaded("busy", retry_after_seconds=2.0)))  # noqa: S301
    assert (type(error), str(error), error.retry_after_seconds) == (Overloaded, "busy", 2.0)


def test_the_docstring_draws_the_whole_tree() -> None:
    kinds = [kind for kind in vars(idefics2_client).values() if isinstance(kind, type)]
    names = {kind.__name__ for kind in kinds if issubclass(kind, Idefics2Error)}
    assert all(name in str(idefics2_client.errors.__doc__) for name in names)
    assert len(names) == 9

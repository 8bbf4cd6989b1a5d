"""What the client promises, over a real connection."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from clients.python.callers import KINDS, make_caller
from fakes.generation_server import finished, make_response, queue_position, stage, text
from fakes.scripted_server import Hang
from idefics2.v1.generation_pb2 import CountTokensResponse, GenerateRequest
from idefics2_client import (
    AsyncClient,
    AuthenticationFailed,
    Cancelled,
    Client,
    InvalidRequest,
    ServiceUnavailable,
)

if TYPE_CHECKING:
    from fakes.request_server import RequestServer

URL = "https://example.com/cat.png"


async def test_generate_returns_the_whole_answer(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(make_response("A cat."))
    assert await caller.generate(URL, "What?", temperature=0) == make_response("A cat.")
    assert server.requests == [GenerateRequest(image_url=URL, prompt="What?", temperature=0)]


async def test_stream_yields_every_event_in_order(server: RequestServer, caller: AsyncClient) -> None:
    events = [stage("QUEUED"), queue_position(0), stage("DECODE"), text("A cat."), finished("A cat.")]
    server.expect(*events)
    assert [event async for event in caller.stream(URL, "What?", seed=7)] == events
    assert server.requests == [GenerateRequest(image_url=URL, prompt="What?", seed=7)]


async def test_count_tokens_returns_the_counts(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(CountTokensResponse(num_prompt_tokens=80, fits=True))
    counts = await caller.count_tokens(URL, "What?", max_new_tokens=9)
    assert counts == CountTokensResponse(num_prompt_tokens=80, fits=True)
    assert server.requests == [GenerateRequest(image_url=URL, prompt="What?", max_new_tokens=9)]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_to_be_sent_along_is_asked_for_each_call(server: RequestServer, kind: str) -> None:
    traces = iter(("00-1-2-01", "00-3-4-01"))
    server.expect(make_response("A cat."))
    server.expect(finished("A cat."))
    async with make_caller(kind, server.target, metadata=lambda: (("traceparent", next(traces)),)) as caller:
        await caller.generate(URL, "What?")
        assert [event async for event in caller.stream(URL, "What?")] == [finished("A cat.")]
    assert [call["traceparent"] for call in server.metadata] == ["00-1-2-01", "00-3-4-01"]
    assert {call["authorization"] for call in server.metadata} == {"Key local.key"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("api_key", "sent"), [("local.key", "Key local.key"), ("", "Key mine")])
async def test_what_is_sent_along_does_not_spoil_the_key(
    server: RequestServer, kind: str, api_key: str, sent: str
) -> None:
    server.expect(make_response("A cat."))
    along = (("authorization", "Key mine"), ("traceparent", "00-1-2-01"))
    async with make_caller(kind, server.target, api_key=api_key, metadata=lambda: along) as caller:
        await caller.generate(URL, "What?")
    assert {name: server.metadata[0][name] for name, _ in along} == dict(along) | {"authorization": sent}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "value"), [("traceparent", "é"), ("a", "a\nb"), ("Upper", "a"), ("a-bin", "a")]
)
async def test_what_cannot_be_sent_along_is_the_callers_mistake_and_no_lost_connection(
    server: RequestServer, kind: str, name: str, value: str
) -> None:
    async with make_caller(kind, server.target, metadata=lambda: ((name, value),)) as caller:
        for call in (caller.generate(URL, "What?"), caller.subscribe(URL, "What?"), caller.cancel("r-1")):
            with pytest.raises(InvalidRequest, match=f"the metadata {name} cannot be sent") as caught:
                await call
            assert caught.value.field == "metadata"
        with pytest.raises(InvalidRequest):
            assert [event async for event in caller.watch("r-1")] == []
    assert server.requests == []


async def test_closing_a_stream_cancels_the_call(server: RequestServer, caller: AsyncClient) -> None:
    server.expect(text("A"), Hang())
    events = caller.stream(URL, "What?")
    assert await anext(events) == text("A")
    await events.aclose()
    await asyncio.to_thread(server.wait_until_cancelled)


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_the_client_cancels_its_calls_and_refuses_others(
    server: RequestServer, kind: str
) -> None:
    server.expect(text("A"), Hang())
    async with make_caller(kind, server.target) as caller:
        events = caller.stream(URL, "What?")
        await anext(events)
    await asyncio.to_thread(server.wait_until_cancelled)
    with pytest.raises(Cancelled):
        await anext(events)
    with pytest.raises(Cancelled, match="closed"):
        await caller.generate(URL, "What?")


async def test_cancelling_the_task_cancels_the_call(server: RequestServer) -> None:
    server.expect(Hang())
    async with make_caller("asyncio", server.target) as caller:
        task = asyncio.create_task(caller.generate(URL, "What?"))
        await asyncio.to_thread(server.wait_until_called)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.to_thread(server.wait_until_cancelled)


def test_an_asyncio_client_can_be_made_before_there_is_a_loop(server: RequestServer) -> None:
    assert AsyncClient(server.target).target == server.target


def test_a_stream_that_nobody_reads_is_never_called(server: RequestServer, client: Client) -> None:
    client.stream(URL, "What?").close()
    assert server.requests == []


@pytest.mark.parametrize(
    ("argument", "environment", "sent"),
    [
        ("a.1", {"IDEFICS2_API_KEY": "b.2", "FAL_KEY": "c.3"}, "Key a.1"),
        (None, {"IDEFICS2_API_KEY": "b.2", "FAL_KEY": "c.3"}, "Key b.2"),
        (None, {"IDEFICS2_API_KEY": "", "FAL_KEY": "c.3\n"}, "Key c.3"),
        (None, {"FAL_KEY": "c:3"}, "Key c.3"),
        ("a:b:c", {}, "Key a:b:c"),
        (None, {"FAL_KEY": "c.3", "FAL_KEY_ID": "d", "FAL_KEY_SECRET": "4"}, "Key c.3"),
        (None, {"FAL_KEY_ID": "d", "FAL_KEY_SECRET": "4"}, "Key d.4"),
        (None, {"FAL_KEY_ID": "d"}, None),
        (None, {}, None),
    ],
)
def test_the_key_is_the_first_of_argument_and_variables(
    server: RequestServer,
    monkeypatch: pytest.MonkeyPatch,
    argument: str | None,
    environment: dict[str, str],
    sent: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    server.expect(make_response(""))
    with Client(server.target, argument) as client:
        client.generate(URL, "What?")
    assert server.metadata[0].get("authorization") == sent


def test_a_key_that_no_header_can_hold_is_refused_and_not_shown() -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        Client(api_key="geheim\nschlüssel")
    assert "geheim" not in str(caught.value)


def test_the_target_is_the_argument_else_the_variable_else_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with Client() as client:
        assert client.target == "127.0.0.1:50051"
    monkeypatch.setenv("IDEFICS2_CLIENT_TARGET", "gpu:1")
    with Client() as client:
        assert client.target == "gpu:1"
    with Client("gpu:2") as client:
        assert client.target == "gpu:2"


def test_white_space_around_a_target_is_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEFICS2_CLIENT_TARGET", " gpu:1\n")  # as a file gives it
    with Client(" ") as client:
        assert client.target == "gpu:1"


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(ServiceUnavailable) as caught:
        client.generate(URL, "What?")
    assert "127.0.0.1:1" in caught.value.message
    assert "idefics2-service serve" in caught.value.message
    assert "IDEFICS2_CLIENT_TARGET" in caught.value.message
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_importing_the_client_imports_nothing_that_is_slow_or_of_the_service() -> None:
    names = {"rich", "PIL", "numpy", "torch", "idefics2_service", "idefics2_engine"}
    program = f"import sys, idefics2_client; print({names} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_an_option_that_there_is_not_is_a_type_error() -> None:
    options: Any = {"retires": None}
    with pytest.raises(TypeError, match="retires"):
        Client(**options)

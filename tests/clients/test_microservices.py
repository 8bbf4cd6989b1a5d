"""A microservice of each language passes on its caller's deadline and trace, and leaves when it leaves."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from clients.languages import Language, find_selected
from fakes.generation_server import GenerationServer, make_response
from fakes.scripted_server import PATIENCE_SECONDS, Hang, make_status
from google.protobuf.wrappers_pb2 import BytesValue, StringValue
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRACE = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}
ANSWER = "A red circle."
STATUSES = {429: "RESOURCE_EXHAUSTED", 400: "INVALID_ARGUMENT", 504: "DEADLINE_EXCEEDED"}
_SELECTED = [language for language in find_selected() if language.microservice]


class HttpCaller:
    """Calls a microservice over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def describe(self, picture: bytes, seconds: float | None = None) -> str:
        """Return what it says, or the name of the code that it refuses with."""
        headers = TRACE if seconds is None else {**TRACE, "x-timeout-ms": str(round(seconds * 1000))}
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
            answer = await client.post(f"{self._url}/describe", content=picture, headers=headers)
        return answer.text.strip() if answer.is_success else STATUSES[answer.status_code]


class GrpcCaller:
    """Calls a microservice over gRPC."""

    def __init__(self, url: str) -> None:
        self._target = url.removeprefix("grpc://")

    async def describe(self, picture: bytes, seconds: float | None = None) -> str:
        """Return what it says, or the name of the code that it refuses with."""
        async with grpc.aio.insecure_channel(self._target) as channel:
            call: Any = channel.unary_unary(
                "/example.Describer/Describe",
                request_serializer=BytesValue.SerializeToString,
                response_deserializer=StringValue.FromString,
            )
            try:
                answer = await call(BytesValue(value=picture), metadata=tuple(TRACE.items()), timeout=seconds)
            except grpc.aio.AioRpcError as error:
                return error.code().name
        return str(answer.value)


@pytest.fixture(scope="module", params=_SELECTED, ids=lambda language: language.name)
async def running(request: pytest.FixtureRequest) -> AsyncIterator[tuple[GenerationServer, str]]:
    """The microservice of each language, and what it calls."""
    with GenerationServer() as server:
        async with run_microservice(request.param, server.target) as url:
            yield server, url


@pytest.fixture
def server(running: tuple[GenerationServer, str]) -> GenerationServer:
    """What the microservice calls, as if nobody had called it before."""
    server, _ = running
    for seen in (server.requests, server.metadata, server.seconds_left):
        seen.clear()
    server.called.clear()
    server.cancelled.clear()
    return server


@pytest.fixture
def caller(running: tuple[GenerationServer, str]) -> HttpCaller | GrpcCaller:
    """Whoever calls the microservice."""
    _, url = running
    return (GrpcCaller if url.startswith("grpc") else HttpCaller)(url)


@asynccontextmanager
async def run_microservice(language: Language, target: str) -> AsyncIterator[str]:
    """Start it on any free port, and yield its URL, which it says when it listens."""
    variables = {
        **clean_environment(),
        **language.variables,
        "IDEFICS2_CLIENT_TARGET": target,
        "IDEFICS2_API_KEY": "local.key",
        "PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        *language.microservice, cwd=language.folder, env=variables, stdout=PIPE
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_SECONDS)
        yield line.decode().removeprefix("listening on ").strip()
    finally:
        process.kill()
        await process.wait()


async def test_no_other_machine_reaches_it(running: tuple[GenerationServer, str]) -> None:
    _, url = running
    port = httpx.URL(url).port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.2", port)  # an address of this machine that is not 127.0.0.1


async def test_it_passes_deadline_and_trace_on(
    caller: HttpCaller | GrpcCaller, server: GenerationServer
) -> None:
    server.expect(make_response(ANSWER))
    assert await caller.describe(b"a picture", seconds=20) == ANSWER
    assert server.requests[0].images[0].data == b"a picture"
    assert {name: server.metadata[0].get(name) for name in TRACE} == TRACE
    assert server.metadata[0]["authorization"] == "Key local.key"
    (seconds_left,) = server.seconds_left
    assert seconds_left is not None
    assert 0 < seconds_left <= 20.5  # gRPC rounds up


async def test_it_has_a_deadline_of_its_own(
    caller: HttpCaller | GrpcCaller, server: GenerationServer
) -> None:
    server.expect(make_response(ANSWER))
    assert await caller.describe(b"a picture") == ANSWER
    (seconds_left,) = server.seconds_left
    assert seconds_left is not None
    assert 0 < seconds_left <= 61


async def test_it_leaves_the_model_when_its_caller_leaves(
    caller: HttpCaller | GrpcCaller, server: GenerationServer
) -> None:
    server.expect(Hang())
    call = asyncio.create_task(caller.describe(b"a picture"))
    await asyncio.to_thread(server.wait_until_called)
    call.cancel()
    await asyncio.to_thread(server.wait_until_cancelled)


async def test_it_says_why_there_is_no_answer(
    caller: HttpCaller | GrpcCaller, server: GenerationServer
) -> None:
    server.expect(make_status("RESOURCE_EXHAUSTED", "QUEUE_FULL", "why", retry_after_seconds=0.5))
    assert await caller.describe(b"a picture") == "RESOURCE_EXHAUSTED"
    server.expect(make_status("INVALID_ARGUMENT", "FILE_NOT_AN_IMAGE", "why", field="images[0].data"))
    assert await caller.describe(b"no picture") == "INVALID_ARGUMENT"
    server.expect(Hang())
    assert await caller.describe(b"a picture", seconds=0.3) == "DEADLINE_EXCEEDED"
    await asyncio.to_thread(server.wait_until_cancelled)

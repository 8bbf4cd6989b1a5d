"""What the service refuses, gRPC itself asks again, where the caller's own service config says so."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from harness import Harness, describe_red_circle, run_on_fake_backend
from idefics2.v1 import generation_pb2, generation_pb2_grpc
from idefics2_service.errors import (
    AttemptLost,
    AttemptsExhausted,
    BackendUnavailable,
    CallsFull,
    QueueFull,
    RequestMalformed,
    ServiceError,
)
from idefics2_service.rpc.generation import GenerationServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.message import Message
    from harness import MakeSettings

ANSWER = generation_pb2.GenerateResponse(output="A cat.")
EVENT = generation_pb2.Event(sequence=1)
PASSING: list[type[ServiceError]] = [BackendUnavailable, QueueFull, CallsFull]
KINDS = ("blocking", "asyncio")
_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.01s",
    "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
}
_CONFIG = {"methodConfig": [{"name": [{"service": "idefics2.v1.GenerationService"}], "retryPolicy": _POLICY}]}
OPTIONS = (("grpc.service_config", json.dumps(_CONFIG)),)


class Methods:
    """What the service's methods do, instead of asking a model."""

    def __init__(self) -> None:
        """Begin without a script."""
        self.scripts: deque[tuple[Message | ServiceError, ...]] = deque()
        self.attempts: list[str | None] = []
        """How many attempts were made before each, as gRPC says."""

    def expect(self, *steps: Message | ServiceError) -> None:
        """Answer the next attempt so."""
        self.scripts.append(steps)

    async def stream(
        self, _: Any, __: Message, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        """Do as the script says."""
        told = {key: str(value) for key, value in context.invocation_metadata() or ()}
        self.attempts.append(told.get("grpc-previous-rpc-attempts"))
        for step in self.scripts.popleft():
            if isinstance(step, ServiceError):
                raise step
            yield step

    async def answer(self, *given: Any) -> Any:
        """Do as the script says, which has one answer."""
        return await anext(self.stream(*given))


@pytest.fixture(scope="module")
async def told(make_settings: MakeSettings) -> AsyncIterator[tuple[Harness, Methods]]:
    """A service for all tests, and the script of what its methods do."""
    methods = Methods()

    async def answer(*given: Any) -> Any:
        return await methods.answer(*given)

    def stream(*given: Any) -> AsyncIterator[Any]:
        return methods.stream(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GenerationServicer, "Generate", answer)
        patch.setattr(GenerationServicer, "GenerateStream", stream)
        async with run_on_fake_backend(make_settings()) as harness:
            yield harness, methods


@pytest.fixture
def harness(told: tuple[Harness, Methods]) -> Harness:
    """The service."""
    return told[0]


@pytest.fixture
def methods(told: tuple[Harness, Methods]) -> Methods:
    """The script, empty."""
    told[1].scripts.clear()
    told[1].attempts.clear()
    return told[1]


async def ask(kind: str, harness: Harness, method: str) -> tuple[list[Any], dict[str, Any]]:
    """Call over a channel of its own that repeats; return messages and initial metadata."""
    if kind == "blocking":
        return await asyncio.to_thread(_ask, harness, method)
    async with grpc.aio.insecure_channel(harness.app.grpc_address, OPTIONS) as channel:
        call = getattr(generation_pb2_grpc.GenerationServiceStub(channel), method)(
            describe_red_circle(), metadata=harness.metadata
        )
        messages = [message async for message in call] if "Stream" in method else [await call]
        return messages, dict(await call.initial_metadata())


def _ask(harness: Harness, method: str) -> tuple[list[Any], dict[str, Any]]:
    with grpc.insecure_channel(harness.app.grpc_address, OPTIONS) as channel:
        stub = getattr(generation_pb2_grpc.GenerationServiceStub(channel), method)
        if "Stream" in method:
            call = stub(describe_red_circle(), metadata=harness.metadata)
            return list(call), dict(call.initial_metadata())
        answer, call = stub.with_call(describe_red_circle(), metadata=harness.metadata)
        return [answer], dict(call.initial_metadata())


def read_id(error: grpc.aio.AioRpcError) -> object:
    """Read what a refusal calls its request."""
    trailing: dict[str, Any] = dict(error.trailing_metadata())  # type: ignore[arg-type]
    return trailing["x-request-id"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refusal", PASSING)
@pytest.mark.parametrize(("method", "answer"), [("Generate", ANSWER), ("GenerateStream", EVENT)])
async def test_a_refusal_before_the_first_message_is_repeated(
    harness: Harness, methods: Methods, kind: str, refusal: type[ServiceError], method: str, answer: Message
) -> None:
    methods.expect(refusal("why", retry_after_seconds=0.01))
    methods.expect(refusal("why", retry_after_seconds=0.01))
    methods.expect(answer)
    messages, initial = await ask(kind, harness, method)
    assert messages == [answer]
    assert initial["x-request-id"]
    assert methods.attempts == [None, "1", "2"]


@pytest.mark.parametrize("kind", KINDS)
async def test_one_after_it_is_not(harness: Harness, methods: Methods, kind: str) -> None:
    methods.expect(EVENT, BackendUnavailable("why", retry_after_seconds=0.01))
    with pytest.raises(grpc.RpcError) as caught:
        await ask(kind, harness, "GenerateStream")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert methods.attempts == [None]


@pytest.mark.parametrize("refusal", [AttemptsExhausted("why"), AttemptLost("why"), RequestMalformed("why")])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_will_be_answered_so_again_is_not(
    harness: Harness, methods: Methods, kind: str, refusal: ServiceError
) -> None:
    methods.expect(refusal)
    with pytest.raises(grpc.RpcError):
        await ask(kind, harness, "Generate")
    assert methods.attempts == [None]


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_a_refusal_names_its_request_behind_it_and_nothing_before(
    harness: Harness, methods: Methods, method: str
) -> None:
    methods.expect(RequestMalformed("why"))
    call = getattr(harness.stub, method)(
        describe_red_circle(), metadata=(*harness.metadata, ("x-request-id", "order-66"))
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if "Stream" in method else call)
    assert dict(caught.value.initial_metadata()) == {}
    assert read_id(caught.value) == "order-66"


async def test_a_call_without_a_key_names_its_request_too(harness: Harness) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await harness.stub.Generate(Empty())
    assert read_id(caught.value)


async def test_a_stream_without_a_message_names_its_request(harness: Harness, methods: Methods) -> None:
    methods.expect()
    call = harness.stream(describe_red_circle())
    assert [event async for event in call] == []
    assert dict(await call.initial_metadata())["x-request-id"]

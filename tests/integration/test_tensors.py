"""What a plain Triton client is told that does not keep to ARCHITECTURE.md, "The model's tensors"."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from idefics2_service.triton.tensors import RequestWriter
from pictures import DESCRIBE, red_circle
from processes import Started, patience, running_service
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tritonclient.grpc import service_pb2

MOST_TOKENS, MOST_REQUESTS = 20, 2
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SECRET = "What did the patient say?"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A service with a Triton whose model allows few tokens, and few requests at a time."""
    variables = {
        "IDEFICS2_MODEL_MAX_NEW_TOKENS": str(MOST_TOKENS),
        "IDEFICS2_MODEL_MAX_OPEN_REQUESTS": str(MOST_REQUESTS),
    }
    with running_service(tmp_path_factory.mktemp("service"), **variables) as service:
        yield Started(service, service.wait_until_ready())


@pytest.fixture
async def triton(started: Started) -> AsyncIterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """Triton's own interface."""
    async with grpc.aio.insecure_channel(started.triton_urls[-1]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


class Stream:
    """One request and what comes of it."""

    def __init__(
        self, triton: service_pb2_grpc.GRPCInferenceServiceStub, request: service_pb2.ModelInferRequest
    ) -> None:
        """Send it."""
        self._call = triton.ModelStreamInfer(iter([request]))

    async def read(self) -> list[dict[str, Any]]:
        """Read the events of one response."""
        told = await self._call.read()
        assert not told.error_message
        response = told.infer_response
        index = next(i for i, output in enumerate(response.outputs) if output.name == "events")
        events: list[dict[str, Any]] = json.loads(response.raw_output_contents[index][4:])
        return events

    async def read_last(self) -> dict[str, Any]:
        """Read to the last event."""
        last: dict[str, Any] = {"type": ""}
        while last["type"] in {"", "StageEntered", "TextDelta"}:
            last = (await self.read())[-1]
        return last


def read_own_log(started: Started) -> str:
    """Read what Triton and the model wrote."""
    return Path(next(line["log"] for line in started.lines if "log" in line)).read_text()


def write(name: str = "") -> RequestWriter:
    """Begin a request of some id."""
    return RequestWriter("idefics2", name)


def ask(name: str = "") -> RequestWriter:
    """Ask a question and set nothing else."""
    return write(name).texts("prompt", DESCRIBE.encode()).texts("image", red_circle())


async def test_cancelling_without_a_target_is_refused_and_ends_nobody(
    triton: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    writer = (
        ask().numbers("min_new_tokens", "INT32", MOST_TOKENS).numbers("max_new_tokens", "INT32", MOST_TOKENS)
    )
    nameless = Stream(triton, writer.message)
    assert (await nameless.read())[0] == {"type": "StageEntered", "stage": "PREFILL"}
    for cancel in (
        write().texts("operation", b"cancel"),
        write().texts("operation", b"cancel").texts("target", b""),
    ):
        assert await Stream(triton, cancel.message).read_last() == {
            "type": "Failed",
            "reason": "VALUE_OUT_OF_RANGE",
            "message": "target must be the id of the request to cancel, not empty",
            "field": "target",
        }
    assert (await nameless.read_last())["type"] == "Finished"


async def test_two_requests_as_one_batch_are_refused(
    triton: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    both = (
        write()
        .texts("prompt", DESCRIBE.encode(), DESCRIBE.encode())
        .texts("image", red_circle(), red_circle())
    )
    for given in both.message.inputs:
        given.shape[:] = [2, 1]
    assert await Stream(triton, both.message).read_last() == {
        "type": "Failed",
        "reason": "REQUEST_MALFORMED",
        "message": "prompt must have a batch dimension of 1, not of 2: send one request each",
        "field": "prompt",
    }


async def test_an_answer_of_which_nothing_is_said_is_no_longer_than_the_operator_allows(
    triton: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    assert (await Stream(triton, ask().message).read_last())["type"] == "Finished"
    too_long = ask().numbers("max_new_tokens", "INT32", MOST_TOKENS + 1)
    refused = await Stream(triton, too_long.message).read_last()
    assert refused["message"] == f"max_new_tokens must be 1 to {MOST_TOKENS}, not {MOST_TOKENS + 1}"


async def test_what_the_model_says_is_wrong_is_in_the_services_log_and_names_the_request(
    started: Started, triton: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    message = write("one/4711").texts("prompt", SECRET.encode()).texts("stop", b"\xff").message
    message.parameters["request_id"].string_param = "one"
    message.parameters["traceparent"].string_param = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
    assert (await Stream(triton, message).read_last())["reason"] == "REQUEST_MALFORMED"
    for _ in patience("the line to be passed on"):
        if any("one" in line.get("request_id", "") for line in started.lines):
            break
    (line,) = (line for line in started.lines if line.get("request_id") == "one")
    assert (line["event"], line["level"], line["trace_id"]) == ("could not read a request", "error", TRACE_ID)
    assert line["exception"][0]["exc_type"] == "UnicodeDecodeError"
    own = read_own_log(started)
    assert line in [json.loads(line) for line in own.splitlines() if line.startswith("{")]
    assert "Traceback" not in own
    assert SECRET not in own + started.service.log.read_text()


async def test_more_requests_than_may_be_open_are_refused_and_the_others_answered(
    triton: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    streams = [Stream(triton, ask().message) for _ in range(10 * MOST_REQUESTS)]
    lasts = await asyncio.gather(*(stream.read_last() for stream in streams))
    kinds = Counter(last["type"] for last in lasts)
    assert kinds["Finished"] >= MOST_REQUESTS
    assert {last["reason"] for last in lasts if last["type"] == "Failed"} == {"QUEUE_FULL"}
    assert (await Stream(triton, ask().message).read_last())["type"] == "Finished"

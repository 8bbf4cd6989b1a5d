"""What a plain Triton client is told by the model: see ARCHITECTURE.md, "The model's tensors"."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from engine_figures import EngineFigures
from idefics2_service.triton.tensors import RequestWriter
from pictures import DESCRIBE, draw_red_circle, encode, red_circle
from PIL import Image
from processes import PATIENCE_SECONDS, Started, patience, running_service
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import psutil
    from tritonclient.grpc import service_pb2

MOST_TOKENS, MOST_REQUESTS = 20, 2
ENDLESS_TOKENS = 1500
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SECRET = "What did the patient say?"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A service with a Triton whose model allows few tokens, few requests and one picture at a time."""
    variables = {
        "IDEFICS2_MODEL_MAX_NEW_TOKENS": str(MOST_TOKENS),
        "IDEFICS2_MODEL_MAX_OPEN_REQUESTS": str(MOST_REQUESTS),
        "IDEFICS2_MODEL_NUM_IMAGE_WORKERS": "1",
        "IDEFICS2_MODEL_MAX_IMAGE_SECONDS": str(PATIENCE_SECONDS),
    }
    with running_service(tmp_path_factory.mktemp("service"), **variables) as service:
        yield Started(service, service.wait_until_ready())


@pytest.fixture
async def triton(narrow: Started) -> AsyncIterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """Triton's own interface."""
    async with grpc.aio.insecure_channel(narrow.tritons[-1].url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
async def long_winded(started: Started) -> AsyncIterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """The same where many tokens are allowed."""
    async with grpc.aio.insecure_channel(started.tritons[-1].url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
async def engine(started: Started) -> AsyncIterator[EngineFigures]:
    """What is told by the engine of `long_winded`."""
    async with httpx.AsyncClient() as http:
        yield EngineFigures(http, started.tritons[-1].metrics_url)


class Stream:
    """One request and what comes of it."""

    def __init__(
        self, triton: service_pb2_grpc.GRPCInferenceServiceStub, request: service_pb2.ModelInferRequest
    ) -> None:
        """Send it."""
        self._call = triton.ModelStreamInfer(iter([request]))

    def cut(self) -> None:
        """Let go of it."""
        self._call.cancel()

    async def read(self) -> list[dict[str, Any]]:
        """Read the events of one response."""
        told = await self._call.read()
        assert not told.error_message
        response = told.infer_response
        index = next(i for i, output in enumerate(response.outputs) if output.name == "events")
        events: list[dict[str, Any]] = json.loads(response.raw_output_contents[index][4:])
        return events

    async def read_until_text(self) -> None:
        """Read until something is said."""
        while not any(event["type"] == "TextDelta" for event in await self.read()):
            pass

    async def read_last(self) -> dict[str, Any]:
        """Read to the last event."""
        last: dict[str, Any] = {"type": ""}
        while last["type"] in {"", "StageEntered", "TextDelta"}:
            last = (await self.read())[-1]
        return last


def read_own_log(service: Started) -> str:
    """Read what Triton and the model wrote."""
    return service.tritons[-1].log.read_text()


def write(name: str = "") -> RequestWriter:
    """Begin a request of some id."""
    return RequestWriter("idefics2", name)


def ask(name: str = "") -> RequestWriter:
    """Ask a question and set nothing else."""
    return write(name).texts("prompt", DESCRIBE.encode()).texts("image", red_circle())


def ask_without_end(name: str = "") -> RequestWriter:
    """Ask for something that goes on for thousands of steps."""
    return (
        ask(name)
        .numbers("temperature", "FP64", 10)
        .numbers("min_new_tokens", "INT32", ENDLESS_TOKENS)
        .numbers("max_new_tokens", "INT32", ENDLESS_TOKENS)
    )


async def test_cancelling_ends_the_request_that_it_names(
    long_winded: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    stream = Stream(long_winded, ask_without_end("one").message)
    await stream.read_until_text()
    cancel = write().texts("operation", b"cancel").texts("target", b"one")
    assert await Stream(long_winded, cancel.message).read_last() == {"type": "Alive"}
    assert await stream.read_last() == {"type": "Cancelled"}


async def test_a_stream_that_is_cut_frees_its_work(
    long_winded: service_pb2_grpc.GRPCInferenceServiceStub, engine: EngineFigures
) -> None:
    stream = Stream(long_winded, ask_without_end().message)
    await stream.read_until_text()
    await engine.catch_up()
    before = await engine.read("requests_cancelled_total")
    stream.cut()
    await engine.wait_for("requests_cancelled_total", before + 1)
    assert await engine.read("num_requests_running") == 0


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
            "was_lost_before": False,
            "bound": "",
            "value": "",
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
        "was_lost_before": False,
        "bound": "",
        "value": "",
    }


async def test_an_answer_of_which_nothing_is_said_is_no_longer_than_the_operator_allows(
    triton: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    assert (await Stream(triton, ask().message).read_last())["type"] == "Finished"
    too_long = ask().numbers("max_new_tokens", "INT32", MOST_TOKENS + 1)
    refused = await Stream(triton, too_long.message).read_last()
    assert refused["message"] == f"max_new_tokens must be 1 to {MOST_TOKENS}, not {MOST_TOKENS + 1}"


async def test_what_the_model_says_is_wrong_is_in_the_services_log_and_names_the_request(
    narrow: Started, triton: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    message = write("one/4711").texts("prompt", SECRET.encode()).texts("stop", b"\xff").message
    message.parameters["request_id"].string_param = "one"
    message.parameters["traceparent"].string_param = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
    assert (await Stream(triton, message).read_last())["reason"] == "REQUEST_MALFORMED"
    for _ in patience("the line to be passed on"):
        if any("one" in line.get("request_id", "") for line in narrow.lines):
            break
    (line,) = (line for line in narrow.lines if line.get("request_id") == "one")
    assert (line["event"], line["level"], line["trace_id"]) == ("could not read a request", "error", TRACE_ID)
    assert line["exception"][0]["exc_type"] == "UnicodeDecodeError"
    own = read_own_log(narrow)
    assert line in [json.loads(line) for line in own.splitlines() if line.startswith("{")]
    assert "Traceback" not in own
    assert SECRET not in own + narrow.service.log.read_text()


def find_image_worker(service: Started) -> psutil.Process:
    """Find the process that decodes pictures, where there is one."""
    (worker,) = (p for p in service.service.tree() if "idefics2_engine.image_worker" in p.cmdline())
    return worker


def show(share: str, *pictures: bytes) -> service_pb2.ModelInferRequest:
    """Show pictures for a share."""
    message = write().texts("prompt", DESCRIBE.encode()).texts("image", *pictures).message
    message.parameters["share"].string_param = share
    return message


async def test_shares_take_turns_when_their_pictures_are_decoded(
    narrow: Started, triton: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    many = [encode(Image.new("L", (4000, 3000), shade)) for shade in range(8)]
    worker = find_image_worker(narrow)
    async with httpx.AsyncClient() as http:
        engine = EngineFigures(http, narrow.tritons[-1].metrics_url)
        worker.suspend()
        try:
            first = Stream(triton, show("one", *many))
            await engine.wait_for("pixel_bytes", 1)
            second = Stream(triton, show("another", encode(draw_red_circle((61, 43)))))
            await engine.wait_for("pixel_bytes", 1 + await engine.read("pixel_bytes"))
        finally:
            worker.resume()
    begun = [asyncio.create_task(stream.read()) for stream in (first, second)]
    await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
    assert [task.done() for task in begun] == [False, True]
    for stream, task in zip((first, second), begun, strict=True):
        assert (await task)[0] == {"type": "StageEntered", "stage": "PREFILL"}
        assert (await stream.read_last())["type"] == "Finished"


async def test_more_requests_than_may_be_open_are_refused_and_the_others_answered(
    triton: service_pb2_grpc.GRPCInferenceServiceStub,
) -> None:
    streams = [Stream(triton, ask().message) for _ in range(10 * MOST_REQUESTS)]
    lasts = await asyncio.gather(*(stream.read_last() for stream in streams))
    kinds = Counter(last["type"] for last in lasts)
    assert kinds["Finished"] >= MOST_REQUESTS
    assert {last["reason"] for last in lasts if last["type"] == "Failed"} == {"QUEUE_FULL"}
    assert (await Stream(triton, ask().message).read_last())["type"] == "Finished"

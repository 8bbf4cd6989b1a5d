"""One and the same question, asked through the front and asked of Triton directly; and an endless one.

Both ways send a message that was made beforehand, and stop the clock when the end of the answer is known.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from harness import describe_red_circle, make_files, talk_without_end
from idefics2.v1 import generation_pb2_grpc
from idefics2_service.backend import BackendFinished
from idefics2_service.events import TextDelta
from idefics2_service.requests import GenerateInput, ImageSource, RequestName, ResolvedRequest
from idefics2_service.settings import Settings
from idefics2_service.triton import tensors
from idefics2_service.validation import validate
from pictures import DESCRIBE, RED_CIRCLE, red_circle
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    import grpc

MAX_CALL_SECONDS = 10.0
MAX_ENDLESS_SECONDS = 30.0  # more than it may take to be told that it will not end


class WrongAnswer(Exception):
    """The figures would be those of something else."""


class FrontCalls:
    """Calls through the front."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        self._request, self._endless_request = describe_red_circle(), talk_without_end()
        self._num_streams = 0
        self._stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
        metadata = (("authorization", f"Key {api_key}"),)
        self._options: dict[str, Any] = {"metadata": metadata, "timeout": MAX_CALL_SECONDS}

    async def answer(self) -> float:
        """Call Generate; return the seconds it took."""
        started = time.perf_counter()
        response = await self._stub.Generate(self._request, **self._options)
        seconds = time.perf_counter() - started
        _check(response.output)
        return seconds

    async def stream(self) -> list[tuple[float, int]]:
        """Call GenerateStream about a new picture.

        Returns:
            The seconds to each text delta, and how many tokens there were then.

        """
        request = describe_red_circle()
        self._num_streams += 1
        request.images[0].data += self._num_streams.to_bytes(4, "big")  # a file that nobody has shown before
        deltas, started, text = [], time.perf_counter(), ""
        async for event in self._stub.GenerateStream(request, **self._options):
            if event.WhichOneof("event") == "text_delta":
                deltas.append((time.perf_counter() - started, event.text_delta.num_generated_tokens))
                text += event.text_delta.text
        _check(text)
        return deltas

    async def begin_endless(self) -> Any:
        """Call GenerateStream for an answer that does not end; return the call once text comes."""
        call = self._stub.GenerateStream(
            self._endless_request, **{**self._options, "timeout": MAX_ENDLESS_SECONDS}
        )
        while not (await call.read()).HasField("text_delta"):
            pass
        return call


class TritonCalls:
    """Calls of Triton, with the tensors that the front would send."""

    def __init__(self, channel: grpc.aio.Channel, request: ResolvedRequest) -> None:
        self._message = tensors.generate_request(Settings().triton.model_name, "bench", request)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    async def answer(self) -> float:
        """Call ModelStreamInfer on a stream of its own; return the seconds to the last event."""
        started, seconds, text = time.perf_counter(), 0.0, ""
        call = self._stub.ModelStreamInfer(timeout=MAX_CALL_SECONDS)
        await call.write(self._message)
        await call.done_writing()
        async for response in call:
            for event in tensors.read_events(response.infer_response, ()):
                if isinstance(event, TextDelta):
                    text += event.text
                elif isinstance(event, BackendFinished):
                    seconds = time.perf_counter() - started  # the stream ends later, on no one's time
        _check(text)
        return seconds


async def resolve_request() -> ResolvedRequest:
    """Make of FrontCalls' request what the front makes of it."""
    limits = Settings().limits
    source = ImageSource("images[0].data", data=red_circle())
    request = validate(GenerateInput(DESCRIBE, (source,), temperature=0), limits)
    image = await make_files(limits).resolve(source, "bench", request.max_image_bytes)
    return ResolvedRequest(RequestName("bench", "bench"), request, (image,))


def _check(text: str) -> None:
    if text != RED_CIRCLE:
        raise WrongAnswer(f"the model said {text!r}, not {RED_CIRCLE!r}")

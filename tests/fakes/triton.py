"""A Triton without a model: a real gRPC server that speaks the model's tensors as its script says."""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import grpc
from idefics2_engine.requests import LOST_BEFORE
from pictures import MAX_CONTEXT_TOKENS, NUM_IMAGE_TOKENS, NUM_PATCHES, NUM_PROMPT_TOKENS
from tritonclient.grpc import service_pb2, service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fakes.script import Answer, Script

Event = dict[str, object]


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # untyped
    """Listens on a free port of loopback, as an async context."""

    def __init__(self, script: Script) -> None:
        """Set up, listen later."""
        self._script = script
        self._held: dict[str, asyncio.Event] = {}
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self.generate_requests: list[service_pb2.ModelInferRequest] = []
        self.generate_headers: list[dict[str, str]] = []

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cut everything."""
        await self._server.stop(0)

    async def ModelStreamInfer(  # noqa: N802  # Triton's name
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        """Answer each request of the stream."""
        async for request in requests:
            inputs = {tensor.name: index for index, tensor in enumerate(request.inputs)}
            texts = {
                name: request.raw_input_contents[index][4:]
                for name, index in inputs.items()
                if request.inputs[index].datatype == "BYTES"
            }
            match texts.get("operation", b"generate"):
                case b"ping":
                    yield respond({"type": "Alive"})
                case b"cancel":
                    self._held.setdefault(texts["target"].decode(), asyncio.Event()).set()
                    yield respond({"type": "Alive"})
                case b"count":
                    sizes = request.raw_input_contents[inputs["image_size"]]
                    num_images = len(struct.unpack(f"<{len(sizes) // 4}i", sizes)) // 2
                    yield respond({"type": "Counted", **_count(num_images)})
                case _:
                    self.generate_requests.append(request)
                    self.generate_headers.append(_read_headers(context))
                    async for response in self._generate(request.id, self._script.take()):
                        yield response

    async def _generate(self, model_id: str, answer: Answer) -> AsyncIterator[Any]:
        if answer.failure:
            reason, message, field = answer.failure
            yield respond({"type": "Failed", "reason": reason, "message": message, "field": field})
            return
        if answer.is_refused:
            yield respond({"type": "Failed", **asdict(LOST_BEFORE)})
            return
        yield respond({"type": "StageEntered", "stage": "PREFILL"})
        yield respond({"type": "StageEntered", "stage": "DECODE"})
        for count, piece in enumerate(answer.pieces, 1):
            yield respond({"type": "TextDelta", "text": piece, "num_generated_tokens": count})
        if answer.is_lost:
            yield service_pb2.ModelStreamInferResponse(error_message="Stub process is not healthy.")
            return
        if answer.holds:
            await self._held.setdefault(model_id, asyncio.Event()).wait()
            self._script.note_cancelled()
            yield respond({"type": "Cancelled"})
            return
        yield respond(
            {
                "type": "Finished",
                "finish_reason": answer.finish_reason,
                "num_prompt_tokens": NUM_PROMPT_TOKENS,
                "num_image_tokens": NUM_IMAGE_TOKENS,
                "num_generated_tokens": len(answer.pieces) + 1,
                "num_cached_tokens": 0,
                "num_cached_images": 0,
                "seconds": dict.fromkeys(("preprocess", "queue", "vision", "prefill", "decode"), 0.0),
            }
        )


def respond(*events: Event) -> service_pb2.ModelStreamInferResponse:
    """Write events as the model's response; the front reads this tensor alone."""
    told = json.dumps(events).encode()
    response = service_pb2.ModelInferResponse(model_name="idefics2")
    response.outputs.add(name="events", datatype="BYTES", shape=[1, 1])
    response.raw_output_contents.append(struct.pack("<I", len(told)) + told)
    return service_pb2.ModelStreamInferResponse(infer_response=response)


def _read_headers(context: grpc.aio.ServicerContext[Any, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in context.invocation_metadata() or ()}


def _count(num_images: int) -> Event:
    return {
        "num_prompt_tokens": NUM_PROMPT_TOKENS,
        "num_image_tokens": NUM_IMAGE_TOKENS * num_images,
        "num_image_patches": NUM_PATCHES * num_images,
        "max_context_tokens": MAX_CONTEXT_TOKENS,
    }

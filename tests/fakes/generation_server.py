"""A GenerationService that answers by script, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakes.scripted_server import ScriptedServer
from idefics2.v1 import generation_pb2, generation_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc


class GenerationServer(ScriptedServer, generation_pb2_grpc.GenerationServiceServicer):
    """Answers each call with the next script."""

    def _add_services(self, server: grpc.Server) -> None:
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(self, server)

    def Generate(  # noqa: N802  # the proto's name
        self, request: generation_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> generation_pb2.GenerateResponse:
        return self._answer(request, context, generation_pb2.GenerateResponse)

    def GenerateStream(  # noqa: N802  # the proto's name
        self, request: generation_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[generation_pb2.Event]:
        return self._play(request, context)

    def CountTokens(  # noqa: N802  # the proto's name
        self, request: generation_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> generation_pb2.CountTokensResponse:
        return self._answer(request, context, generation_pb2.CountTokensResponse)


def stage(name: str) -> generation_pb2.Event:
    """Enter a stage."""
    entered = generation_pb2.StageEntered(stage=generation_pb2.Stage.Value(f"STAGE_{name}"))
    return generation_pb2.Event(stage_entered=entered)


def queue_position(position: int) -> generation_pb2.Event:
    """Wait behind so many."""
    return generation_pb2.Event(queue_position=generation_pb2.QueuePosition(position=position))


def log_line(message: str) -> generation_pb2.Event:
    """Say something."""
    return generation_pb2.Event(log_line=generation_pb2.LogLine(message=message))


def text(piece: str) -> generation_pb2.Event:
    """Write a piece of the answer."""
    return generation_pb2.Event(text_delta=generation_pb2.TextDelta(text=piece))


def finished(output: str) -> generation_pb2.Event:
    """End with the whole answer."""
    return generation_pb2.Event(finished=generation_pb2.Finished(response=make_response(output)))


def make_response(output: str) -> generation_pb2.GenerateResponse:
    """Write a whole answer: 11 tokens, of which 10 took two seconds."""
    return generation_pb2.GenerateResponse(
        output=output,
        finish_reason=generation_pb2.FINISH_REASON_END_OF_TURN,
        usage=generation_pb2.Usage(
            num_prompt_tokens=80,
            num_image_tokens=64,
            num_generated_tokens=11,
            num_cached_tokens=48,
            num_cached_images=1,
        ),
        stage_seconds=generation_pb2.StageSeconds(prefill=0.5, decode=2.0, total=2.5, vision=0.25),
        request_id="r-1",
        seed=2**64 - 1,
    )

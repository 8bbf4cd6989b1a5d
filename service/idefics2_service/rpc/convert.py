"""Between the wire's messages and the core's plain types."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from google.rpc import code_pb2
from idefics2.v1 import error_reason_pb2, generation_pb2

from idefics2_service import events
from idefics2_service.requests import GenerateInput, GenerateOutput, ImageSource, TokenCount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_service.errors import ServiceError


def read_generate_request(message: generation_pb2.GenerateRequest) -> GenerateInput:
    """Read a request; what the caller left out is None."""

    def given(field: str) -> bool:
        return message.HasField(field)  # type: ignore[arg-type]  # one of the optional fields below

    return GenerateInput(
        prompt=message.prompt,
        images=tuple(_read_images(message)),
        max_new_tokens=message.max_new_tokens if given("max_new_tokens") else None,
        repetition_penalty=message.repetition_penalty if given("repetition_penalty") else None,
        temperature=message.temperature if given("temperature") else None,
        top_p=message.top_p if given("top_p") else None,
        top_k=message.top_k if given("top_k") else None,
        seed=message.seed if given("seed") else None,
        stop=tuple(message.stop),
        split_images=message.split_images if given("split_images") else None,
        max_image_bytes=message.max_image_bytes if given("max_image_bytes") else None,
        min_new_tokens=message.min_new_tokens if given("min_new_tokens") else None,
    )


def _read_images(message: generation_pb2.GenerateRequest) -> Iterator[ImageSource]:
    if message.image_url:
        yield ImageSource("image_url", url=message.image_url)
    if message.image_sha256:
        yield ImageSource("image_sha256", sha256=message.image_sha256)
    for index, image in enumerate(message.images):
        field = f"images[{index}]"
        match image.WhichOneof("source"):
            case "url":
                yield ImageSource(f"{field}.url", url=image.url)
            case "data":
                yield ImageSource(f"{field}.data", data=image.data)
            case "sha256":
                yield ImageSource(f"{field}.sha256", sha256=image.sha256)
            case _:
                yield ImageSource(field)


def write_generate_response(output: GenerateOutput) -> generation_pb2.GenerateResponse:
    """Write a complete answer."""
    return generation_pb2.GenerateResponse(
        output=output.output,
        finish_reason=generation_pb2.FinishReason.Value(f"FINISH_REASON_{output.finish_reason.value}"),
        usage=generation_pb2.Usage(**vars(output.usage)),
        stage_seconds=generation_pb2.StageSeconds(**output.stage_seconds),
        request_id=output.request_id,
        seed=output.seed,
    )


def write_count_tokens_response(count: TokenCount, *, fits: bool) -> generation_pb2.CountTokensResponse:
    """Write what a request would cost."""
    return generation_pb2.CountTokensResponse(**vars(count), fits=fits)


def write_event(event: events.Event) -> generation_pb2.Event:
    """Write one event."""
    message = generation_pb2.Event(sequence=event.sequence)
    message.time.FromNanoseconds(int(event.time * 1e9))
    match event.happening:
        case events.QueuePosition(position):
            message.queue_position.position = position
        case events.StageEntered(stage):
            message.stage_entered.stage = generation_pb2.Stage.Value(f"STAGE_{stage.value}")
        case events.LogLine(line):
            message.log_line.message = line
        case events.TextDelta(text, num_generated_tokens):
            message.text_delta.text = text
            message.text_delta.num_generated_tokens = num_generated_tokens
        case events.Finished(output):
            message.finished.response.CopyFrom(write_generate_response(output))
        case events.Failed(error):
            message.finished.failure.CopyFrom(write_failure(error))
        case events.AttemptStarted(attempt):
            message.attempt_started.attempt = attempt
    return message


def write_failure(error: ServiceError) -> generation_pb2.Failure:
    """Write an error as those see it who watch; what its status says of it comes from here, too."""
    failure = generation_pb2.Failure(
        code=code_pb2.Code.Value(error.code),
        reason=error_reason_pb2.ErrorReason.Value(error.reason),
        message=error.message,
        field=error.field,
        metadata=error.metadata,
    )
    if error.retry_after_seconds is not None:
        # Rounded up: who came back a little too early would be refused again.
        failure.retry_delay.FromMilliseconds(math.ceil(error.retry_after_seconds * 1000))
    return failure

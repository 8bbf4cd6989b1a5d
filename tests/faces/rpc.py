"""The gRPC face."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from faces.face import Face, Failure, Happening, Picture, Question, Refused, Standing
from harness import Harness, read_refusal
from idefics2.v1 import error_reason_pb2, generation_pb2, requests_pb2, requests_pb2_grpc
from idefics2_service.events import (
    AttemptStarted,
    Finished,
    LogLine,
    QueuePosition,
    StageEntered,
    TextDelta,
)
from idefics2_service.requests import FinishReason, GenerateOutput, Stage, State, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator


class RpcFace(Face):
    """Calls by the generated stubs."""

    def __init__(self, service: Harness, authorization: str | None = None) -> None:
        """Call a service, with its key unless another `authorization` is given; empty: without any."""
        self.service = service
        given = f"Key {service.app.api_key}" if authorization is None else authorization
        self._metadata = (("authorization", given),) if given else ()
        self._requests: Any = requests_pb2_grpc.RequestServiceStub(service.channel)

    async def run(self, question: Question) -> str:
        return (await self.generate(question)).output

    async def generate(self, question: Question) -> GenerateOutput:
        with _refusing():
            response = await self.service.generate(write_message(question), metadata=self._metadata)
        return read_output(response)

    async def stream(self, question: Question) -> AsyncGenerator[str, None]:
        call = self.service.stream(write_message(question), metadata=self._metadata)
        told = ""
        try:
            with _refusing():
                async for event in call:
                    if event.HasField("text_delta"):
                        told += event.text_delta.text
                        yield event.text_delta.text
                    elif event.HasField("finished"):
                        assert event.finished.response.output == told
        finally:
            call.cancel()

    async def submit(self, question: Question, name: str = "", **options: Any) -> str:
        message = requests_pb2.SubmitRequest(input=write_message(question), request_id=name)
        for field, value in options.items():
            if field.endswith("_seconds"):
                duration = getattr(message, field.removesuffix("_seconds"))
                duration.FromNanoseconds(round(value * 1e9))
            elif field == "priority":
                message.priority = requests_pb2.Priority.Value(f"PRIORITY_{value.value}")
            else:
                setattr(message, field, value)
        with _refusing():
            answer = await self._requests.Submit(message, metadata=self._metadata)
        return str(answer.request_id)

    async def get(self, request_id: str, *, has_logs: bool = False) -> Standing:
        message = requests_pb2.GetRequestRequest(request_id=request_id, include_logs=has_logs)
        with _refusing():
            request = await self._requests.GetRequest(message, metadata=self._metadata)
        stage = generation_pb2.Stage.Name(request.stage).removeprefix("STAGE_")
        return Standing(
            state=_read_state(request.state),
            queue_position=request.queue_position if request.HasField("queue_position") else None,
            stage=None if stage == "UNSPECIFIED" else Stage(stage),
            num_generated_tokens=request.num_generated_tokens,
            logs=tuple(line.message for line in request.logs),
            error=request.failure.message,
            usage=_read_usage(request.usage) if request.HasField("usage") else None,
        )

    async def watch(self, request_id: str) -> AsyncGenerator[Happening, None]:
        message = requests_pb2.WatchRequestRequest(request_id=request_id)
        call = self._requests.WatchRequest(message, metadata=self._metadata)
        try:
            with _refusing():
                async for event in call:
                    yield _read_event(event)
        finally:
            call.cancel()

    async def result(self, request_id: str) -> GenerateOutput:
        message = requests_pb2.GetResultRequest(request_id=request_id)
        with _refusing():
            return read_output(await self._requests.GetResult(message, metadata=self._metadata))

    async def cancel(self, request_id: str) -> bool:
        message = requests_pb2.CancelRequestRequest(request_id=request_id)
        with _refusing():
            request = await self._requests.CancelRequest(message, metadata=self._metadata)
        return _read_state(request.state) not in {State.SUCCEEDED, State.FAILED}


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise Refused(read_refusal(error)) from error


def write_message(question: Question) -> generation_pb2.GenerateRequest:
    """Write a question as its message."""
    images = [_write_image(picture) for picture in question.get("images", [])]
    return generation_pb2.GenerateRequest(**{**question, "images": images})


def _write_image(picture: Picture) -> generation_pb2.Image:
    given: dict[str, Any] = {name: value for name, value in vars(picture).items() if value is not None}
    return generation_pb2.Image(**given)


def read_output(response: generation_pb2.GenerateResponse) -> GenerateOutput:
    """Read an answer in plain types."""
    reason = generation_pb2.FinishReason.Name(response.finish_reason).removeprefix("FINISH_REASON_")
    seconds = {
        field.name: getattr(response.stage_seconds, field.name)
        for field in generation_pb2.StageSeconds.DESCRIPTOR.fields
    }
    usage = _read_usage(response.usage)
    return GenerateOutput(
        response.output, FinishReason(reason), usage, seconds, response.request_id, response.seed
    )


def _read_usage(usage: generation_pb2.Usage) -> Usage:
    return Usage(**{field.name: getattr(usage, field.name) for field in usage.DESCRIPTOR.fields})


def _read_state(state: requests_pb2.State.ValueType) -> State:
    return State(requests_pb2.State.Name(state).removeprefix("STATE_"))


def _read_event(event: generation_pb2.Event) -> Happening:
    match event.WhichOneof("event"):
        case "queue_position":
            return QueuePosition(event.queue_position.position)
        case "attempt_started":
            return AttemptStarted(event.attempt_started.attempt)
        case "stage_entered":
            stage = generation_pb2.Stage.Name(event.stage_entered.stage)
            return StageEntered(Stage(stage.removeprefix("STAGE_")))
        case "log_line":
            return LogLine(event.log_line.message)
        case "text_delta":
            return TextDelta(event.text_delta.text, event.text_delta.num_generated_tokens)
    return _read_end(event.finished)


def _read_end(finished: generation_pb2.Finished) -> Finished | Failure:
    if finished.HasField("response"):
        return Finished(read_output(finished.response))
    failure = finished.failure
    return Failure(error_reason_pb2.ErrorReason.Name(failure.reason), failure.message, failure.field)

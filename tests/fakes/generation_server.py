"""A real gRPC server that answers by script."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeAlias

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from idefics2.v1 import generation_pb2, generation_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

PATIENCE_SECONDS = 30.0  # for what must happen; only a failing test waits so long


class Gate:
    """A point of a script where the server waits for the test."""

    def __init__(self) -> None:
        self._opened = threading.Event()

    def open(self) -> None:
        """Let the server go on."""
        self._opened.set()

    def wait(self) -> None:
        """Wait for `open`."""
        assert self._opened.wait(PATIENCE_SECONDS), "the test never opened the gate"


class Hang:
    """A point of a script that the server leaves only when the call is cancelled or expires."""


# One call's script. A message is sent (several only by a stream), a status ends the call.
Step: TypeAlias = "Message | status_pb2.Status | grpc.StatusCode | Gate | Hang"


class GenerationServer(generation_pb2_grpc.GenerationServiceServicer):
    """Answers each call with the next script, and keeps what it was asked.

    Leaving the block fails if a script was not consumed, or a call had none.
    """

    def __init__(self, *, request_id: str = "r-1") -> None:
        self.requests: list[generation_pb2.GenerateRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.called = threading.Event()
        self.cancelled = threading.Event()
        self._request_id = request_id
        self._scripts: deque[tuple[Step, ...]] = deque()
        self._surprises: list[str] = []
        self._server = grpc.server(ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(self, self._server)
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._server.stop(grace=None).wait()
        if kind is None:
            assert not self._surprises, self._surprises
            assert not self._scripts, f"nobody asked for {self._scripts}"

    def expect(self, *steps: Step) -> None:
        """Answer the next call that has no script yet with this one."""
        self._scripts.append(steps)

    def wait_until_called(self) -> None:
        """Wait until the first call is here."""
        assert self.called.wait(PATIENCE_SECONDS), "nobody called"

    def wait_until_cancelled(self) -> None:
        """Wait until a call that hangs was given up by its caller."""
        assert self.cancelled.wait(PATIENCE_SECONDS), "the call was never cancelled"

    def Generate(  # noqa: N802
        self, request: generation_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> generation_pb2.GenerateResponse:
        return next(self._play(request, context))  # type: ignore[return-value]

    def GenerateStream(  # noqa: N802
        self, request: generation_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[generation_pb2.Event]:
        return self._play(request, context)  # type: ignore[return-value]

    def CountTokens(  # noqa: N802
        self, request: generation_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> generation_pb2.CountTokensResponse:
        return next(self._play(request, context))  # type: ignore[return-value]

    def _play(
        self, request: generation_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[Message]:
        self.requests.append(request)
        self.called.set()
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        if self._request_id:
            context.send_initial_metadata((("x-request-id", self._request_id),))
        if not self._scripts:
            self._surprises.append(f"no script for {request}")
        script = self._scripts.popleft()
        # A script that hangs can only be given up; grpc may notice that before the script is there.
        ended = self.cancelled if any(isinstance(step, Hang) for step in script) else threading.Event()
        if not context.add_callback(ended.set):
            ended.set()
        for step in script:
            match step:
                case Gate():
                    step.wait()
                case Hang():
                    assert ended.wait(PATIENCE_SECONDS), "nobody gave up"
                case grpc.StatusCode():
                    context.abort(step, "no details")
                case status_pb2.Status():
                    context.abort_with_status(rpc_status.to_status(step))
                case _:
                    yield step


def make_status(
    code: str, reason: str, message: str, *, field: str = "", retry_after_seconds: float | None = None
) -> status_pb2.Status:
    """Write an error as the service does."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain="idefics2")]
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(retry_after_seconds * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=code_pb2.Code.Value(code), message=message, details=[_pack(detail) for detail in details]
    )


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


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

"""A real gRPC server that answers by script, and can go away and come back."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

_Answer = TypeVar("_Answer")

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


class ScriptedServer:
    """Answers each call with the next script, and keeps what it was asked.

    Leaving the block fails if a script was not consumed, or a call had none. Which services it has, its
    children say.
    """

    def __init__(self, *, request_id: str = "r-1") -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.called = threading.Event()
        self.cancelled = threading.Event()
        self._request_id = request_id
        self._scripts: deque[tuple[Step, ...]] = deque()
        self._surprises: list[str] = []
        self._server = self._listen("127.0.0.1:0")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.go_away()
        if kind is None:
            assert not self._surprises, self._surprises
            assert not self._scripts, f"nobody asked for {self._scripts}"

    def go_away(self) -> None:
        """Cut every call, and refuse all that come; returns when nothing is left."""
        self._server.stop(grace=None).wait()

    def come_back(self) -> None:
        """Be there again, at the same port."""
        self._server = self._listen(self.target)
        self._server.start()

    def restart(self) -> None:
        """Go away and come back."""
        self.go_away()
        self.come_back()

    def expect(self, *steps: Step) -> None:
        """Answer the next call that has no script yet with this one."""
        self._scripts.append(steps)

    def wait_until_called(self) -> None:
        """Wait until the first call is here."""
        assert self.called.wait(PATIENCE_SECONDS), "nobody called"

    def wait_until_cancelled(self) -> None:
        """Wait until a call that hangs was given up by its caller."""
        assert self.cancelled.wait(PATIENCE_SECONDS), "the call was never cancelled"

    def _add_services(self, server: grpc.Server) -> None:
        raise NotImplementedError

    def _listen(self, address: str) -> grpc.Server:
        server = grpc.server(ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
        self._add_services(server)
        self.target = f"127.0.0.1:{server.add_insecure_port(address)}"
        return server

    def _answer(self, request: Message, context: grpc.ServicerContext, kind: type[_Answer]) -> _Answer:
        """Answer a call that has one answer."""
        answer = next(self._play(request, context))
        assert isinstance(answer, kind)
        return answer

    def _play(self, request: Message, context: grpc.ServicerContext) -> Iterator[Any]:
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
                    context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
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

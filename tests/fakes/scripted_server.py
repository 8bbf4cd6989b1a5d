"""A real gRPC server that answers by script, and can go away and come back."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.message import Message

_Answer = TypeVar("_Answer")

# Restarts find the port free; messages may be as large as the service takes them.
_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 28 * 2**20))
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


class Break(Hang):
    """A point of a script where the server goes away, connections and all, and comes back."""


@dataclass(frozen=True)
class Take:
    """A point of an upload's script where the server reads chunks, until it has so many bytes; None: all."""

    num_bytes: int | None = None


# One call's script. A message is sent (several only by a stream), a status ends the call.
Step: TypeAlias = "Message | status_pb2.Status | grpc.StatusCode | Gate | Hang | Take"


class ScriptedServer(ABC):
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
        self.methods: list[str] = []
        """The name of each method that was called."""
        self.seconds_left: list[float | None] = []
        """How long each call had, when it came; None: for ever."""
        self.arrivals: list[float] = []
        """When each call came."""
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

    @abstractmethod
    def _add_services(self, server: grpc.Server) -> None:
        """Let `server` answer as the script says."""

    def _listen(self, address: str) -> grpc.Server:
        server = grpc.server(ThreadPoolExecutor(4), interceptors=[_Noting(self.methods)], options=_OPTIONS)
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
        self.seconds_left.append(context.time_remaining())
        self.arrivals.append(time.monotonic())
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        named = (("x-request-id", self._request_id),) if self._request_id else ()
        is_greeted = False
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
                    if isinstance(step, Break):
                        threading.Thread(target=self.restart).start()
                    assert ended.wait(PATIENCE_SECONDS), "nobody gave up"
                    context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
                case grpc.StatusCode():
                    context.set_trailing_metadata(named)
                    context.abort(step, "no details")
                case status_pb2.Status():
                    status = rpc_status.to_status(step)
                    context.set_trailing_metadata((*named, *status.trailing_metadata, *_pushback(step)))
                    context.abort(status.code, status.details)
                case _:
                    if named and not is_greeted:
                        context.send_initial_metadata(named)
                        is_greeted = True
                    yield step


class _Noting(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Notes which methods are called."""

    def __init__(self, methods: list[str]) -> None:
        self._methods = methods

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self._methods.append(handler_call_details.method.rpartition("/")[2])
        return continuation(handler_call_details)


def make_status(
    code: str,
    reason: str,
    message: str,
    *,
    field: str = "",
    retry_after_seconds: float | None = None,
    metadata: Mapping[str, str] | None = None,
) -> status_pb2.Status:
    """Write an error as the service does."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=reason, domain="idefics2", metadata=metadata or {})
    ]
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


def _pushback(status: status_pb2.Status) -> Iterator[tuple[str, str]]:
    """Say when gRPC itself may repeat the call, as the service does; never where the answer will stay."""
    retry = error_details_pb2.RetryInfo()
    if any(detail.Unpack(retry) for detail in status.details):
        final = (b"ATTEMPTS_EXHAUSTED", b"ATTEMPT_LOST")
        is_final = any(reason in detail.value for detail in status.details for reason in final)
        yield "grpc-retry-pushback-ms", "-1" if is_final else str(retry.retry_delay.ToMilliseconds())


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed

"""A RequestService that answers by script, beside a GenerationService, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakes.generation_server import GenerationServer, finished
from google.rpc import code_pb2
from idefics2.v1 import error_reason_pb2, generation_pb2, requests_pb2, requests_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc
    from idefics2.v1.generation_pb2 import Event


class RequestServer(GenerationServer, requests_pb2_grpc.RequestServiceServicer):
    """Answers each call with the next script."""

    def _add_services(self, server: grpc.Server) -> None:
        super()._add_services(server)
        requests_pb2_grpc.add_RequestServiceServicer_to_server(self, server)

    def Submit(  # noqa: N802  # the proto's name
        self, request: requests_pb2.SubmitRequest, context: grpc.ServicerContext
    ) -> requests_pb2.Request:
        return self._answer(request, context, requests_pb2.Request)

    def GetRequest(  # noqa: N802  # the proto's name
        self, request: requests_pb2.GetRequestRequest, context: grpc.ServicerContext
    ) -> requests_pb2.Request:
        return self._answer(request, context, requests_pb2.Request)

    def WatchRequest(  # noqa: N802  # the proto's name
        self, request: requests_pb2.WatchRequestRequest, context: grpc.ServicerContext
    ) -> Iterator[Event]:
        return self._play(request, context)

    def GetResult(  # noqa: N802  # the proto's name
        self, request: requests_pb2.GetResultRequest, context: grpc.ServicerContext
    ) -> generation_pb2.GenerateResponse:
        return self._answer(request, context, generation_pb2.GenerateResponse)

    def CancelRequest(  # noqa: N802  # the proto's name
        self, request: requests_pb2.CancelRequestRequest, context: grpc.ServicerContext
    ) -> requests_pb2.Request:
        return self._answer(request, context, requests_pb2.Request)

    def ListRequests(  # noqa: N802  # the proto's name
        self, request: requests_pb2.ListRequestsRequest, context: grpc.ServicerContext
    ) -> requests_pb2.ListRequestsResponse:
        return self._answer(request, context, requests_pb2.ListRequestsResponse)


def number(*events: Event, after: int = 0) -> list[Event]:
    """Return these events as numbers `after` + 1 and on of a request's list."""
    numbered = [generation_pb2.Event() for _ in events]
    for sequence, (copy, event) in enumerate(zip(numbered, events, strict=True), after + 1):
        copy.CopyFrom(event)
        copy.sequence = sequence
    return numbered


def attempt(count: int) -> Event:
    """Begin a request."""
    return generation_pb2.Event(attempt_started=generation_pb2.AttemptStarted(attempt=count))


def failed(code: str, reason: str, message: str = "why") -> Event:
    """End without an answer."""
    event = finished("")
    event.finished.failure.CopyFrom(make_failure(code, reason, message))
    return event


def make_failure(code: str, reason: str, message: str = "why", field: str = "") -> generation_pb2.Failure:
    """Write why there is no answer."""
    return generation_pb2.Failure(
        code=code_pb2.Code.Value(code),
        reason=error_reason_pb2.ErrorReason.Value(reason),
        message=message,
        field=field,
    )


def make_request(state: str = "QUEUED", **fields: Any) -> requests_pb2.Request:
    """Write where the request r-1 stands."""
    number = requests_pb2.State.Value(f"STATE_{state}")
    return requests_pb2.Request(**{"request_id": "r-1", "state": number, **fields})

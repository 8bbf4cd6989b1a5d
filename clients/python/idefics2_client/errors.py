"""Everything that a caller gets instead of an answer.

    Idefics2Error
     ├── InvalidRequest            INVALID_ARGUMENT: the same request will fail again; names a field
     │    └── ImageUnreadable      never sent: the file cannot be read here
     ├── AuthenticationFailed      UNAUTHENTICATED, PERMISSION_DENIED: no API key, or one that is refused
     ├── Overloaded                RESOURCE_EXHAUSTED: too many wait already, retry later
     ├── ServiceUnavailable        UNAVAILABLE: not there, starting or stopping, retry later
     ├── DeadlineExceeded          DEADLINE_EXCEEDED: the timeout passed before the answer was complete
     ├── Cancelled                 CANCELLED: someone ended the call
     └── ServiceFailed             all other codes

The status code chooses the class; `reason` says more, and is what to match on.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    from google.protobuf.message import Message

DOMAIN = "idefics2"

_Detail = TypeVar("_Detail", bound="Message")


@dataclass(eq=False)
class Idefics2Error(Exception):
    """No answer."""

    message: str
    """For a person; may be reworded."""
    _: KW_ONLY
    code: str = "UNKNOWN"
    """The name of the status code, one of grpc's sixteen."""
    reason: str = ""
    """The name of an `idefics2.v1.ErrorReason`; empty where it was not the service that refused."""
    field: str = ""
    """The field of the request that is at fault, for example `images[0].data`; empty if there is none."""
    request_id: str = ""
    """The request's id in the service's log; empty if the service never saw the request."""
    retry_after_seconds: float | None = None
    """How long to wait before the same request is worth sending again; None if the service did not say."""

    def __str__(self) -> str:
        """Say what a person needs."""
        return self.message


class InvalidRequest(Idefics2Error):
    """The request is at fault: the same request will fail again."""


class ImageUnreadable(InvalidRequest):
    """An image's file cannot be read on this machine; the message names it."""


class AuthenticationFailed(Idefics2Error):
    """There is no API key, or it is refused."""


class Overloaded(Idefics2Error):
    """Too many requests wait already; retry later."""


class ServiceUnavailable(Idefics2Error):
    """The service is not there, is starting or is stopping; retry later."""


class DeadlineExceeded(Idefics2Error):
    """The timeout passed before the answer was complete."""


class Cancelled(Idefics2Error):
    """Someone ended the call before the answer was complete."""


class ServiceFailed(Idefics2Error):
    """The service could not do what it should."""


_KINDS: dict[grpc.StatusCode, type[Idefics2Error]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationFailed,
    grpc.StatusCode.PERMISSION_DENIED: AuthenticationFailed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: ServiceUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}


def read_error(error: grpc.RpcError, target: str) -> Idefics2Error:
    """Say by one error of the tree what went wrong with a call to `target`; never fails itself."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return ServiceFailed(str(error))
    call = cast("grpc.Call", error)  # of the asyncio interface too: it has every method used here
    details = _read_details(call)
    info = _find(details, error_details_pb2.ErrorInfo)
    request_id = _read_request_id(call)
    from_service = info.domain == DOMAIN
    kind = _KINDS.get(call.code(), ServiceFailed)
    return kind(
        (call.details() or "") if from_service else _explain(call, target, reached=bool(request_id)),
        code=call.code().name,
        reason=info.reason if from_service else "",
        field=_read_field(_find(details, error_details_pb2.BadRequest)),
        request_id=request_id,
        retry_after_seconds=_read_delay(_find(details, error_details_pb2.RetryInfo)),
    )


def _explain(call: grpc.Call, target: str, *, reached: bool) -> str:
    """Say what is behind a status that the service did not write itself."""
    match call.code():
        case grpc.StatusCode.UNAVAILABLE if reached:
            return f"the connection to {target} was lost before the answer was complete"
        case grpc.StatusCode.UNAVAILABLE:
            where = "set IDEFICS2_CLIENT_TARGET to the address of one that runs"
            return f"no service answers at {target}: start one with `idefics2-service serve`, or {where}"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return "the timeout passed before the answer was complete"
    return call.details() or f"the call failed with {call.code().name}"


def _read_details(call: grpc.Call) -> status_pb2.Status:
    """Read google.rpc.Status; empty where there is none, or where it is damaged or not of this call."""
    try:
        status: status_pb2.Status | None = rpc_status.from_call(call)
    except (DecodeError, ValueError):
        status = None
    return status or status_pb2.Status()


def _find(status: status_pb2.Status, kind: type[_Detail]) -> _Detail:
    """Return the first detail of this kind, or an empty one."""
    found = kind()
    for detail in status.details:
        try:
            if detail.Unpack(found):
                break
        except DecodeError:
            continue
    return found


def _read_request_id(call: grpc.Call) -> str:
    metadata = {key: str(value) for key, value in call.initial_metadata() or ()}
    return metadata.get("x-request-id", "")


def _read_field(bad_request: error_details_pb2.BadRequest) -> str:
    return bad_request.field_violations[0].field if bad_request.field_violations else ""


def _read_delay(retry: error_details_pb2.RetryInfo) -> float | None:
    return retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None

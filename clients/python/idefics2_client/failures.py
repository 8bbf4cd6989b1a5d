"""From what the wire says of a failure to an error of the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from idefics2.v1 import error_reason_pb2

from idefics2_client.errors import (
    AlreadyExists,
    AuthenticationFailed,
    Cancelled,
    DeadlineExceeded,
    Idefics2Error,
    InvalidRequest,
    NotFinished,
    NotFound,
    Overloaded,
    ServiceFailed,
    ServiceUnavailable,
)
from idefics2_client.explanations import explain

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from idefics2.v1.generation_pb2 import Failure

    from idefics2_client.endpoint import Endpoint

DOMAIN = "idefics2"

_Detail = TypeVar("_Detail", bound="Message")

_KINDS: dict[str, type[Idefics2Error]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "UNAUTHENTICATED": AuthenticationFailed,
    "PERMISSION_DENIED": AuthenticationFailed,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": AlreadyExists,
    "FAILED_PRECONDITION": NotFinished,
    "RESOURCE_EXHAUSTED": Overloaded,
    "UNAVAILABLE": ServiceUnavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
}

_KINDS_BY_REASON: dict[str, type[Idefics2Error]] = {"FILE_ALREADY_COMPLETE": AlreadyExists}
"""Where the code alone would mislead."""


def read_failure(failure: Failure, request_id: str = "") -> Idefics2Error:
    """Say by one error of the tree why a submitted request has no answer."""
    code = code_pb2.Code.DESCRIPTOR.values_by_number.get(failure.code)
    reason = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_number.get(failure.reason)
    name = code.name if code else "UNKNOWN"
    reason_name = reason.name if reason else str(failure.reason)
    return _choose(name, reason_name)(
        failure.message,
        code=name,
        reason=reason_name,
        field=failure.field,
        request_id=request_id,
        retry_after_seconds=_read_delay(failure),
        metadata=dict(failure.metadata),
    )


def read_error(error: grpc.RpcError, endpoint: Endpoint) -> Idefics2Error:
    """Say by one error of the tree what went wrong with a call to `endpoint`; never fails itself."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return ServiceFailed(str(error))
    call = cast("grpc.Call", error)  # of the asyncio interface too: it has every method used here
    details = _read_details(call)
    info = _find(details, error_details_pb2.ErrorInfo)
    request_id = _read_request_id(call)
    from_service = info.domain == DOMAIN
    kind, message = None, call.details() or ""
    if not from_service:
        kind, message = explain(call, endpoint, reached=bool(request_id))
    return (kind or _choose(call.code().name, info.reason if from_service else ""))(
        message,
        code=call.code().name,
        reason=info.reason if from_service else "",
        field=_read_field(_find(details, error_details_pb2.BadRequest)),
        request_id=request_id,
        retry_after_seconds=_read_delay(_find(details, error_details_pb2.RetryInfo)),
        metadata=dict(info.metadata) if from_service else {},
    )


def _choose(code: str, reason: str) -> type[Idefics2Error]:
    return _KINDS_BY_REASON.get(reason) or _KINDS.get(code, ServiceFailed)


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
    """Read it before the first message, or, where there was none, behind the refusal."""
    sent = (*(call.initial_metadata() or ()), *(call.trailing_metadata() or ()))
    return next((str(value) for key, value in sent if key == "x-request-id"), "")


def _read_field(bad_request: error_details_pb2.BadRequest) -> str:
    return bad_request.field_violations[0].field if bad_request.field_violations else ""


def _read_delay(retry: error_details_pb2.RetryInfo | Failure) -> float | None:
    return retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None

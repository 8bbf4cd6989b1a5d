"""From an error of the service to the status that a gRPC caller gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import any_pb2, message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from idefics2_service.errors import AttemptLost, AttemptsExhausted, InvalidInput, QuotaExceeded, ServiceError
from idefics2_service.rpc.convert import write_failure

if TYPE_CHECKING:
    import grpc

    ServicerContext = grpc.aio.ServicerContext[Any, Any]

DOMAIN = "idefics2"
REQUEST_ID_KEY = "x-request-id"
_NEVER = "-1"


def make_status(error: ServiceError) -> status_pb2.Status:
    """Write an error with exactly one ErrorInfo, and what else its kind calls for."""
    failure = write_failure(error)
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=failure.metadata)
    ]
    if isinstance(error, InvalidInput):
        violations = map(_write_violation, (error, *error.others))
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, QuotaExceeded):
        quota = error_details_pb2.QuotaFailure.Violation(subject=error.quota, description=error.message)
        details.append(error_details_pb2.QuotaFailure(violations=[quota]))
    if failure.HasField("retry_delay"):
        details.append(error_details_pb2.RetryInfo(retry_delay=failure.retry_delay))
    return status_pb2.Status(
        code=failure.code,
        message=failure.message,
        details=[_pack(detail) for detail in details],
    )


async def abort(context: ServicerContext, error: ServiceError, request_id: str = "") -> None:
    """End a call with `error`; never returns normally.

    The request's id goes behind it, not before: without a header, gRPC repeats the call where it may.
    """
    status = rpc_status.to_status(make_status(error))
    trailing = list(status.trailing_metadata)
    if request_id:
        trailing.append((REQUEST_ID_KEY, request_id))
    if error.retry_after_seconds is not None:
        trailing.append(("grpc-retry-pushback-ms", _pushback(error)))
    await context.abort(status.code, status.details, tuple(trailing))


def _pushback(error: ServiceError) -> str:
    """Say when gRPC may repeat the call by itself. Source: https://github.com/grpc/proposal, A6."""
    if isinstance(error, AttemptsExhausted | AttemptLost):
        # The request has ended: the same call gets the same answer, and only a new request another one.
        return _NEVER
    return str(write_failure(error).retry_delay.ToMilliseconds())


def _write_violation(error: InvalidInput) -> error_details_pb2.BadRequest.FieldViolation:
    violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
    violation.reason = error.reason  # type: ignore[attr-defined]  # the stubs are older than it
    return violation


def _pack(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed

"""From an error of the service to the response that an HTTP caller gets.

A request that is at fault is answered 422 with all faults in `detail`, in the form that the hosted endpoint's
framework has; everything else with one sentence there. `message` is what fal's JavaScript clients show,
`error_type` what its Python client does.
"""

from __future__ import annotations

import math
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from idefics2_service import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STATUSES = {
    "INVALID_ARGUMENT": 422,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 422,  # not 409, which fal's Python client takes for a reason to try again
    "FAILED_PRECONDITION": 400,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""By the canonical name of an error's code."""
_TYPES: dict[type[errors.ServiceError], str] = {
    errors.FileTooLarge: "file_too_large",
    errors.FileTooManyPixels: "image_too_large",
    errors.FileNotAnImage: "image_load_error",
    errors.FileUndecodable: "image_load_error",
    errors.FileEmpty: "image_load_error",
    errors.FileUrlUnsupported: "file_download_error",
    errors.FileUrlInvalid: "file_download_error",
    errors.FileUrlForbidden: "file_download_error",
    errors.FileNotFound: "file_download_error",
    errors.FileBlocked: "file_download_error",
    errors.FileRateLimited: "file_download_error",
    errors.FileUnreachable: "file_download_error",
    errors.FileTooSlow: "file_download_error",
    errors.FileNotUploaded: "file_download_error",
    errors.RequestMalformed: "value_error",
    errors.PromptMissing: "missing",
    errors.ImageMissing: "missing",
    errors.RequestCancelled: "client_cancelled",
    errors.StartTimeout: "request_timeout",
    errors.RequestDeadlineExceeded: "request_timeout",
    errors.RequestNotFinished: "bad_request",
    errors.BackendUnavailable: "runner_connection_error",
    errors.AttemptsExhausted: "runner_disconnected",
    errors.AttemptLost: "runner_disconnected",
    errors.Unavailable: "runner_scheduling_failure",
    errors.InternalError: "internal_error",
}
"""The hosted endpoint's words, where it has one."""
_ABOUT_ERRORS = "https://docs.fal.ai/errors"
"""The hosted endpoint's page about its errors. Source: its answers, which lead to any type's place there."""
_PLACES: dict[str, tuple[str, ...]] = {
    "request_id": ("header", "idempotency-key"),
    "start_timeout": ("header", "x-fal-request-timeout"),
    "keep": ("header", "x-fal-store-io"),
    "webhook_url": ("query", "fal_webhook"),
    "max_queue_length": ("query", "fal_max_queue_length"),
    "x-fal-file-name": ("header", "x-fal-file-name"),
    "x-fal-object-lifecycle": ("header", "x-fal-object-lifecycle"),
    "x-fal-object-lifecycle-preference": ("header", "x-fal-object-lifecycle-preference"),
    "content-type": ("header", "content-type"),
    "content-encoding": ("header", "content-encoding"),
    "size_bytes": ("header", "content-length"),
    "part_number": ("path", "number"),
    "body": ("body",),
}
"""Where fields stand that are not in the body, or are the body."""
_MAX_FAULTS = 32
"""That one answer tells. Each takes many times the bytes of what is wrong."""
_NAMES = {"number": "partNumber"}
"""What fields of the body are called here, where that is not the core's word."""


class Problem(Exception):
    """What an HTTP caller is told instead of an answer."""

    def __init__(
        self,
        status: int,
        error_type: str,
        message: str,
        *,
        detail: object = None,
        more: Mapping[str, object] = MappingProxyType({}),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep status, kind and a sentence.

        Args:
            status: of HTTP.
            error_type: the hosted endpoint's word for it.
            message: for a person.
            detail: stands in the sentence's place where there is more to say.
            more: fields of the body beside those.
            headers: beside the usual ones.

        """
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.body = {"detail": detail or message, "error_type": error_type, "message": message, **more}
        self.headers = {"x-fal-error-type": error_type, **(headers or {})}

    @classmethod
    def of(cls, error: errors.ServiceError) -> Problem:
        """Say what `error` says; `reason` is a value of the proto's ErrorReason, as over gRPC."""
        status = status_of(error)
        faults = (error, *error.others) if isinstance(error, errors.InvalidInput) else (error,)
        detail = [_write_fault(fault) for fault in faults] if status == STATUSES["INVALID_ARGUMENT"] else None
        headers = dict(_write_headers(error, status))
        problem = cls(status, type_of(error), error.message, detail=detail, headers=headers)
        problem.body["reason"] = error.reason
        if detail is None and error.metadata:
            problem.body["ctx"] = error.metadata
        return problem

    @classmethod
    def of_faults(
        cls, faults: Sequence[Mapping[str, Any]], more: Sequence[errors.InvalidInput] = ()
    ) -> Problem:
        """Say what is wrong with a body, query or header, as pydantic found it, and what else is.

        Of many faults the first are told, and how many more there are.
        """
        detail = [_prune(fault) for fault in faults[:_MAX_FAULTS]]
        detail += [_write_fault(fault) for fault in more[: _MAX_FAULTS - len(detail)]]
        message = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in detail)
        num_untold = len(faults) + len(more) - len(detail)
        if num_untold:
            message = f"{message}; and {num_untold} more"
        kind = _TYPES[errors.RequestMalformed]
        problem = cls(STATUSES["INVALID_ARGUMENT"], kind, message, detail=detail)
        problem.body["reason"] = errors.RequestMalformed.reason
        return problem

    def response(self) -> JSONResponse:
        """Write it."""
        return JSONResponse(self.body, self.status, self.headers)


def status_of(error: errors.ServiceError) -> int:
    """Return the HTTP status; an uploaded file that is not there is a fault of the request that names it."""
    is_named = isinstance(error, errors.FileNotUploaded) and error.field
    return STATUSES["INVALID_ARGUMENT" if is_named else error.code]


def type_of(error: errors.ServiceError) -> str:
    """Return the hosted endpoint's word for an error, or else its reason."""
    known = next((_TYPES[kind] for kind in type(error).__mro__ if kind in _TYPES), None)
    return known or error.reason.lower()


def _write_headers(error: errors.ServiceError, status: int) -> Iterator[tuple[str, str]]:
    yield "x-fal-retryable", "true" if error.retry_after_seconds is not None else "false"
    if error.retry_after_seconds is not None:
        yield "retry-after", str(math.ceil(error.retry_after_seconds))
    if isinstance(error, errors.StartTimeout):
        yield "x-fal-request-timeout-type", "user"
    if status == STATUSES["UNAUTHENTICATED"]:
        yield "www-authenticate", "Key"


def _write_fault(error: errors.ServiceError) -> dict[str, Any]:
    """Write one fault; the last part of its place is the field's name, which clients look for."""
    facts = {name: value for name, value in error.metadata.items() if name != "field"}
    fault = _describe_fault(type_of(error), _locate(error.field), error.message)
    return {**fault, "ctx": {"reason": error.reason, **facts}}


def _describe_fault(kind: str, place: Sequence[str | int], message: str) -> dict[str, Any]:
    return {"type": kind, "loc": place, "msg": message, "url": f"{_ABOUT_ERRORS}#{kind}"}


def _locate(field: str) -> list[str | int]:
    """Write where a field stands: `images[0].url` is body, images, 0, url."""
    if field in _PLACES:
        return list(_PLACES[field])
    parts = (_NAMES.get(part, part) for part in re.findall(r"[^.\[\]]+", field))
    return ["body", *(int(part) if part.isdigit() else part for part in parts)]


def _prune(fault: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was sent: it may be an image, and the caller has it."""
    place = [part.lower() if fault["loc"][0] == "header" else part for part in fault["loc"]]
    message, why = fault["msg"], fault.get("ctx", {}).get("error", "")
    if fault["type"] == "model_attributes_type" or place == ["body"]:  # FastAPI's: of classes and attributes
        message = "must be an object"
    if fault["type"] == "json_invalid" and why not in message:  # FastAPI's own sentence does not say it
        message = f"{message}: {why}"
    return _describe_fault(fault["type"], place, message)

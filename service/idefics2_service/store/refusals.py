"""The errors of every store, so that all engines say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2_service.errors import (
    AttemptLost,
    AttemptsExhausted,
    InternalError,
    PayloadTooLarge,
    QueueFull,
    QueueQuotaExceeded,
    RequestCancelled,
    RequestDeadlineExceeded,
    RequestIdTaken,
    RequestNotFound,
    StartTimeout,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from idefics2_service.requests import RequestName


def not_found(name: RequestName) -> RequestNotFound:
    """Say the same of a request that never was and of another's."""
    return RequestNotFound(f"this key has no request {name.request_id!r}", field="request_id")


def id_taken(name: RequestName) -> RequestIdTaken:
    """Say that a name has other content."""
    message = f"there is a request {name.request_id!r} with other content; choose another request_id"
    return RequestIdTaken(message, field="request_id")


def payload_too_large(num_bytes: int, bound: int) -> PayloadTooLarge:
    """Say that a request is more than is kept."""
    message = f"prompt and images have {num_bytes} bytes; at most {bound} are kept"
    return PayloadTooLarge(message, field="input", bound=str(bound), value=str(num_bytes))


def queue_full(num_waiting: int, bound: int) -> QueueFull:
    """Say that too many wait."""
    message = f"{num_waiting} requests are waiting; at most {bound} may"
    return QueueFull(message, bound=str(bound), value=str(num_waiting))


def queue_quota_exceeded(bound: int | None) -> QueueQuotaExceeded:
    """Say that a key has as many requests as it may."""
    message = f"this key may have {bound} submitted requests that are not at their end, and has them"
    return QueueQuotaExceeded(message, bound=str(bound))


def queue_too_long(num_before: int, bound: int | None) -> QueueFull:
    """Say that more are before a request than it allows."""
    message = f"{num_before} requests would be before it; max_queue_length allows {bound}"
    return QueueFull(message, field="max_queue_length", bound=str(bound), value=str(num_before))


def cancelled() -> RequestCancelled:
    """Say that the caller wanted the request no more."""
    return RequestCancelled("the request was cancelled")


def start_timeout() -> StartTimeout:
    """Say that a request waited too long."""
    return StartTimeout("the request was not begun within its start_timeout")


def deadline_exceeded() -> RequestDeadlineExceeded:
    """Say that a request has no time left."""
    return RequestDeadlineExceeded("the request did not end within its time_budget")


def attempts_exhausted(num_losses: int, reason: str) -> AttemptsExhausted:
    """Say that a request was lost too often, and why the last time."""
    return AttemptsExhausted(f"{num_losses} attempts were lost, the last one: {reason}")


def lost_once(reason: str) -> AttemptLost:
    """Say that a request was lost that was to be begun once, and why."""
    return AttemptLost(f"the request was to be begun once, and that attempt was lost: {reason}")


def unreadable(name: RequestName) -> InternalError:
    """Say that what is kept of a request makes no sense to this program."""
    message = f"what is kept of the request cannot be read; the log has the details under {name.request_id}"
    return InternalError(message)


def closed() -> StoreUnavailable:
    """Say that who asks comes after the end."""
    return StoreUnavailable("the store of requests is closed")


def unavailable(cause: Exception) -> StoreUnavailable:
    """Say that the database failed; not how, for its own words may hold an address or a key."""
    kind = type(cause).__name__.removesuffix("Error")
    return StoreUnavailable(f"the store of requests cannot be used: {kind}")

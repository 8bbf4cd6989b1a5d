"""How a submission goes to submit.lua, and what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from idefics2_service.store import codec, refusals
from idefics2_service.store.interface import LOW_PRIORITY_ROUNDS
from idefics2_service.store.redis.replies import read_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from idefics2_service.settings import StoreSettings
    from idefics2_service.store.records import Record, Submission
    from idefics2_service.store.redis.scripts import Value


def describe(submission: Submission, settings: StoreSettings) -> dict[str, Value]:
    """Name all that the script decides by and keeps; too large a payload is left out, and refused by that."""
    payload = codec.encode_request(submission.request)
    return {
        **submission.name._asdict(),
        "fingerprint": submission.fingerprint.hex(),
        "payload": payload if len(payload) <= settings.max_payload_bytes else None,
        "num_payload_bytes": len(payload),
        "priority": submission.priority.value,
        "max_new_tokens": submission.request.max_new_tokens,
        "webhook_url": submission.webhook_url,
        "traceparent": submission.traceparent,
        "start_timeout_seconds": submission.start_timeout_seconds,
        "time_budget_seconds": submission.time_budget_seconds,
        "keep_at_most_seconds": submission.keep_seconds,
        "max_queue_length": submission.max_queue_length,
        "max_queued_of_key": submission.max_queued_of_key,
        "is_begun_once": 1 if submission.is_begun_once else None,
        "max_queued": settings.max_queued,
        "low_priority_rounds": LOW_PRIORITY_ROUNDS,
    }


def read_verdict(reply: Sequence[Any], submission: Submission, settings: StoreSettings) -> Record:
    """Return the record of a request that was taken.

    Raises:
        RequestIdTaken, PayloadTooLarge, QueueFull, QueueQuotaExceeded: it was not.

    """
    match reply:
        case [b"OTHER_CONTENT"]:
            raise refusals.id_taken(submission.name)
        case [b"PAYLOAD_TOO_LARGE", num_bytes]:
            raise refusals.payload_too_large(int(num_bytes), settings.max_payload_bytes)
        case [b"QUEUE_QUOTA_EXCEEDED"]:
            raise refusals.queue_quota_exceeded(submission.max_queued_of_key)
        case [b"QUEUE_FULL", num_waiting]:
            raise refusals.queue_full(num_waiting, settings.max_queued)
        case [b"QUEUE_TOO_LONG", num_before]:
            raise refusals.queue_too_long(num_before, submission.max_queue_length)
    return read_record(reply[1])

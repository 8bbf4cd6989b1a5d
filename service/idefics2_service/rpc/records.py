"""Between the messages of submitted requests and the core's plain types."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from idefics2.v1 import generation_pb2, requests_pb2

from idefics2_service.errors import ValueOutOfRange
from idefics2_service.events import Failed, Finished
from idefics2_service.requests import Priority, State
from idefics2_service.rpc.convert import read_generate_request, write_failure, write_generate_response
from idefics2_service.submissions import SubmitInput

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message

    from idefics2_service.store.records import Record

_MAX_NANOS = 999_999_999
"""Of a Duration: a second has one more."""


def read_submit_request(message: requests_pb2.SubmitRequest) -> SubmitInput:
    """Read a submission; what the caller left out is None or empty.

    Raises:
        ValueOutOfRange: there is no such priority, or no such time.

    """
    content = requests_pb2.SubmitRequest()
    content.CopyFrom(message)
    content.ClearField("request_id")
    return SubmitInput(
        input=read_generate_request(message.input),
        fingerprint=hashlib.sha256(content.SerializeToString(deterministic=True)).digest(),
        request_id=message.request_id,
        priority=_read_priority(message.priority),
        start_timeout_seconds=read_seconds(message, "start_timeout"),
        time_budget_seconds=read_seconds(message, "time_budget"),
        keep_seconds=read_seconds(message, "keep"),
        webhook_url=message.webhook_url,
        max_queue_length=message.max_queue_length if message.HasField("max_queue_length") else None,
    )


def write_request(record: Record) -> requests_pb2.Request:
    """Write where a request stands."""
    message = requests_pb2.Request(
        request_id=record.name.request_id,
        state=requests_pb2.State.Value(f"STATE_{record.state.value}"),
        queue_position=record.queue_position,
        num_attempts=record.attempt,
        priority=requests_pb2.Priority.Value(f"PRIORITY_{record.priority.value}"),
        create_time=write_timestamp(record.created_at),
        start_time=write_timestamp(record.started_at),
        end_time=write_timestamp(record.ended_at),
        expire_time=write_timestamp(record.expires_at),
        num_generated_tokens=record.num_generated_tokens,
        max_new_tokens=record.max_new_tokens,
        last_sequence=record.last_sequence,
    )
    if record.stage is not None:
        message.stage = generation_pb2.Stage.Value(f"STAGE_{record.stage.value}")
    if record.estimated_wait_seconds is not None:
        message.estimated_wait.FromNanoseconds(round(record.estimated_wait_seconds * 1e9))
    _write_end(message, record.end)
    return message


def _write_end(message: requests_pb2.Request, end: Finished | Failed | None) -> None:
    match end:
        case Finished(output):
            response = write_generate_response(output)
            message.usage.CopyFrom(response.usage)
            message.stage_seconds.CopyFrom(response.stage_seconds)
        case Failed(error):
            message.failure.CopyFrom(write_failure(error))


def write_logs(lines: list[tuple[float, str]]) -> list[requests_pb2.LoggedLine]:
    """Write the lines of a log with their times."""
    return [requests_pb2.LoggedLine(time=write_timestamp(at), message=line) for at, line in lines]


def read_state(state: requests_pb2.State.ValueType) -> State | None:
    """Read which requests are wanted; None: all.

    Raises:
        ValueOutOfRange: there is no such state.

    """
    if state == requests_pb2.State.STATE_UNSPECIFIED:
        return None
    return State(_read_value("state", requests_pb2.State.DESCRIPTOR, state))


def _read_priority(priority: requests_pb2.Priority.ValueType) -> Priority:
    if priority == requests_pb2.Priority.PRIORITY_UNSPECIFIED:
        return Priority.NORMAL
    return Priority(_read_value("priority", requests_pb2.Priority.DESCRIPTOR, priority))


def _read_value(field: str, kind: EnumDescriptor, number: int) -> str:
    """Read which value of an enum is meant; its name is returned without the enum's own."""
    known = kind.values_by_number.get(number)
    if known is None:
        raise ValueOutOfRange.of(field, f"a {field} of the API", number)
    return known.name.removeprefix(f"{field.upper()}_")


def read_seconds(message: Message, field: str, name: str = "") -> float | None:
    """Read how long something may take, in seconds; None: the caller does not say.

    Args:
        message: what has the time.
        field: the time's, of the message.
        name: what the caller is told that it is called, where that is more than `field`.

    Raises:
        ValueOutOfRange: its two parts make no time, by protobuf's rules.

    """
    if not message.HasField(field):
        return None
    duration: Duration = getattr(message, field)
    seconds, nanos = duration.seconds, duration.nanos
    if abs(nanos) > _MAX_NANOS or seconds * nanos < 0:
        bound = f"seconds and at most {_MAX_NANOS} nanos of the same sign"
        raise ValueOutOfRange.of(name or field, bound, f"{seconds} s and {nanos} ns")
    return duration.ToNanoseconds() / 1e9


def write_timestamp(seconds: float | None) -> Timestamp | None:
    """Write a time in seconds since the epoch; None stays unset."""
    if seconds is None:
        return None
    timestamp = Timestamp()
    timestamp.FromNanoseconds(round(seconds * 1e9))
    return timestamp

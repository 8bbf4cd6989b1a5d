"""A request that was submitted, or a file that was uploaded, as programs and people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2.v1.generation_pb2 import Stage
from idefics2.v1.requests_pb2 import Priority, State

from idefics2_client.failures import read_failure
from idefics2_client.names import write_name
from idefics2_client.outcome import write_error, write_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.timestamp_pb2 import Timestamp
    from idefics2.v1.files_pb2 import File
    from idefics2.v1.requests_pb2 import Request

FILE_HEADING = f"{'UPLOADED (UTC)':<21}{'BYTES':>11}  {'TYPE':<12}{'URL':<50}NAME"
HEADING = f"{'CREATED (UTC)':<21}{'STATE':<11}{'TOKENS':<11}REQUEST"


def write_request(request: Request) -> dict[str, object]:
    """Write a request for a program; what is unset is None."""
    has, estimated_wait = request.HasField, request.estimated_wait
    return {
        "request_id": request.request_id,
        "state": write_name(State.DESCRIPTOR, request.state),
        "stage": write_name(Stage.DESCRIPTOR, request.stage) if request.stage else None,
        "queue_position": request.queue_position if has("queue_position") else None,
        "estimated_wait_seconds": estimated_wait.ToTimedelta().total_seconds()
        if has("estimated_wait")
        else None,
        "num_attempts": request.num_attempts,
        "priority": write_name(Priority.DESCRIPTOR, request.priority),
        "create_time": _write_time(request.create_time),
        "start_time": _write_time(request.start_time),
        "end_time": _write_time(request.end_time),
        "expire_time": _write_time(request.expire_time),
        "num_generated_tokens": request.num_generated_tokens,
        "max_new_tokens": request.max_new_tokens,
        "usage": write_numbers(request.usage) if has("usage") else None,
        "stage_seconds": write_numbers(request.stage_seconds) if has("stage_seconds") else None,
        "failure": _write_failure(request) if has("failure") else None,
        "last_sequence": request.last_sequence,
    }


def write_logs(request: Request) -> list[dict[str, object]]:
    """Write a request's log for a program."""
    return [{"time": line.time.ToJsonString(), "message": line.message} for line in request.logs]


def describe_request(request: Request) -> Iterator[str]:
    """Write a request for a person, its log last; what is unset is left out."""
    for name, value in write_request(request).items():
        if isinstance(value, dict):
            yield from (f"{name}.{part}: {number}" for part, number in value.items() if number)
        elif value is not None:
            yield f"{name}: {value}"
    yield from (f"log: {line.time.ToJsonString()} {line.message}" for line in request.logs)


def summarize_request(request: Request) -> str:
    """Write a request as a row below `HEADING`."""
    created = f"{request.create_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
    tokens = f"{request.num_generated_tokens}/{request.max_new_tokens}"
    return f"{created:<21}{write_name(State.DESCRIPTOR, request.state):<11}{tokens:<11}{request.request_id}"


def write_file(file: File) -> dict[str, object]:
    """Write an uploaded file for a program."""
    names = ("id", "url", "name", "size_bytes", "sha256", "content_type")
    times = {name: _write_time(getattr(file, name)) for name in ("create_time", "expire_time")}
    return {**{name: getattr(file, name) for name in names}, **times}


def summarize_file(file: File) -> str:
    """Write an uploaded file as a row below `FILE_HEADING`."""
    created = f"{file.create_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
    return f"{created:<21}{file.size_bytes:>11}  {file.content_type:<12}{file.url:<50}{file.name}"


def _write_time(time: Timestamp) -> str | None:
    return time.ToJsonString() if time.ByteSize() else None


def _write_failure(request: Request) -> object:
    return write_error(read_failure(request.failure, request.request_id))["error"]

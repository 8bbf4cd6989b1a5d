"""How a command ends: exit status, line for a person, JSON object for a program."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, TextIO

from idefics2.v1.generation_pb2 import FinishReason

from idefics2_client.advice import SPECIAL
from idefics2_client.errors import (
    AlreadyExists,
    AuthenticationFailed,
    DeadlineExceeded,
    Idefics2Error,
    InvalidRequest,
    NotFinished,
    NotFound,
    Overloaded,
    ServiceUnavailable,
    SettingInvalid,
)
from idefics2_client.names import write_name
from idefics2_client.text import strip_controls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message
    from idefics2.v1.generation_pb2 import GenerateResponse

ANSWERED = 0
FAILED = 1
REFUSED = 2  # argparse's own, for bad usage
KEY_REFUSED = 3
NOT_NOW = 4
NOT_FINISHED = 5
NOT_KNOWN = 6
INTERRUPTED = 130  # as a shell has it for SIGINT

_STATUSES: dict[type[Idefics2Error], int] = {
    InvalidRequest: REFUSED,
    SettingInvalid: REFUSED,
    AlreadyExists: REFUSED,
    AuthenticationFailed: KEY_REFUSED,
    Overloaded: NOT_NOW,
    ServiceUnavailable: NOT_NOW,
    DeadlineExceeded: NOT_NOW,
    NotFinished: NOT_FINISHED,
    NotFound: NOT_KNOWN,
}

MAX_PAGE_SIZE = 1_000
"""As many items as a page of a list can hold."""

DESCRIPTION = """\
exit status:
  0    answered
  1    failed, for none of the reasons below; also a request that somebody cancelled
  2    bad usage, or the input was refused or cannot be read, or the request's name is taken;
       also a certificate that does not fit
  3    the API key is missing or was refused
  4    not available now: not running, too busy, or a timeout passed
  5    the request has no result yet
  6    there is no such request or file, or no longer
  130  interrupted by Ctrl-C
"""


def exit_status(error: Idefics2Error) -> int:
    """Choose the status of a command that ends with this error."""
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), FAILED)


def describe_error(error: Idefics2Error) -> str:
    """Say on one line what is wrong, with which field, and what to do."""
    line = " ".join(error.message.split())
    if error.field and error.field not in line:
        line = f"{error.field}: {line}"
    if isinstance(error, AuthenticationFailed) and not error.reason.endswith("_NOT_ALLOWED"):
        line += " (set IDEFICS2_API_KEY or FAL_KEY, or give --api-key)"
    elif error.reason in SPECIAL:
        line += f" ({error.advice})"
    if error.retry_after_seconds:
        line += f" (try again in {error.retry_after_seconds:g} s)"
    return line


def write_error(error: Idefics2Error) -> dict[str, object]:
    """Write an error for a program."""
    names = ("code", "reason", "message", "field", "request_id")
    return {"error": {name: getattr(error, name) for name in names}}


def write_response(response: GenerateResponse) -> dict[str, object]:
    """Write an answer for a program."""
    return {
        "output": response.output,
        "finish_reason": write_name(FinishReason.DESCRIPTOR, response.finish_reason),
        "usage": write_numbers(response.usage),
        "stage_seconds": write_numbers(response.stage_seconds),
        "request_id": response.request_id,
        "seed": response.seed,
    }


def write_numbers(message: Message) -> dict[str, object]:
    """Write a flat message, zeros included."""
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


def write_json(out: TextIO, value: dict[str, object]) -> None:
    """Write one object on one line, in ASCII, which is safe on every terminal and in every locale."""
    out.write(json.dumps(value) + "\n")
    out.flush()


def write_lines(lines: Iterable[str]) -> None:
    """Write lines on standard output, each as soon as it is there."""
    for line in lines:
        sys.stdout.write(f"{strip_controls(line)}\n")
        sys.stdout.flush()

"""Which numbers the wire can hold, and the error of one that is outside."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from google.protobuf.descriptor import FieldDescriptor

from idefics2_client.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DURATION_SECONDS = 315_576_000_000
"""As google.protobuf.Duration has it."""
DURATION = f"0 to {MAX_DURATION_SECONDS} seconds"
"""Nothing here lasts less than nothing."""
TIMEOUT = f"up to {sys.float_info.max} seconds, or infinity"
"""What lasts no time at all is over at once."""
_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: f"{-(2**31)} to {2**31 - 1}",
    FieldDescriptor.CPPTYPE_INT64: f"{-(2**63)} to {2**63 - 1}",
    FieldDescriptor.CPPTYPE_UINT32: f"0 to {2**32 - 1}",
    FieldDescriptor.CPPTYPE_UINT64: f"0 to {2**64 - 1}",
    FieldDescriptor.CPPTYPE_DOUBLE: f"{-sys.float_info.max} to {sys.float_info.max}",
}
_MAX_REPEATED = 80
"""Characters of a value that an error shows, as many as the service does."""


def find_bound(cpp_type: int) -> str:
    """Say which numbers a field of this type, a `FieldDescriptor.CPPTYPE_*`, holds; empty: it holds none."""
    return _BOUNDS.get(cpp_type, "")


def refuse(field: str, bound: str, value: object) -> InvalidRequest:
    """Say that `field` must be `bound`, in the words and with the metadata that the service has for it."""
    told = _cut(value)
    return InvalidRequest(
        f"{field} must be {bound}, not {told}",
        code="INVALID_ARGUMENT",
        reason="VALUE_OUT_OF_RANGE",
        field=field,
        metadata={"field": field, "bound": bound, "value": told},
    )


@contextmanager
def bounding(field: str, bound: str, value: object) -> Iterator[None]:
    """Say by one error of the tree that a number cannot be sent.

    Raises:
        InvalidRequest: it is not within `bound`.

    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise refuse(field, bound, value) from error


def _cut(value: object) -> str:
    try:
        return str(value)[:_MAX_REPEATED]
    except ValueError:  # Python writes no number of more than some thousand digits
        return "a number of thousands of digits"

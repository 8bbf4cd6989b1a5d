"""The values of the wire's enums, as people write them: `decode` is STAGE_DECODE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from idefics2_client.bounds import refuse

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor

PriorityName: TypeAlias = Literal["normal", "low"]
StateName: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]


def write_name(kind: EnumDescriptor, value: int) -> str:
    """Name a value; one that is newer than this program by its number."""
    known = kind.values_by_number.get(value)
    return known.name.removeprefix(_prefix(kind)).lower() if known else str(value)


def read_name(kind: EnumDescriptor, name: str | None, field: str) -> int | None:
    """Find the value of a name; None has none.

    Raises:
        InvalidRequest: there is none; names `field` and the names that there are.

    """
    if name is None:
        return None
    known = {write_name(kind, value): value for value in kind.values_by_number if value}
    if name not in known:
        raise refuse(field, f"one of {', '.join(known)}", name)
    return known[name]


def _prefix(kind: EnumDescriptor) -> str:
    return kind.values_by_number[0].name.removesuffix("UNSPECIFIED")

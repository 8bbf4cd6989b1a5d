"""W3C's trace context: the headers by which callers tell in which trace they work.

Source: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TRACE_HEADERS = ("traceparent", "tracestate")
_PARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?P<more>-.*)?"
)
_VALUE = r"[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_MEMBER = re.compile(
    rf"(?P<key>[a-z][a-z0-9_*/-]{{0,255}}|[a-z0-9][a-z0-9_*/-]{{0,240}}@[a-z][a-z0-9_*/-]{{0,13}})={_VALUE}"
)
_MAX_MEMBERS = 32
_MAX_STATE_LENGTH = 4096
"""gRPC begins to refuse calls, Triton's too, whose headers have more than 8 KiB together."""


def read(headers: Mapping[str, str]) -> tuple[str, dict[str, str]] | None:
    """Read in which trace a caller works.

    Returns:
        Its 32 hexadecimal digits and the headers that tell it on, as they came but for blanks; None where
        there is no `traceparent`, or none that can be read. A `tracestate` that cannot is left out alone.

    """
    given = headers.get("traceparent")
    if not given or (parent := _PARENT.fullmatch(given.strip(" \t"))) is None:
        return None
    if parent["version"] == "00" and parent["more"]:
        return None
    trace_id, parent_id, flags = parent.group(2, 3, 4)
    told = {"traceparent": f"00-{trace_id}-{parent_id}-{flags}"}  # of a later version, what this one knows
    state = _read_state(bound_state(headers).get("tracestate", ""))
    return trace_id, {**told, "tracestate": state} if state else told


def bound_state(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Leave out a `tracestate` that is too long to be told on."""
    if len(headers.get("tracestate", "")) <= _MAX_STATE_LENGTH:
        return headers
    return {name: value for name, value in headers.items() if name != "tracestate"}


def _read_state(text: str) -> str:
    """Return the members with commas between; empty where any of them is wrong."""
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {match["key"] for match in found if match is not None}
    is_good = len(keys) == len(members) <= _MAX_MEMBERS
    return ",".join(members) if is_good else ""

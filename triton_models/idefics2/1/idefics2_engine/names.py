"""What a request is called inside: as no other is, and so that the log leads to its caller and trace."""

from __future__ import annotations

import json
import re
import uuid

_STRANGE = re.compile(r"[^\w./-]")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-")
_MAX_LENGTH = 160


def make_name(triton_id: str, parameters: str) -> str:
    """Name a request.

    Args:
        triton_id: Its id for Triton; callers choose it, so it may be anything, and twice the same.
        parameters: Its parameters for Triton, as JSON: `request_id`, where others know it by another id than
            Triton does, and `traceparent`.

    """
    given = _read(parameters)
    known = _STRANGE.sub("?", given.get("request_id") or triton_id)[:_MAX_LENGTH]
    trace = _TRACEPARENT.match(given.get("traceparent", ""))
    return f"{known}/{uuid.uuid4().hex}/{trace[1] if trace else ''}"


def find_share(parameters: str) -> str:
    """Return whom a request is for, by its parameter `share`; all that have none are for one and the same."""
    return _read(parameters).get("share", "")


def about(name: str) -> dict[str, str]:
    """Return what a line of the log has to say of a request: its `request_id` and `trace_id`, if any."""
    known, *rest = name.rsplit("/", 2)
    told = {"request_id": known, "trace_id": rest[-1]} if len(rest) > 1 else {"request_id": name}
    return {field: value for field, value in told.items() if value}


def _read(parameters: str) -> dict[str, str]:
    try:
        given = json.loads(parameters or "{}")
    except ValueError:
        return {}
    items = given.items() if isinstance(given, dict) else ()
    return {name: value for name, value in items if isinstance(value, str)}

"""What a request is called inside: as no other is, and so that the log leads to its caller and trace."""

from __future__ import annotations

import re
import uuid

_STRANGE = re.compile(r"[^\w./-]")
_TRACE = re.compile(r'"traceparent"\s*:\s*"[0-9a-f]{2}-([0-9a-f]{32})-')
_MAX_LENGTH = 160


def make_name(public_id: str, parameters: str) -> str:
    """Name a request.

    Args:
        public_id: Its id for Triton; callers choose it, so it may be anything, and twice the same.
        parameters: Its parameters for Triton, as JSON.

    """
    trace = _TRACE.search(parameters)
    known = _STRANGE.sub("?", public_id)[:_MAX_LENGTH]
    return "/".join(filter(None, (known, uuid.uuid4().hex, trace and trace[1])))

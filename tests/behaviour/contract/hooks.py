"""What schemathesis cannot guess: a picture. Every other question gets one, so that some are answered."""

from __future__ import annotations

from typing import Any

import schemathesis

RED_SQUARE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mO8IyfHgA0wMeAAg1MC"
    "AOBWAShOAhDlAAAAAElFTkSuQmCC"
)
QUESTIONS = {"submit", "run", "stream"}
_numbers = iter(range(10**9))


def is_to_be_mended(context: schemathesis.HookContext) -> bool:
    """Tell whether this is every other question."""
    operation = context.operation
    if operation is None or operation.definition.raw.get("operationId") not in QUESTIONS:
        return False
    return next(_numbers) % 2 == 0


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Any, _: Any) -> None:
    """Let a question be one that is answered; its key stays."""
    if is_to_be_mended(context) and isinstance(case.body, dict) and case.body.get("prompt"):
        case.body = {"prompt": case.body["prompt"], "image_url": RED_SQUARE}
        case.query = {}
        case.headers = {name: case.headers[name] for name in case.headers if name == "Authorization"}

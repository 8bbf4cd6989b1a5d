"""Why a body cannot be read: how it is packed, of which type it is, what its JSON holds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from idefics2_service.errors import InvalidInput, RequestMalformed, TextNotUnicode

if TYPE_CHECKING:
    from starlette.datastructures import Headers

_MAX_REPEATED = 200
"""Characters of a header that a caller is told again."""


def check_encoding(headers: Headers) -> None:
    """Make sure that a body comes as it is.

    Raises:
        RequestMalformed: it is packed: its bounds would be those of other bytes.

    """
    encoding = headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in {"", "identity"}:
        raise _explain_header("content-encoding", "identity", encoding)


def explain_type(headers: Headers) -> InvalidInput:
    """Say that a body is not of the type of JSON."""
    return _explain_header("content-type", "application/json", headers.get("content-type", ""))


def explain_parsing(error: BaseException | None) -> InvalidInput | None:
    """Say what a parser of JSON does not take, though it may be JSON; None: something else went wrong."""
    match error:
        case UnicodeDecodeError():
            return TextNotUnicode("body is not valid UTF-8", field="body")
        case RecursionError():
            return RequestMalformed("body has too many lists or objects inside each other", field="body")
        case ValueError():
            bound = f"numbers of at most {sys.get_int_max_str_digits()} digits"
            return RequestMalformed(f"body must have {bound}", field="body", bound=bound)
    return None


def _explain_header(name: str, bound: str, given: str) -> RequestMalformed:
    told = given[:_MAX_REPEATED]
    return RequestMalformed(f"{name} must be {bound}, not {told}", field=name, bound=bound, value=told)

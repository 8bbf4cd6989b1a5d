"""Pages of lists: how long one is, and where the next begins, by a token for this list of this key alone."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, TypeVar

import msgspec

from idefics2_service.errors import PageTokenInvalid, ValueOutOfRange

_DEFAULT_SIZE, _MAX_SIZE = 50, 1_000
_Place = TypeVar("_Place", int, str)
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Content = tuple[str, _Number | str]
"""The list, and the place in it."""


def read_page_size(size: int) -> int:
    """Read how many entries a page may have: 1 to 1,000; 0 asks for the default, 50.

    Raises:
        ValueOutOfRange: no page has so many.

    """
    if not 0 <= size <= _MAX_SIZE:
        raise ValueOutOfRange.of("page_size", f"1 to {_MAX_SIZE}, or 0 for the default", size)
    return size or _DEFAULT_SIZE


def write_page_token(key_id: str, list_name: str | None, place: int | str | None) -> str:
    """Write where the next page of a key's list begins; empty: there is none.

    `list_name` is None for the list of all requests.
    """
    if place is None:
        return ""
    content = msgspec.json.encode((_list_id(key_id, list_name), place))
    return base64.urlsafe_b64encode(content).decode()


def read_page_token(token: str, key_id: str, list_name: str | None, kind: type[_Place]) -> _Place | None:
    """Read what `write_page_token` wrote of a place of this kind; None: the first page.

    Raises:
        PageTokenInvalid: nobody wrote it, or for another list, or for another key.

    """
    if not token:
        return None
    try:
        content = base64.b64decode(token, altchars=b"-_", validate=True)
        list_id, place = msgspec.json.decode(content, type=_Content)
    except ValueError:
        list_id, place = "", ""
    if list_id != _list_id(key_id, list_name) or not isinstance(place, kind):
        message = "page_token must be the next_page_token of this list, asked for by the same key as before"
        raise PageTokenInvalid(message, field="page_token")
    return place


def _list_id(key_id: str, list_name: str | None) -> str:
    return hashlib.sha256(f"{key_id}/{list_name}".encode()).hexdigest()[:16]

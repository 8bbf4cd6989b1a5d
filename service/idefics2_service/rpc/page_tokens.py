"""Where the next page of a list begins, told so that it is good for this list of this key alone."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, TypeVar

import msgspec

from idefics2_service.errors import PageTokenInvalid

_Place = TypeVar("_Place", int, str)
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Content = tuple[str, _Number | str]
"""The list, and the place in it."""


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

"""Between plain types and the bytes that stores keep: MessagePack by names, so that fields may be added."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from idefics2_service.errors import ServiceError, error_for
from idefics2_service.events import (
    AttemptStarted,
    Failed,
    Finished,
    Happening,
    LogLine,
    QueuePosition,
    StageEntered,
    TextDelta,
)
from idefics2_service.requests import RequestName, ValidRequest
from idefics2_service.store import refusals

logger = structlog.get_logger(__name__)

_PLAIN: dict[str, Any] = {
    kind.__name__: kind
    for kind in (AttemptStarted, Finished, LogLine, QueuePosition, StageEntered, TextDelta)
}

_UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError, TypeError)
"""What comes of bytes that are damaged, or that another version wrote in a way unknown to this one."""


class _Error(msgspec.Struct):
    """An error, as far as it can be told again."""

    reason: str
    message: str
    field: str = ""
    metadata: dict[str, str] = {}


LOG_LINE = b"\x92" + msgspec.msgpack.encode(LogLine.__name__)
"""With which every line of a log begins as `encode_happening` writes it, and nothing else does."""


def encode_request(request: ValidRequest) -> bytes:
    """Write a request with its images."""
    return msgspec.msgpack.encode(request)


def decode_request(data: bytes, name: RequestName) -> ValidRequest | Failed:
    """Read what `encode_request` wrote, of a request that `validation` once let pass.

    Where it cannot be read, return how it is to end: it must not hold up those behind it.
    """
    try:
        return msgspec.msgpack.decode(data, type=ValidRequest)
    except _UNREADABLE:
        logger.exception("a request cannot be read", request_id=name.request_id)
        return Failed(refusals.unreadable(name))


def encode_happening(happening: Happening) -> bytes:
    """Write what happened."""
    content = _write_error(happening.error) if isinstance(happening, Failed) else happening
    return msgspec.msgpack.encode((type(happening).__name__, content))


def decode_happening(data: bytes) -> Happening:
    """Read what `encode_happening` wrote."""
    kind, content = msgspec.msgpack.decode(data, type=tuple[str, msgspec.Raw])
    if kind == Failed.__name__:
        error = msgspec.msgpack.decode(content, type=_Error)
        return Failed(error_for(error.reason, error.message, error.field, error.metadata))
    happening: Happening = msgspec.msgpack.decode(content, type=_PLAIN[kind])
    return happening


def decode_end(data: bytes, name: RequestName) -> Finished | Failed:
    """Read the happening that ended a request; one that cannot be read is told as a fault of ours."""
    try:
        end = decode_happening(data)
        if not isinstance(end, Finished | Failed):
            raise TypeError(f"{type(end).__name__} ends no request")
    except _UNREADABLE:
        logger.exception("the end of a request cannot be read", request_id=name.request_id)
        return Failed(refusals.unreadable(name))
    return end


def _write_error(error: ServiceError) -> _Error:
    metadata = {name: value for name, value in error.metadata.items() if name != "field"}
    return _Error(error.reason, error.message, error.field, metadata)

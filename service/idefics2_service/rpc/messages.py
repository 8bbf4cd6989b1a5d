"""Parsing a call's message: a text that is not Unicode is named, which the library would not do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from idefics2.v1 import files_pb2

from idefics2_service.errors import RequestMalformed, TextNotUnicode

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor


_CHUNK_TAG = bytes([files_pb2.UploadRequest.CHUNK_FIELD_NUMBER << 3 | 2])
_MAX_HEADER_BYTES = 6
"""Of a chunk: its tag, and five bytes for a length below 32 GiB."""


def parse_message(handler: Any, data: bytes) -> Message:  # grpc's handlers are untyped
    """Parse a message of a method.

    Raises:
        TextNotUnicode: a text of it is not UTF-8; names the field.
        RequestMalformed: it is not this message at all.

    """
    try:
        message: Message = handler.request_deserializer(data)
    except DecodeError as error:
        field = _find_bad_text(handler.request_deserializer.__self__.DESCRIPTOR, data)
        if field is None:
            raise RequestMalformed("the call's message cannot be parsed") from error
        raise TextNotUnicode(f"{field} is not valid UTF-8", field=field) from error
    return message


def find_chunk(data: bytes) -> memoryview | None:
    """Return the chunk of an upload's message that is nothing else; None: it is something else, or nothing.

    It is not copied, as parsing would do, twice: most of what an upload costs us beside the disk is copying.
    Source: https://protobuf.dev/programming-guides/encoding: a tag, the length as a varint, the bytes.
    """
    if data[:1] != _CHUNK_TAG:
        return None
    size = shift = 0
    for place, byte in enumerate(data[1:_MAX_HEADER_BYTES], 1):
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004  # a varint's last byte
            return memoryview(data)[place + 1 :] if size == len(data) - place - 1 else None
    return None


def _find_bad_text(descriptor: Descriptor, data: bytes) -> str | None:
    """Return the first string field of the message that is not UTF-8, by reading all fields as unknown."""
    empty = Empty()
    try:
        empty.ParseFromString(data)
    except DecodeError:
        return None
    for unknown in UnknownFieldSet(empty):  # type: ignore[attr-defined]  # the stubs lack it
        field = descriptor.fields_by_number.get(unknown.field_number)
        if field is None or not isinstance(unknown.data, bytes):
            continue
        if field.type == field.TYPE_STRING and not _is_utf8(unknown.data):
            return field.name
        inner = field.message_type and _find_bad_text(field.message_type, unknown.data)
        if inner:
            return f"{field.name}.{inner}"
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

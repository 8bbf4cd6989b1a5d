"""Parsing a call's message: a text that is not Unicode is named, which the library would not do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError, Message
from idefics2.v1 import files_pb2, generation_pb2

from idefics2_service.errors import RequestMalformed, TextNotUnicode
from idefics2_service.rpc.fields import read_fields, read_varint

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor


MAX_FIELDS = 1_100
"""Of a message, with those inside of it: 500 images have two each. Parsed, one may take a kilobyte."""
_FIELD_BYTES = 2
"""What a field has at least: its tag, and a number or a length."""
_QUESTION = generation_pb2.GenerateRequest.DESCRIPTOR
"""Its fields have the same names wherever it stands: `prompt`, in a submission, too."""
_CHUNK_TAG = bytes([files_pb2.UploadRequest.CHUNK_FIELD_NUMBER << 3 | 2])


def parse_message(handler: Any, data: bytes) -> Message:  # grpc's handlers are untyped
    """Parse a message of a method.

    Raises:
        TextNotUnicode: a text of it is not UTF-8; names the field.
        RequestMalformed: it is not this message at all, or has far more fields than any.

    """
    descriptor: Descriptor = handler.request_deserializer.__self__.DESCRIPTOR
    _check_num_fields(descriptor, data)
    try:
        message: Message = handler.request_deserializer(data)
    except DecodeError as error:
        field = _find_bad_text(descriptor, memoryview(data))
        if field is None:
            raise RequestMalformed("the call's message cannot be parsed") from error
        raise TextNotUnicode(f"{field} is not valid UTF-8", field=field) from error
    return message


def find_chunk(data: bytes) -> memoryview | None:
    """Return the chunk of an upload's message that is nothing else; None: it is something else, or nothing.

    It is not copied, as parsing would do, twice: most of what an upload costs us beside the disk is copying.
    """
    if data[:1] != _CHUNK_TAG:
        return None
    try:
        size, place = read_varint(data, 1)
    except ValueError:
        return None
    return memoryview(data)[place:] if size == len(data) - place else None


def _check_num_fields(descriptor: Descriptor, data: bytes) -> None:
    """Refuse what has too many fields, by looking at no more than are allowed."""
    if len(data) < MAX_FIELDS * _FIELD_BYTES:
        return
    num_fields, parts = 0, [(descriptor, memoryview(data))]
    while parts:
        kind, part = parts.pop()
        for number, content in read_fields(part):
            field, num_fields = kind.fields_by_number.get(number), num_fields + 1
            if num_fields > MAX_FIELDS:
                name = "" if field is None else field.name
                raise RequestMalformed(_say_too_many(name), field=name, bound=str(MAX_FIELDS))
            if field is not None and field.message_type is not None:
                parts.append((field.message_type, content))


def _say_too_many(field: str) -> str:
    many = f"the call's message has more than {MAX_FIELDS} fields, those inside of others included"
    return f"{many}; {field} is one too many" if field else many


def _find_bad_text(descriptor: Descriptor, data: memoryview) -> str | None:
    """Return the first string field of the message that is not UTF-8, named as what is checked later is."""
    num_seen = Counter[int]()
    for number, content in read_fields(data):
        field = descriptor.fields_by_number.get(number)
        if field is None:
            continue
        name = f"{field.name}[{num_seen[number]}]" if field.is_repeated else field.name
        num_seen[number] += 1
        if field.type == field.TYPE_STRING and not _is_utf8(content):
            return name
        inner = field.message_type and _find_bad_text(field.message_type, content)
        if inner:
            return inner if field.message_type == _QUESTION else f"{name}.{inner}"
    return None


def _is_utf8(data: memoryview) -> bool:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True

"""What is read from the bytes of a message without parsing it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.struct_pb2 import Struct
from idefics2.v1 import files_pb2, generation_pb2, requests_pb2
from idefics2_service.errors import RequestMalformed, TextNotUnicode
from idefics2_service.rpc import messages
from idefics2_service.rpc.fields import read_fields
from idefics2_service.rpc.messages import MAX_FIELDS, find_chunk, parse_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

CHUNK = b"x" * 300
OTHERS = b"\x90\x7d\x80\x01" + b"\x91\x7d" + bytes(8) + b"\x95\x7d" + bytes(4) + b"\x92\x7d\x02\xff\xff"
"""Fields of a later version, of every kind."""
GROUP = b"\x93\x7d" + b"\x12\x01\xff" + b"\x94\x7d"
"""Of a later version, too: what looks like a prompt in it is none."""
BAD_PROMPT = b"\x12\x01\xff"


def write(**fields: object) -> bytes:
    """Write a message of an upload."""
    return files_pb2.UploadRequest(**fields).SerializeToString()  # type: ignore[arg-type]  # what a test gives


@pytest.mark.parametrize("size", [1, 127, 128, 129, 16_383, 16_384, 2**20, 2**21])
def test_a_chunk_is_found_as_parsing_would_find_it_and_not_copied(size: int) -> None:
    data = write(chunk=bytes(range(256)) * (size // 256) + b"y" * (size % 256))
    found = find_chunk(data)
    assert found is not None
    assert bytes(found) == files_pb2.UploadRequest.FromString(data).chunk
    assert found.obj is data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        write(),
        write(chunk=b""),
        write(start=files_pb2.UploadStart(size_bytes=9)),
        write(chunk=CHUNK) + write(chunk=CHUNK),  # the last one counts
        write(chunk=CHUNK) + write(start=files_pb2.UploadStart()),
        write(chunk=CHUNK)[:-1],
        write(chunk=CHUNK) + b"\x18\x01",  # and a field of a later version
        b"\x12",
        b"\x12\x80",
        b"\x12\x80\x80\x80\x80\x80\x01",
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + CHUNK,
    ],
)
def test_whatever_is_not_just_a_chunk_is_left_to_the_parser(data: bytes) -> None:
    assert not find_chunk(data)


def parse(kind: type[Message], data: bytes) -> Message:
    """Parse a message as that of a method."""
    return parse_message(SimpleNamespace(request_deserializer=kind.FromString), data)


@pytest.mark.parametrize("before", [b"", OTHERS, GROUP, b"\x18\x05", b"\x12\x01x", b"\x10\x00"])
def test_a_text_that_is_not_unicode_is_found_behind_fields_of_every_kind(before: bytes) -> None:
    with pytest.raises(TextNotUnicode) as caught:
        parse(generation_pb2.GenerateRequest, before + BAD_PROMPT)
    assert caught.value.field == "prompt"
    nested = b"\x12" + bytes([len(before + BAD_PROMPT)]) + before + BAD_PROMPT
    with pytest.raises(TextNotUnicode) as caught:
        parse(requests_pb2.SubmitRequest, before.replace(b"\x12", b"\x0a") + nested)
    assert caught.value.field == "prompt"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": "xx"}, "prompt"),
        ({"image_url": "xx"}, "image_url"),
        ({"stop": [".", "xx"]}, "stop[1]"),
        ({"images": [{"data": b"xx"}, {"url": "https://example.org/"}, {"url": "xx"}]}, "images[2].url"),
    ],
)
def test_the_fields_of_a_question_are_named_alike_whether_it_is_asked_or_submitted(
    fields: dict[str, Any], named: str
) -> None:
    question = generation_pb2.GenerateRequest(**{"seed": 1, **fields})
    submission = requests_pb2.SubmitRequest(request_id="one", input=question)
    for message in (question, submission):
        with pytest.raises(TextNotUnicode, match=re.escape(f"{named} is not")) as caught:
            parse(type(message), message.SerializeToString().replace(b"xx", b"\xff\xff"))
        assert caught.value.field == named


def test_another_text_of_a_submission_is_named_as_its_own() -> None:
    data = requests_pb2.SubmitRequest(webhook_url="xx").SerializeToString().replace(b"xx", b"\xff\xff")
    with pytest.raises(TextNotUnicode) as caught:
        parse(requests_pb2.SubmitRequest, data)
    assert caught.value.field == "webhook_url"


@pytest.mark.parametrize(
    "end", [b"\x12", b"\x12\x02x", b"\x19\x00", b"\x1d\x00", b"\x1e", b"\x7c", b"\xff" * 11]
)
def test_what_no_message_ends_with_is_malformed(end: bytes) -> None:
    with pytest.raises(RequestMalformed):
        parse(generation_pb2.GenerateRequest, OTHERS + end)


def test_fields_of_a_later_version_are_passed_over() -> None:
    data = OTHERS + GROUP + b"\x12\x01x"
    assert parse(generation_pb2.GenerateRequest, data).prompt == "x"  # type: ignore[attr-defined]  # it has one


def nest(number: int, data: bytes) -> bytes:
    """Write a field that is a message of 16 KiB to 2 MiB."""
    size = len(data)
    return bytes([number << 3 | 2, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + data


IMAGES = b"\x6a\x00" * 200_000
UNKNOWN = b"\x90\x7d\x00" * 200_000


@pytest.mark.parametrize(
    ("kind", "data", "field"),
    [
        (generation_pb2.GenerateRequest, IMAGES, "images"),
        (generation_pb2.GenerateRequest, b"\x62\x01x" * 200_000, "stop"),
        (generation_pb2.GenerateRequest, b"\x18\x05" * 200_000, "max_new_tokens"),
        (generation_pb2.GenerateRequest, nest(13, UNKNOWN), ""),
        (requests_pb2.SubmitRequest, nest(2, IMAGES), "images"),
        (requests_pb2.SubmitRequest, nest(2, b"\x6a\x00" * 10_000) * 20, "images"),
        (requests_pb2.GetRequestRequest, UNKNOWN, ""),
        (requests_pb2.GetRequestRequest, b"\x93\x7d\x94\x7d" * 100_000, ""),
        (Struct, b"\x0a\x00" * 200_000, "fields"),
        (Struct, nest(1, b"\x12\x00" * 200_000), "value"),
    ],
)
def test_a_message_of_more_fields_than_any_is_refused_after_a_look_at_as_many(
    kind: type[Message], data: bytes, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def count(part: memoryview) -> Iterator[tuple[int, memoryview]]:
        for number, content in read_fields(part):
            read.append(number)
            yield number, content

    monkeypatch.setattr(messages, "read_fields", count)
    parser = Parser(kind)
    with pytest.raises(RequestMalformed) as caught:
        parse_message(SimpleNamespace(request_deserializer=parser.parse), data)
    assert caught.value.field == field
    assert field in caught.value.message
    assert caught.value.metadata["bound"] == str(MAX_FIELDS)
    assert len(read) == MAX_FIELDS + 1
    assert not parser.parsed


class Parser:
    """What parses a kind of messages, as a handler has it."""

    def __init__(self, kind: type[Message]) -> None:
        self.DESCRIPTOR = kind.DESCRIPTOR
        self.parsed: list[bytes] = []

    def parse(self, data: bytes) -> None:
        self.parsed.append(data)


def test_a_message_may_have_many_fields_and_large_ones() -> None:
    stops = [str(number) for number in range(MAX_FIELDS - 4)]
    images = [generation_pb2.Image(data=b"x" * 2**20)]
    request = generation_pb2.GenerateRequest(prompt="\x12\x00" * 2**20, stop=stops, images=images)
    submission = requests_pb2.SubmitRequest(input=request)
    assert parse(requests_pb2.SubmitRequest, submission.SerializeToString()) == submission
    submission.request_id = "one more"
    with pytest.raises(RequestMalformed):
        parse(requests_pb2.SubmitRequest, submission.SerializeToString())


def test_a_message_may_have_as_many_images_as_can_be_set() -> None:
    images = [generation_pb2.Image(sha256="0" * 64)] * 500
    request = generation_pb2.GenerateRequest(prompt="What?", images=images, stop=["."] * 8)
    submission = requests_pb2.SubmitRequest(input=request, request_id="one")
    fill(request, "images", "stop")
    fill(submission, "input")
    submission.input.CopyFrom(request)
    assert parse(requests_pb2.SubmitRequest, submission.SerializeToString()) == submission


def fill(message: Message, *but: str) -> None:
    """Set each field of a message that is not set, and those inside of it, but those that are named."""
    for field in message.DESCRIPTOR.fields:
        if field.name in but or field.is_repeated or (field.containing_oneof and not field.has_presence):
            continue
        if field.message_type is not None:
            fill(getattr(message, field.name))
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, "x")
        elif field.type == field.TYPE_BYTES:
            setattr(message, field.name, b"x")
        else:
            setattr(message, field.name, 1)

"""What is read from the bytes of a message without parsing it."""

from __future__ import annotations

import pytest
from idefics2.v1 import files_pb2
from idefics2_service.rpc.messages import find_chunk

CHUNK = b"x" * 300


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

"""Between the messages of uploaded files and the core's plain types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2.v1 import files_pb2

from idefics2_service.errors import RequestMalformed, ValueOutOfRange
from idefics2_service.rpc.records import read_seconds, write_timestamp
from idefics2_service.uploads.records import StoredFile, UploadStart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from idefics2_service.blobs.interface import Data

_SENT_BYTES = 131_072
"""Of each chunk: what a caller who stops to read leaves in grpc's hands is two of them, until it hangs up."""


def write_file(file: StoredFile) -> files_pb2.File:
    """Write what is known of a file."""
    return files_pb2.File(
        id=file.id,
        url=file.url,
        name=file.name,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        content_type=file.content_type,
        create_time=write_timestamp(file.created_at),
        expire_time=write_timestamp(file.expires_at),
    )


async def read_start(messages: AsyncIterator[files_pb2.UploadRequest | memoryview]) -> UploadStart:
    """Read the first message.

    Raises:
        RequestMalformed: there is none, or it is a chunk.
        ValueOutOfRange: its time is none.

    """
    first = await anext(messages, None)
    if first is None or isinstance(first, memoryview) or not first.HasField("start"):
        raise RequestMalformed("the first message of an upload must hold start", field="start")
    start = first.start
    return UploadStart(
        upload_id=start.upload_id,
        offset=start.offset,
        name=start.name,
        size_bytes=start.size_bytes,
        sha256=start.sha256,
        content_type=start.content_type,
        keep_seconds=read_seconds(start, "ttl", "start.ttl"),
    )


async def read_chunks(messages: AsyncIterator[files_pb2.UploadRequest | memoryview]) -> AsyncIterator[Data]:
    """Yield what each further message brings; most of them are a chunk and nothing else, found before.

    Raises:
        RequestMalformed: one is no chunk.

    """
    async for message in messages:
        if isinstance(message, memoryview):
            yield message
        elif message.WhichOneof("content") == "chunk":
            yield message.chunk
        else:
            raise RequestMalformed("each message after the first must hold a chunk", field="chunk")


def read_range(request: files_pb2.DownloadFileRequest, size_bytes: int) -> tuple[int, int | None]:
    """Read which bytes are wanted; None: all to the end.

    Raises:
        ValueOutOfRange: the file has no such bytes.

    """
    if not 0 <= request.offset <= size_bytes:
        raise ValueOutOfRange.of("offset", f"0 to {size_bytes}", request.offset)
    if not request.HasField("max_bytes"):
        return request.offset, None
    if request.max_bytes < 1:
        raise ValueOutOfRange.of("max_bytes", "1 or more", request.max_bytes)
    return request.offset, request.max_bytes


def cut(data: bytes) -> Iterator[bytes]:
    """Make chunks of a part."""
    return (data[start : start + _SENT_BYTES] for start in range(0, len(data), _SENT_BYTES))

"""What blobs in S3 promise beyond every store."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from fakes.cable import lay_cable
from idefics2_service.blobs import s3 as module
from idefics2_service.blobs.s3 import S3Blobs
from idefics2_service.errors import FileStoreUnavailable, StartFailed
from idefics2_service.uploads.names import content_name, file_folder, make_id, record_name
from ports import HOST, free_port
from security.canaries import find
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from idefics2_service.blobs.interface import BlobStore

FILE_ID = make_id()
RECORD = record_name("anna", FILE_ID)
CALLS: dict[str, Callable[[BlobStore], Coroutine[Any, Any, Any]]] = {
    "put": lambda blobs: blobs.put(RECORD, b"record"),
    "get": lambda blobs: blobs.get(RECORD),
    "get_part": lambda blobs: blobs.get_part(RECORD, 0, 10),
    "delete": lambda blobs: blobs.delete(RECORD, content_name("anna", "5a" * 32, FILE_ID)),
    "list_blobs": lambda blobs: blobs.list_blobs(file_folder("anna", FILE_ID)),
}

CONFLICT = (b"409 Conflict", b"<Error><Code>ConditionalRequestConflict</Code></Error>")
"""Another one puts or deletes a blob of this name at the same time: S3 wants to be asked again."""


@asynccontextmanager
async def answering_s3(
    answer: Callable[[bytes], tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[S3Blobs]:
    """Yield blobs of a server that answers each request by its target, with a status and a body."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status, body = answer((await reader.readuntil(b"\r\n\r\n")).split()[1])
        head = b"HTTP/1.1 %b\r\nConnection: close\r\nETag: x\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (status, len(body)) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak, HOST)
    async with server:
        variables = {
            "AWS_ENDPOINT": f"http://{HOST}:{server.sockets[0].getsockname()[1]}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "0123456789abcdef",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield S3Blobs("s3://files")


def refuse_signature(target: bytes) -> tuple[bytes, bytes]:
    """Refuse a request as S3 refuses a bad signature: it repeats what was signed, in two ways."""
    body = b"<Error><Code>SignatureDoesNotMatch</Code><CanonicalRequest>%b %b</CanonicalRequest></Error>"
    return b"403 Forbidden", body % (target, target.hex(" ").encode())


async def test_a_wrong_key_ends_the_start(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**s3, "AWS_SECRET_ACCESS_KEY": "wrong"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartFailed, match="IDEFICS2_BLOB_URL") as caught:
        await S3Blobs("s3://files").start()
    assert "wrong" not in str(caught.value)


async def test_a_server_that_is_away_ends_the_start(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**s3, "AWS_ENDPOINT": f"http://{HOST}:{free_port()}"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartFailed, match="IDEFICS2_BLOB_URL"):
        await S3Blobs("s3://files").start()


async def test_connections_that_died_without_a_word_fail_one_timeout_and_no_more(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(module, "_MAX_IDLE_SECONDS", 1.0)
    async with lay_cable(s3["AWS_ENDPOINT"].removeprefix("http://")) as (cable, address):
        for name, value in {**s3, "AWS_ENDPOINT": f"http://{address}"}.items():
            monkeypatch.setenv(name, value)
        blobs = S3Blobs("s3://files/stranded")
        await blobs.put(RECORD, b"record")
        await asyncio.gather(*(blobs.get(RECORD) for _ in range(16)))
        cable.strand()
        with suppress(FileStoreUnavailable):
            await blobs.get(RECORD)
        assert await blobs.get(RECORD) == b"record"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_fault_is_logged_without_the_id_that_is_all_it_takes_to_read_a_file(
    call: Callable[[BlobStore], Coroutine[Any, Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering_s3(refuse_signature, monkeypatch) as blobs:
        with capture_logs() as logged, pytest.raises(FileStoreUnavailable) as caught:
            await call(blobs)
    (line,) = logged
    assert "SignatureDoesNotMatch" in line["error"]
    told = line["error"] + "".join(traceback.format_exception(caught.value))
    assert find({"id": FILE_ID, "bytes of it": FILE_ID.encode().hex(" ")}, told.encode()) == set()


@pytest.mark.parametrize("call", [CALLS["get"], CALLS["get_part"]], ids=["get", "get_part"])
@pytest.mark.parametrize("body", [b"<Error><Code>NoSuchBucket</Code></Error>", b"default backend - 404"])
async def test_a_blob_is_not_missing_where_its_bucket_is_or_the_server_behind_a_proxy(
    call: Callable[[BlobStore], Coroutine[Any, Any, Any]], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering_s3(lambda _: (b"404 Not Found", body), monkeypatch) as blobs:
        with pytest.raises(FileStoreUnavailable):
            await call(blobs)


async def test_what_meets_others_who_put_or_delete_the_same_is_put_as_new_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter((CONFLICT, CONFLICT, (b"200 OK", b"")))
    async with answering_s3(lambda _: next(answers), monkeypatch) as blobs:
        assert await blobs.put_new(RECORD, b"record")


async def test_what_meets_conflicts_without_end_is_not_said_to_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with answering_s3(lambda _: CONFLICT, monkeypatch) as blobs:
        with pytest.raises(FileStoreUnavailable):
            await blobs.put_new(RECORD, b"record")

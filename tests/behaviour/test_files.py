"""What is promised of files that callers upload."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import time
import tracemalloc
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fakes.backend import FakeBackend
from fakes.script import Script
from harness import (
    Harness,
    describe_red_circle,
    red_circle_answer,
    refuse,
    run_harness,
    run_while_triton_starts,
)
from idefics2.v1 import files_pb2, files_pb2_grpc, generation_pb2, requests_pb2, requests_pb2_grpc
from idefics2_service.app import App
from idefics2_service.keys.records import Key
from idefics2_service.keys.ring import KeyRing
from idefics2_service.rpc import interceptor
from idefics2_service.uploads import pieces
from idefics2_service.uploads.library import GRACE_SECONDS, Library
from idefics2_service.uploads.links import make_public_path
from pictures import RED_CIRCLE, draw_red_circle, encode, red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from harness import MakeSettings

DAY_SECONDS = 86_400
PATIENCE_SECONDS = 20
PIECE_BYTES = 10_000
"""Pieces are that small here, so that an upload of a few kB has several."""
PICTURE = encode(draw_red_circle(), "BMP")  # 90 kB
SHA256 = hashlib.sha256(PICTURE).hexdigest()
NOWHERE = "0" * 64
OTHER, NOW = "other", datetime(2026, 11, 25, tzinfo=UTC)
LIMITS = {"file__max_file_bytes": 200_000, "file__max_key_bytes": 300_000, "file__max_key_files": 4}


class Uploader:
    """Somebody who uploads files to a service."""

    def __init__(self, service: Harness) -> None:
        """Call it with its key."""
        self.service = service
        self.stub: Any = files_pb2_grpc.FileServiceStub(service.channel)
        self.metadata = service.metadata

    async def upload(self, data: bytes = PICTURE, *, chunk_bytes: int = 700, **start: Any) -> files_pb2.File:
        """Upload a file in one go."""
        file: files_pb2.File = await self.stub.Upload(
            messages(data, chunk_bytes, **start), metadata=self.metadata
        )
        return file

    async def break_off(self, upload_id: str, data: bytes, num_kept_bytes: int) -> None:
        """Upload the beginning of a file, break the call when so much is kept, and wait for its end."""
        call = self.stub.Upload(metadata=self.metadata)
        for message in messages(data, 500, upload_id=upload_id, size_bytes=len(PICTURE)):
            await call.write(message)
        async for _ in patience():
            if await self.num_kept(upload_id) >= num_kept_bytes:
                break
        call.cancel()
        async for _ in patience():
            if not self.service.app.metrics.registry.get_sample_value("idefics2_open_calls"):
                break

    async def num_kept(self, upload_id: str) -> int:
        """Ask how much of an upload is kept, 0 where there is none."""
        try:
            message = files_pb2.GetUploadRequest(upload_id=upload_id)
            answer: files_pb2.GetUploadResponse = await self.call("GetUpload", message)
        except grpc.aio.AioRpcError:
            return 0
        return answer.num_kept_bytes

    async def call(self, method: str, message: Any) -> Any:
        """Call a method that has one answer."""
        return await getattr(self.stub, method)(message, metadata=self.metadata)

    async def get(self, **named: Any) -> files_pb2.File:
        """Ask for a file."""
        file: files_pb2.File = await self.call("GetFile", files_pb2.GetFileRequest(**named))
        return file

    async def download(self, **wanted: Any) -> tuple[files_pb2.File, bytes]:
        """Download a file, or a part of it."""
        call = self.stub.DownloadFile(files_pb2.DownloadFileRequest(**wanted), metadata=self.metadata)
        first, *others = [message async for message in call]
        return first.file, b"".join(message.chunk for message in others)

    async def list_ids(self) -> list[str]:
        """List the ids of all files, a page of two at a time."""
        ids, token = [], ""
        while True:
            message = files_pb2.ListFilesRequest(page_size=2, page_token=token)
            page = await self.call("ListFiles", message)
            assert len(page.files) <= 2
            ids += [file.id for file in page.files]
            token = page.next_page_token
            if not token:
                return ids


def messages(data: bytes, chunk_bytes: int = 700, **start: Any) -> Iterator[files_pb2.UploadRequest]:
    """Write an upload, from its offset on; what is not said of its size is true."""
    start = {"size_bytes": start.get("offset", 0) + len(data), **start}
    yield files_pb2.UploadRequest(start=files_pb2.UploadStart(**start))
    for begin in range(0, len(data), chunk_bytes):
        yield files_pb2.UploadRequest(chunk=data[begin : begin + chunk_bytes])


async def patience() -> AsyncIterator[None]:
    """Look again and again, and give up in the end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        yield
        await asyncio.sleep(0)
    raise AssertionError("waited too long")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep uploads in pieces that a test can afford."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", PIECE_BYTES)


@pytest.fixture
async def uploader(make_settings: MakeSettings) -> AsyncIterator[Uploader]:
    """Somebody who uploads to a service over the fake backend."""
    script = Script()
    app = App(make_settings(**LIMITS), FakeBackend(script))
    async with run_harness(app, script, is_real=False) as harness:
        yield Uploader(harness)
        harness.check_script()


@pytest.fixture
def library(uploader: Uploader) -> Library:
    """The files of the service."""
    return uploader.service.app._library


@pytest.fixture
def blobs(uploader: Uploader) -> Callable[[], list[Path]]:
    """List all that lies in its folder of files."""
    root = uploader.service.app._settings.data.folder / "files"
    return lambda: files_under(root)


def files_under(root: Path) -> list[Path]:
    """List all that lies in a folder and those below it, while others may change it."""
    return sorted(Path(place, name) for place, _, names in os.walk(root) for name in names)


@pytest.fixture
def as_other(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let all further calls be those of another key."""

    def change() -> None:
        class Caller(interceptor.Caller):
            def __init__(self, request_id: str, key_id: str) -> None:
                super().__init__(request_id, OTHER)

        monkeypatch.setattr(interceptor, "Caller", Caller)
        monkeypatch.setattr(KeyRing, "find", lambda *_: Key(id=OTHER, hashes=(NOWHERE,), created_at=NOW))
        monkeypatch.setattr(KeyRing, "confirm", lambda *_: None)

    return change


def let_pass(library: Library, seconds: float) -> None:
    """Let time go by."""
    clock = library.clock
    library.clock = lambda: clock() + seconds


async def test_a_file_is_what_its_bytes_say(uploader: Uploader) -> None:
    file = await uploader.upload(name="circle.bmp", size_bytes=len(PICTURE), sha256=SHA256.upper())
    assert (file.name, file.size_bytes, file.sha256) == ("circle.bmp", len(PICTURE), SHA256)
    assert file.content_type == "image/bmp"
    assert len(file.id) == 32
    assert file.url == f"idefics2://files/{file.id}"
    assert file.expire_time.seconds - file.create_time.seconds == DAY_SECONDS
    assert await uploader.get(id=file.id) == await uploader.get(sha256=SHA256) == file
    assert await uploader.download(id=file.id) == await uploader.download(sha256=SHA256) == (file, PICTURE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
async def test_every_format_that_is_accepted_can_be_uploaded(uploader: Uploader, kind: str) -> None:
    content_type = f"image/{kind.lower()}"
    file = await uploader.upload(encode(draw_red_circle(), kind), content_type=content_type)
    assert file.content_type == content_type


@pytest.mark.parametrize(
    ("offset", "max_bytes"),
    [
        (0, 1),
        (0, 10**9),
        (10_499, 2),
        (10_500, 10_500),
        (10_501, None),
        (len(PICTURE) - 1, None),
        (len(PICTURE), 5),
    ],
)
async def test_any_range_of_a_file_can_be_downloaded(
    uploader: Uploader, offset: int, max_bytes: int | None
) -> None:
    file = await uploader.upload()
    end = None if max_bytes is None else offset + max_bytes
    assert await uploader.download(id=file.id, offset=offset, max_bytes=max_bytes) == (
        file,
        PICTURE[offset:end],
    )


async def test_the_same_bytes_are_kept_once_and_last_anew(
    uploader: Uploader, library: Library, blobs: Callable[[], list[Path]]
) -> None:
    first, before = await uploader.upload(name="first"), blobs()
    let_pass(library, 1_000)
    second = await uploader.upload(name="second")
    assert (second.id, second.name, second.create_time) == (first.id, "first", first.create_time)
    assert second.expire_time.seconds - first.expire_time.seconds >= 1_000
    reminder, *others = sorted(set(blobs()) - set(before))
    assert (reminder.name[:6], others) == ("until-", [])
    at_once = await uploader.upload(b"never read", sha256=SHA256)
    assert at_once.id == first.id
    assert await uploader.list_ids() == [first.id]


async def test_equal_uploads_at_the_same_time_give_one_file(uploader: Uploader) -> None:
    files = await asyncio.gather(*(uploader.upload() for _ in range(3)))
    assert len({file.id for file in files}) == 1
    assert await uploader.list_ids() == [files[0].id]
    assert (await uploader.download(id=files[0].id))[1] == PICTURE


async def test_an_upload_that_broke_is_gone_on_with(uploader: Uploader) -> None:
    await uploader.break_off("mine", PICTURE[:20_500], num_kept_bytes=20_000)
    kept = await uploader.num_kept("mine")
    assert kept >= 20_000
    assert await uploader.list_ids() == []
    file = await uploader.upload(
        PICTURE[kept:], upload_id="mine", offset=kept, size_bytes=len(PICTURE), sha256=SHA256
    )
    assert (await uploader.download(id=file.id))[1] == PICTURE
    refusal = await refuse(uploader.call("GetUpload", files_pb2.GetUploadRequest(upload_id="mine")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND")


async def test_an_upload_that_ends_early_is_taken_for_a_broken_one(uploader: Uploader) -> None:
    begun: dict[str, Any] = {"upload_id": "mine", "size_bytes": len(PICTURE)}
    refusal = await refuse(uploader.upload(PICTURE[:20_500], **begun))
    assert (refusal.reason, refusal.field) == ("FILE_MISMATCH", "start.size_bytes")
    assert await uploader.list_ids() == []
    kept = await uploader.num_kept("mine")
    assert kept == 20_500
    assert (await uploader.upload(PICTURE[kept:], offset=kept, **begun)).sha256 == SHA256


async def test_two_who_go_on_with_one_upload_do_not_mix(uploader: Uploader) -> None:
    await uploader.break_off("mine", PICTURE[:20_500], num_kept_bytes=20_000)
    kept = await uploader.num_kept("mine")
    rest: dict[str, Any] = {"upload_id": "mine", "offset": kept, "sha256": SHA256}
    first, second = await asyncio.gather(*(uploader.upload(PICTURE[kept:], **rest) for _ in range(2)))
    assert first.id == second.id
    assert (await uploader.download(id=first.id))[1] == PICTURE


async def test_an_upload_is_gone_on_with_from_where_it_is_kept_only(uploader: Uploader) -> None:
    await uploader.break_off("mine", PICTURE[:20_500], num_kept_bytes=20_000)
    kept = await uploader.num_kept("mine")
    refusal = await refuse(uploader.upload(PICTURE[kept + 1 :], upload_id="mine", offset=kept + 1))
    assert (refusal.reason, refusal.field) == ("VALUE_OUT_OF_RANGE", "start.offset")
    assert f"{kept}, as GetUpload tells" in refusal.message
    assert (await uploader.upload(upload_id="mine")).sha256 == SHA256  # or anew


async def test_an_upload_without_a_name_leaves_nothing_when_it_breaks(
    uploader: Uploader, blobs: Callable[[], list[Path]]
) -> None:
    call = uploader.stub.Upload(metadata=uploader.metadata)
    for message in messages(PICTURE[:20_000]):
        await call.write(message)
    async for _ in patience():
        if blobs():
            break
    call.cancel()
    async for _ in patience():
        if not blobs():
            break


async def test_an_upload_that_nobody_goes_on_with_is_forgotten(
    uploader: Uploader, library: Library, blobs: Callable[[], list[Path]]
) -> None:
    await uploader.break_off("mine", PICTURE[:10_500], num_kept_bytes=10_000)
    await library.sweep()
    assert await uploader.num_kept("mine") >= 10_000
    let_pass(library, 3_601)
    assert await uploader.num_kept("mine") == 0
    await library.sweep()
    let_pass(library, DAY_SECONDS)
    await library.sweep()
    assert blobs() == []


async def test_a_file_is_forgotten_after_its_time(
    uploader: Uploader, library: Library, blobs: Callable[[], list[Path]]
) -> None:
    file = await uploader.upload()
    let_pass(library, DAY_SECONDS - 10)
    await library.sweep()
    assert await uploader.get(id=file.id) == file
    let_pass(library, 10)
    assert (await refuse(uploader.get(id=file.id))).reason == "FILE_NOT_UPLOADED"
    assert await uploader.list_ids() == []
    let_pass(library, GRACE_SECONDS + 1)
    await library.sweep()
    assert blobs() == []
    assert (await uploader.upload()).id != file.id


async def test_a_file_is_forgotten_after_its_time_also_while_triton_starts(
    uploader: Uploader, make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await uploader.upload()
    shutil.copytree(uploader.service.app._settings.data.folder / "files", tmp_path / "files")
    app = App(make_settings(data__folder=str(tmp_path)))
    let_pass(app._library, DAY_SECONDS + GRACE_SECONDS + 1)
    async with run_while_triton_starts(app, monkeypatch):
        async for _ in patience():
            if not files_under(tmp_path / "files"):
                break


async def test_a_file_that_was_uploaded_again_outlives_its_first_time(
    uploader: Uploader, library: Library
) -> None:
    file = await uploader.upload()
    let_pass(library, DAY_SECONDS - 10)
    await uploader.upload()
    let_pass(library, 20)
    await library.sweep()
    assert (await uploader.download(sha256=SHA256))[0].id == file.id


async def test_a_deleted_file_is_gone(uploader: Uploader, blobs: Callable[[], list[Path]]) -> None:
    file = await uploader.upload()
    assert await uploader.call("DeleteFile", files_pb2.DeleteFileRequest(sha256=SHA256)) == file
    assert blobs() == []
    for call in (
        uploader.get(id=file.id),
        uploader.get(sha256=SHA256),
        uploader.download(id=file.id),
        uploader.call("DeleteFile", files_pb2.DeleteFileRequest(id=file.id)),
    ):
        refusal = await refuse(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "FILE_NOT_UPLOADED")


async def test_a_file_whose_bytes_were_lost_is_gone_and_can_be_uploaded_again(
    uploader: Uploader, blobs: Callable[[], list[Path]]
) -> None:
    file = await uploader.upload()
    next(path for path in blobs() if "-" in path.name).unlink()
    assert (await refuse(uploader.download(id=file.id))).reason == "FILE_NOT_UPLOADED"
    file = await uploader.upload()
    assert (await uploader.download(id=file.id))[1] == PICTURE


async def test_all_files_are_listed_once(uploader: Uploader) -> None:
    files = [await uploader.upload(encode(draw_red_circle((size, size)))) for size in (20, 30, 40)]
    assert await uploader.list_ids() == sorted(file.id for file in files)


async def test_another_key_sees_nothing_of_a_file(uploader: Uploader, as_other: Callable[[], None]) -> None:
    file = await uploader.upload()
    await uploader.break_off("mine", PICTURE[:10_500], num_kept_bytes=10_000)
    as_other()
    for call in (
        uploader.get(id=file.id),
        uploader.get(sha256=SHA256),
        uploader.download(id=file.id),
        uploader.call("DeleteFile", files_pb2.DeleteFileRequest(id=file.id)),
        uploader.service.generate(describe_red_circle(image_url=file.url, images=[])),
        uploader.service.generate(describe_red_circle(image_sha256=SHA256, images=[])),
    ):
        refusal = await refuse(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "FILE_NOT_UPLOADED")
    assert await uploader.list_ids() == []
    assert await uploader.num_kept("mine") == 0
    assert (await uploader.upload()).id != file.id


NAMED: dict[str, Callable[[files_pb2.File], dict[str, Any]]] = {
    "image_url": lambda file: {"image_url": file.url, "images": []},
    "image_sha256": lambda file: {"image_sha256": file.sha256.upper(), "images": []},
    "images.url": lambda file: {"images": [generation_pb2.Image(url=file.url)]},
    "images.sha256": lambda file: {"images": [generation_pb2.Image(sha256=file.sha256)]},
}


@pytest.mark.parametrize("by", NAMED)
async def test_a_request_names_an_uploaded_file_instead_of_its_bytes(uploader: Uploader, by: str) -> None:
    file = await uploader.upload()
    uploader.service.expect(red_circle_answer())
    response = await uploader.service.generate(describe_red_circle(**NAMED[by](file)))
    assert response.output == RED_CIRCLE


@pytest.mark.parametrize("before", ["http://localhost:8080/", "https://v3.fal.media/", "http://[::1]/cdn/"])
async def test_whoever_knows_the_public_link_of_a_file_may_ask_about_it(
    uploader: Uploader, as_other: Callable[[], None], before: str
) -> None:
    file = await uploader.upload(name="a circle / red?.bmp")
    owner = str(uploader.service.app.api_key).partition(".")[0]
    as_other()
    uploader.service.expect(red_circle_answer())
    request = describe_red_circle(image_url=before + make_public_path(owner, file.id, file.name), images=[])
    assert (await uploader.service.generate(request)).output == RED_CIRCLE


async def test_what_only_looks_like_a_public_link_is_fetched_as_any_url(uploader: Uploader) -> None:
    await uploader.upload()
    url = f"http://127.0.0.1/files/test/{'f' * 32}"
    refusal = await refuse(uploader.service.generate(describe_red_circle(image_url=url, images=[])))
    assert refusal.reason == "FILE_URL_FORBIDDEN"


async def test_a_file_is_kept_no_longer_than_was_asked_for(uploader: Uploader, library: Library) -> None:
    file = await uploader.upload(ttl={"seconds": 600, "nanos": 500_000_000})
    lifetime = file.expire_time.ToNanoseconds() - file.create_time.ToNanoseconds()
    assert lifetime / 1e9 == pytest.approx(600.5)
    let_pass(library, 601)
    assert (await refuse(uploader.get(id=file.id))).reason == "FILE_NOT_UPLOADED"


async def test_all_files_that_are_missing_are_told_at_once(uploader: Uploader) -> None:
    await uploader.upload()
    url = f"idefics2://files/{'f' * 32}"
    images = [generation_pb2.Image(sha256=sha256) for sha256 in (SHA256, NOWHERE, NOWHERE, "1" * 64)]
    images.append(generation_pb2.Image(url=url))
    refusal = await refuse(uploader.service.generate(describe_red_circle(images=images)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "FILE_NOT_UPLOADED")
    assert refusal.metadata == {
        "missing": f"{NOWHERE},{'1' * 64},{url}",
        "field": "images[1].sha256",
    }


async def test_names_of_any_length_are_refused_by_what_is_wrong_with_them(uploader: Uploader) -> None:
    long = "\U000e0001" * 20_000
    source = generation_pb2.Image(url=f"idefics2://files/{long}")
    submission = describe_red_circle(images=[source])
    for call, reason in (
        (uploader.get(id=long), "FILE_NOT_UPLOADED"),
        (uploader.service.generate(submission), "FILE_URL_INVALID"),
        (uploader.upload(content_type=long), "FILE_MISMATCH"),
        (uploader.upload(name=long), "VALUE_OUT_OF_RANGE"),
        (uploader.upload(upload_id=long), "VALUE_OUT_OF_RANGE"),
        (uploader.upload(sha256=long), "FILE_DIGEST_INVALID"),
    ):
        assert (await refuse(call)).reason == reason


async def test_an_uploaded_file_has_the_bounds_of_any_image(uploader: Uploader) -> None:
    await uploader.upload()
    request = describe_red_circle(image_sha256=SHA256, images=[], max_image_bytes=100)
    refusal = await refuse(uploader.service.generate(request))
    assert (refusal.reason, refusal.field) == ("FILE_TOO_LARGE", "image_sha256")


@pytest.mark.parametrize("fields", [{"image_sha256": "f00"}, {"images": [generation_pb2.Image(sha256="")]}])
async def test_what_is_no_sha256_is_refused(uploader: Uploader, fields: dict[str, Any]) -> None:
    refusal = await refuse(uploader.service.generate(describe_red_circle(**{"images": [], **fields})))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FILE_DIGEST_INVALID")
    assert "sha256" in refusal.field


async def test_a_submitted_request_outlives_the_file_it_was_taken_with(
    uploader: Uploader, library: Library
) -> None:
    stub: Any = requests_pb2_grpc.RequestServiceStub(uploader.service.channel)
    backend = uploader.service.app._given_backend
    assert isinstance(backend, FakeBackend)
    await backend.set_healthy(healthy=False)  # nothing is begun
    file = await uploader.upload()
    message = requests_pb2.SubmitRequest(
        request_id="r-1", input=describe_red_circle(image_sha256=SHA256, image_url=file.url, images=[])
    )
    taken = await stub.Submit(message, metadata=uploader.metadata)
    let_pass(library, DAY_SECONDS + GRACE_SECONDS + 1)
    await library.sweep()
    uploader.service.expect(red_circle_answer())
    again = await stub.Submit(message, metadata=uploader.metadata)  # as after a lost answer
    assert again.create_time == taken.create_time
    message.request_id = "r-2"
    assert (await refuse(stub.Submit(message, metadata=uploader.metadata))).reason == "FILE_NOT_UPLOADED"
    await backend.set_healthy(healthy=True)
    watched = stub.WatchRequest(
        requests_pb2.WatchRequestRequest(request_id="r-1"), metadata=uploader.metadata
    )
    events = [event async for event in watched]
    assert events[-1].finished.response.output == RED_CIRCLE


# What comes, what is announced, the code, the reason and the field.
INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED
MISSING = grpc.StatusCode.NOT_FOUND
REFUSED: dict[str, tuple[bytes, dict[str, Any], grpc.StatusCode, str, str]] = {
    "nothing": (b"", {}, INVALID, "VALUE_OUT_OF_RANGE", "start.size_bytes"),
    "nothing of what was announced": (b"", {"size_bytes": 9}, INVALID, "FILE_MISMATCH", "start.size_bytes"),
    "text": (b"I am no picture.", {}, INVALID, "FILE_NOT_AN_IMAGE", "chunk"),
    "too many bytes": (PICTURE * 3, {}, INVALID, "FILE_TOO_LARGE", "start.size_bytes"),
    "a size of 0": (PICTURE, {"size_bytes": 0}, INVALID, "VALUE_OUT_OF_RANGE", "start.size_bytes"),
    "a size below 0": (PICTURE, {"size_bytes": -1}, INVALID, "VALUE_OUT_OF_RANGE", "start.size_bytes"),
    "fewer bytes": (PICTURE[:-1], {"size_bytes": len(PICTURE)}, INVALID, "FILE_MISMATCH", "start.size_bytes"),
    "more bytes": (PICTURE, {"size_bytes": 10}, INVALID, "FILE_MISMATCH", "start.size_bytes"),
    "other bytes": (PICTURE, {"sha256": NOWHERE}, INVALID, "FILE_MISMATCH", "start.sha256"),
    "another type": (PICTURE, {"content_type": "image/png"}, INVALID, "FILE_MISMATCH", "start.content_type"),
    "no sha-256": (PICTURE, {"sha256": "f00"}, INVALID, "FILE_DIGEST_INVALID", "start.sha256"),
    "a long name": (PICTURE, {"name": "é" * 128}, INVALID, "VALUE_OUT_OF_RANGE", "start.name"),
    "no time at all": (PICTURE, {"ttl": {"seconds": 0}}, INVALID, "VALUE_OUT_OF_RANGE", "start.ttl"),
    "a time before now": (PICTURE, {"ttl": {"seconds": -9}}, INVALID, "VALUE_OUT_OF_RANGE", "start.ttl"),
    "a time of two signs": (
        PICTURE,
        {"ttl": {"seconds": 1, "nanos": -5}},
        INVALID,
        "VALUE_OUT_OF_RANGE",
        "start.ttl",
    ),
    "a name of two lines": (PICTURE, {"name": "a\nb"}, INVALID, "VALUE_OUT_OF_RANGE", "start.name"),
    "a long upload id": (PICTURE, {"upload_id": "x" * 129}, INVALID, "VALUE_OUT_OF_RANGE", "start.upload_id"),
    "an offset below 0": (
        PICTURE,
        {"upload_id": "x", "offset": -1},
        INVALID,
        "VALUE_OUT_OF_RANGE",
        "start.offset",
    ),
    "an offset below 0 of no upload": (
        PICTURE,
        {"offset": -1},
        INVALID,
        "VALUE_OUT_OF_RANGE",
        "start.offset",
    ),
    "an offset of no upload": (PICTURE, {"offset": 5}, INVALID, "VALUE_OUT_OF_RANGE", "start.upload_id"),
    "an unknown upload": (PICTURE, {"upload_id": "x", "offset": 5}, MISSING, "UPLOAD_NOT_FOUND", ""),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_upload_is_refused_by_name_and_leaves_nothing(
    uploader: Uploader, blobs: Callable[[], list[Path]], case: str
) -> None:
    data, start, code, reason, field = REFUSED[case]
    refusal = await refuse(uploader.upload(data, **start))
    assert (refusal.code, refusal.reason, refusal.field) == (code, reason, field)
    assert blobs() == []
    assert (await uploader.upload()).sha256 == SHA256


async def test_a_mismatch_names_what_was_announced_and_what_came(uploader: Uploader) -> None:
    refusal = await refuse(uploader.upload(sha256=NOWHERE))
    assert NOWHERE in refusal.message
    assert SHA256 in refusal.message
    assert refusal.metadata == {"field": "start.sha256", "announced": NOWHERE, "received": SHA256}


async def test_who_goes_on_with_an_upload_without_naming_it_is_told_that_an_offset_needs_one(
    uploader: Uploader,
) -> None:
    refusal = await refuse(uploader.upload(offset=5))
    assert refusal.message == "start.upload_id must be given with an offset, not ''"
    assert refusal.metadata == {"field": "start.upload_id", "bound": "given with an offset", "value": "''"}


@pytest.mark.parametrize("method", ["GetFile", "DeleteFile", "DownloadFile"])
async def test_who_names_no_file_is_told_so_and_not_that_one_is_missing(
    uploader: Uploader, method: str
) -> None:
    message = getattr(files_pb2, f"{method}Request")()
    call = getattr(uploader.stub, method)(message, metadata=uploader.metadata)
    refusal = await refuse(call.read() if method == "DownloadFile" else call)
    assert (refusal.code, refusal.reason) == (MISSING, "FILE_NOT_UPLOADED")
    assert refusal.message == "neither id nor sha256 was given"
    assert refusal.metadata == {}


async def test_a_chunk_above_1_mib_is_refused(uploader: Uploader) -> None:
    refusal = await refuse(uploader.upload(bytes(2**20 + 1), chunk_bytes=2**21, size_bytes=10))
    assert (refusal.reason, refusal.field) == ("VALUE_OUT_OF_RANGE", "chunk")


START = files_pb2.UploadRequest(start=files_pb2.UploadStart(size_bytes=90 * 10**6))
SMALL = files_pb2.UploadRequest(start=files_pb2.UploadStart(size_bytes=10_000))
CHUNK = files_pb2.UploadRequest(chunk=PICTURE[:1_000])


@pytest.mark.parametrize(
    "stream",
    [[], [CHUNK], [files_pb2.UploadRequest()], [SMALL, SMALL], [SMALL, CHUNK, files_pb2.UploadRequest()]],
    ids=["nothing", "no start", "an empty message", "two starts", "an empty message after a chunk"],
)
async def test_messages_out_of_order_are_refused(
    uploader: Uploader, stream: list[files_pb2.UploadRequest]
) -> None:
    refusal = await refuse(uploader.stub.Upload(iter(stream), metadata=uploader.metadata))
    assert refusal.reason == "REQUEST_MALFORMED"


async def test_bytes_that_are_no_message_are_refused_in_the_midst_of_an_upload(uploader: Uploader) -> None:
    channel: Any = uploader.service.channel  # the stubs want serializers, which these bytes need not
    send = channel.stream_unary("/idefics2.v1.FileService/Upload")
    stream = [SMALL.SerializeToString(), CHUNK.SerializeToString(), b"\xff"]
    assert (await refuse(send(iter(stream), metadata=uploader.metadata))).reason == "REQUEST_MALFORMED"
    bad_text = files_pb2.UploadRequest(start=files_pb2.UploadStart(name="xx")).SerializeToString()
    stream = [bad_text.replace(b"xx", b"\xff\xff")]
    refusal = await refuse(send(iter(stream), metadata=uploader.metadata))
    assert (refusal.reason, refusal.field) == ("TEXT_NOT_UNICODE", "start.name")


@pytest.mark.parametrize(
    ("method", "message", "reason", "field"),
    [
        ("GetFile", files_pb2.GetFileRequest(), "FILE_NOT_UPLOADED", ""),
        ("GetFile", files_pb2.GetFileRequest(id="../../api_key"), "FILE_NOT_UPLOADED", ""),
        ("GetFile", files_pb2.GetFileRequest(sha256="../.."), "FILE_DIGEST_INVALID", "sha256"),
        ("DeleteFile", files_pb2.DeleteFileRequest(), "FILE_NOT_UPLOADED", ""),
        ("GetUpload", files_pb2.GetUploadRequest(), "VALUE_OUT_OF_RANGE", "upload_id"),
        ("GetUpload", files_pb2.GetUploadRequest(upload_id="../.."), "UPLOAD_NOT_FOUND", ""),
        ("ListFiles", files_pb2.ListFilesRequest(page_size=1_001), "VALUE_OUT_OF_RANGE", "page_size"),
        ("ListFiles", files_pb2.ListFilesRequest(page_size=-1), "VALUE_OUT_OF_RANGE", "page_size"),
        ("ListFiles", files_pb2.ListFilesRequest(page_token="x"), "PAGE_TOKEN_INVALID", "page_token"),
        ("ListFiles", files_pb2.ListFilesRequest(page_token="0" * 32), "PAGE_TOKEN_INVALID", "page_token"),
    ],
)
async def test_a_bad_call_is_refused_by_name(
    uploader: Uploader, method: str, message: Any, reason: str, field: str
) -> None:
    refusal = await refuse(uploader.call(method, message))
    assert (refusal.reason, refusal.field) == (reason, field)


@pytest.mark.parametrize("wanted", [{"offset": -1}, {"offset": len(PICTURE) + 1}, {"max_bytes": 0}])
async def test_a_range_outside_the_file_is_refused(uploader: Uploader, wanted: dict[str, int]) -> None:
    await uploader.upload()
    refusal = await refuse(uploader.download(sha256=SHA256, **wanted))
    assert (refusal.reason, refusal.field) == ("VALUE_OUT_OF_RANGE", next(iter(wanted)))


async def test_a_key_may_have_so_many_bytes_and_no_more(uploader: Uploader) -> None:
    first = await uploader.upload()
    for size in (151, 152):
        await uploader.upload(encode(draw_red_circle((200, size)), "BMP"))
    data = encode(draw_red_circle((200, 153)), "BMP")
    refusal = await refuse(uploader.upload(data))
    assert (refusal.code, refusal.reason) == (EXHAUSTED, "FILE_QUOTA_EXCEEDED")
    assert "300000" in refusal.message
    assert refusal.retry_seconds == 60
    await uploader.call("DeleteFile", files_pb2.DeleteFileRequest(id=first.id))
    await uploader.upload(data)


async def test_an_upload_of_90_mb_takes_less_than_32_mb_of_memory(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # pieces are as large as they are
    chunk = b"BM" + bytes(10**6 - 2)
    app, script = App(make_settings(), FakeBackend(Script())), Script()
    async with run_harness(app, script, is_real=False) as harness:
        uploader = Uploader(harness)
        stream = (files_pb2.UploadRequest(chunk=chunk) for _ in range(90))
        tracemalloc.start()
        try:
            file = await uploader.stub.Upload(chain((START,), stream), metadata=uploader.metadata)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert file.size_bytes == 90 * 10**6
    assert peak < 32 * 10**6  # the caller's included


async def test_what_is_held_of_an_upload_counts_for_its_key(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # so that all of the picture may be held
    least = {
        "grpc__max_receive_bytes": 1_000,
        "http__max_receive_bytes": 1_000,
        "limits__max_images": 1,
        "limits__max_image_bytes": 50_000,
    }
    app, script = App(make_settings(gate__max_held_bytes=150_000, **least), FakeBackend(Script())), Script()
    async with run_harness(app, script, is_real=False) as harness:
        uploader = Uploader(harness)
        waiting = uploader.stub.Upload(metadata=uploader.metadata)
        first, *others = messages(PICTURE)
        await waiting.write(first)
        async for _ in patience():
            if app.metrics.registry.get_sample_value("idefics2_held_bytes") == len(PICTURE):
                break
        refusal = await refuse(uploader.upload())
        assert (refusal.code, refusal.reason) == (EXHAUSTED, "MEMORY_FULL")
        for message in others:
            await waiting.write(message)
        await waiting.done_writing()
        assert (await waiting).size_bytes == len(PICTURE)
        assert (await uploader.upload(PICTURE + b"more")).size_bytes == len(PICTURE) + 4
        assert app.metrics.registry.get_sample_value("idefics2_held_bytes") == 0


async def test_a_disk_that_is_full_is_said_and_what_is_kept_can_be_gone_on_with(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        refusal = await refuse(uploader.upload(upload_id="mine"))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "FILE_STORE_UNAVAILABLE")
        assert "is full" in refusal.message
        assert refusal.retry_seconds is not None
    assert await uploader.num_kept("mine") == 0
    assert await uploader.list_ids() == []
    assert (await uploader.upload(upload_id="mine")).sha256 == SHA256


async def test_a_key_may_have_so_many_files_and_no_more(uploader: Uploader) -> None:
    for size in (20, 21, 22, 23):
        await uploader.upload(encode(draw_red_circle((size, size))))
    refusal = await refuse(uploader.upload(red_circle()))
    assert (refusal.code, refusal.reason) == (EXHAUSTED, "FILE_QUOTA_EXCEEDED")
    assert "at most 4" in refusal.message


async def test_the_quota_of_one_key_is_not_that_of_another(
    uploader: Uploader, as_other: Callable[[], None]
) -> None:
    for size in (150, 151, 152):
        await uploader.upload(encode(draw_red_circle((200, size)), "BMP"))
    as_other()
    await uploader.upload()

"""What every blob store promises; see `blobs/interface.py`."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING

import pytest
from idefics2_service.errors import FileStoreUnavailable
from idefics2_service.settings import FileSettings
from idefics2_service.uploads import pieces
from idefics2_service.uploads.library import GRACE_SECONDS, Library
from idefics2_service.uploads.pieces import PIECE_BYTES, Intake
from idefics2_service.uploads.quotas import FileQuotas
from idefics2_service.uploads.records import UploadStart
from idefics2_service.uploads.uploads import Uploads
from pictures import draw_red_circle, encode
from turns import let_others_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2_service.blobs.interface import BlobStore, Data

PATIENCE_SECONDS = 20
NUM_PIECES = 6
NAME = "anna/files/3f/3f09/0"
CLOCK_SKEW_SECONDS = 5


@pytest.mark.parametrize("data", [b"", b"\x00\xff", bytes(range(256)) * 20_000], ids=["empty", "two", "5 MB"])
async def test_what_was_put_is_got(blobs: BlobStore, data: bytes) -> None:
    await blobs.put(NAME, data)
    assert await blobs.get(NAME) == data


async def test_what_comes_in_several_parts_is_put_together(blobs: BlobStore) -> None:
    await blobs.put(NAME, b"one", b"", b"two" * 500_000, b"three")
    assert await blobs.get(NAME) == b"one" + b"two" * 500_000 + b"three"


async def test_a_blob_that_follows_another_is_not_there_before_it(blobs: BlobStore) -> None:
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    second = asyncio.create_task(blobs.put_next("anna/files/3f/3f09/2", b"two", b"2", after=first))
    third = asyncio.create_task(blobs.put_next("anna/files/3f/3f09/3", b"three", after=second))
    for number in range(5):  # so long, each of both could have been put
        await blobs.put(f"anna/files/3f/3f10/{number}", b"other")
    assert await blobs.list_blobs("anna/files/3f/3f09") == []
    await blobs.put_next(NAME, b"one", after=None)
    first.set_result(None)
    await third
    await blobs.settle("anna/files/3f/3f09")
    listed = await blobs.list_blobs("anna/files/3f/3f09")
    assert [await blobs.get(blob.name) for blob in listed] == [b"one", b"two2", b"three"]


async def test_what_follows_a_blob_that_was_not_kept_is_not_either(blobs: BlobStore) -> None:
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    second = asyncio.create_task(blobs.put_next("anna/files/3f/3f09/2", b"two", after=first))
    third = asyncio.create_task(blobs.put_next("anna/files/3f/3f09/3", b"three", after=second))
    first.set_exception(FileStoreUnavailable("the disk of uploaded files is full"))
    for task in (second, third):
        with pytest.raises(FileStoreUnavailable, match="is full"):
            await task
    assert await blobs.list_blobs("anna") == []


async def test_a_folder_that_is_not_there_is_settled(blobs: BlobStore) -> None:
    await blobs.settle("nobody/files/3f/3f09")


async def test_what_was_not_put_is_nothing(blobs: BlobStore) -> None:
    assert await blobs.get(NAME) is None
    await blobs.put(NAME, b"one")
    assert await blobs.get(NAME + "0") is None
    assert await blobs.get("anna/files/3f/3f09") is None  # a folder is no blob


async def test_a_blob_is_replaced_as_a_whole(blobs: BlobStore) -> None:
    old, new = b"old" * 100_000, b"new" * 50_000
    await blobs.put(NAME, old)
    seen, _ = await asyncio.gather(
        asyncio.gather(*(blobs.get(NAME) for _ in range(20))), blobs.put(NAME, new)
    )
    assert set(seen) <= {old, new}
    assert await blobs.get(NAME) == new


async def test_what_is_put_as_new_takes_no_place_of_what_is_there(blobs: BlobStore) -> None:
    assert await blobs.put_new(NAME, b"one", b"1")
    assert not await blobs.put_new(NAME, b"two")
    assert await blobs.get(NAME) == b"one1"
    await blobs.put(NAME, b"three")
    assert not await blobs.put_new(NAME, b"four")
    assert [blob.size_bytes for blob in await blobs.list_blobs("anna")] == [len(b"three")]
    await blobs.delete(NAME)
    assert await blobs.put_new(NAME, b"five")
    assert await blobs.get(NAME) == b"five"


async def test_of_many_who_put_something_new_at_the_same_time_one_is_told_that_it_is_kept(
    blobs: BlobStore,
) -> None:
    for number in range(5):
        name = f"anna/files/3f/{number}/record"
        are_kept = await asyncio.gather(*(blobs.put_new(name, b"%d" % which) for which in range(8)))
        assert sorted(are_kept) == [False] * 7 + [True]
        assert await blobs.get(name) == b"%d" % are_kept.index(True)


async def test_what_was_deleted_is_nothing_and_may_be_put_again(blobs: BlobStore) -> None:
    await blobs.put(NAME, b"one")
    await blobs.put("anna/files/3f/3f09/1", b"two")
    await blobs.delete(NAME, "anna/files/aa/none")
    await blobs.delete(NAME)
    await blobs.delete()
    assert await blobs.get(NAME) is None
    assert await blobs.get("anna/files/3f/3f09/1") == b"two"
    await blobs.put(NAME, b"again")
    assert await blobs.get(NAME) == b"again"


async def test_a_folder_is_listed_by_name_with_sizes_and_times(blobs: BlobStore) -> None:
    for number in (2, 10, 1):
        await blobs.put(f"anna/files/3f/{number:03d}/record", bytes(number))
    await blobs.put("anna/files2/3f/001/record", b"other")
    await blobs.put("bert/files/3f/001/record", b"other")
    listed = await blobs.list_blobs("anna/files")
    assert [(blob.name, blob.size_bytes) for blob in listed] == [
        (f"anna/files/3f/{number:03d}/record", number) for number in (1, 2, 10)
    ]
    assert all(abs(blob.modified_at - time.time()) < CLOCK_SKEW_SECONDS for blob in listed)
    assert await blobs.list_blobs("nobody/files") == []
    assert await blobs.list_folders() == ["anna", "bert"]


async def test_what_was_deleted_is_in_no_list(blobs: BlobStore) -> None:
    await blobs.put(NAME, b"one")
    await blobs.delete(NAME)
    assert await blobs.list_blobs("anna/files") == []
    assert set(await blobs.list_folders()) <= {"anna"}


async def test_a_list_has_more_than_a_page(blobs: BlobStore) -> None:
    names = [f"anna/files/00/{number:04d}" for number in range(1_100)]
    for start in range(0, len(names), 100):
        await asyncio.gather(*(blobs.put(name, b"x") for name in names[start : start + 100]))
    assert [blob.name for blob in await blobs.list_blobs("anna")] == names


async def test_many_put_and_delete_in_one_folder_at_the_same_time(blobs: BlobStore) -> None:
    async def put_and_delete(number: int) -> None:
        name = f"anna/files/3f/3f09/{number}"
        for _ in range(5):
            await blobs.put(name, b"x")
            await blobs.delete(name)
            assert await blobs.put_new(name, b"x")
            await blobs.delete(name)

    await asyncio.gather(*(put_and_delete(number) for number in range(8)))
    assert await blobs.list_blobs("anna") == []


async def test_so_many_pieces_of_an_upload_are_written_at_a_time_and_no_more(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_next, are_many, may_end = blobs.put_next, asyncio.Event(), asyncio.Event()
    num_writing = most_writing = 0

    async def watch(name: str, *data: Data, after: asyncio.Future[None] | None) -> None:
        nonlocal num_writing, most_writing
        num_writing += 1
        most_writing = max(most_writing, num_writing)
        if num_writing == blobs.max_writing:
            are_many.set()
        await may_end.wait()
        await put_next(name, *data, after=after)
        num_writing -= 1

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(NUM_PIECES):
            yield b"piece"

    monkeypatch.setattr(blobs, "put_next", watch)
    monkeypatch.setattr(pieces, "PIECE_BYTES", len(b"piece"))
    intake = Intake(blobs, "anna/files/3f/3f09/{:08d}".format, hashlib.sha256())
    taking = asyncio.create_task(intake.take(chunks()))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await are_many.wait()
    await let_others_run()
    may_end.set()
    await taking
    assert most_writing == blobs.max_writing
    assert len(await blobs.list_blobs("anna")) == NUM_PIECES


async def test_a_file_is_uploaded_found_and_forgotten(blobs: BlobStore) -> None:
    settings = FileSettings()
    library = Library(blobs, settings)
    uploads = Uploads(blobs, library, settings, FileQuotas(blobs, settings))
    data = encode(draw_red_circle((2_000, 1_500)), "BMP")
    assert len(data) > 2 * PIECE_BYTES

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 2**20):
            yield data[start : start + 2**20]

    sha256 = hashlib.sha256(data).hexdigest()
    file = await uploads.receive("anna", UploadStart(len(data), sha256=sha256), chunks())
    assert await library.find_content("anna", sha256) == await library.find("anna", file.id) == file
    assert await library.read(file) == data
    assert await library.list_page("anna", 10) == ([file], None)
    await library.sweep()
    library.clock = lambda: time.time() + settings.keep_seconds + GRACE_SECONDS + CLOCK_SKEW_SECONDS
    await library.sweep()
    assert await blobs.list_blobs("anna") == []


@pytest.mark.parametrize(("offset", "num_bytes"), [(0, 1), (3, 4), (0, 10), (0, 1_000), (9, 1_000), (9, 1)])
async def test_a_part_of_a_blob_is_got(blobs: BlobStore, offset: int, num_bytes: int) -> None:
    data = b"0123456789"
    await blobs.put(NAME, data)
    assert await blobs.get_part(NAME, offset, num_bytes) == data[offset:][:num_bytes]
    assert await blobs.get_part(NAME + "0", offset, num_bytes) is None
